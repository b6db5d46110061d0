"""The pytest marker `bed`: each such test runs in a fresh bed of its own, and its reports are replayed here.

`@pytest.mark.bed(gpu={…}, timeout_s=…)`: gpu is merged into play/defaults.json, timeout_s (default 600) ends the bed.
Where no bed can be entered these tests are skipped with the reason. With CI=true nothing is skipped: what would be,
one of these tests or any other, fails with the reason.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bed.forkserver import OUTPUT, REPORTS, ForkServer

ENTER = Path(__file__).resolve().parent / "enter"
DEFAULT_TIMEOUT_S = 600.0
END_TIMEOUT_S = 15.0
BOOT_TIMEOUT_S = 180.0
OUTPUT_CHARACTERS = 20_000
AT_LIMIT = "at-limit"
"""File in the shared folder: what a test that ran past its limit was doing then."""


def in_bed() -> bool:
    return os.environ.get("GPUMOD_BED") == "1"


@functools.cache
def why_no_bed() -> str | None:
    """Builds what beds need, once for all beds of this process; the reason why none can be entered here, or None."""
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([str(ENTER), "--prepare"], env=environment, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
    os.environ["GPUMOD_BED_PREPARED"] = done.stdout
    return None


def require_bed() -> None:
    """For a test that enters beds itself: skips it where none can be entered."""
    reason = why_no_bed()
    if reason is not None:
        pytest.skip(f"no bed can be entered here: {reason}")


def in_ci() -> bool:
    return os.environ.get("CI") == "true"


def fail_what_was_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI, a test that is not run has not passed."""
    if not in_ci() or not report.skipped or hasattr(report, "wasxfail"):
        return
    skipped: Any = report.longrepr
    reason = skipped[2] if isinstance(skipped, tuple) else str(skipped)
    report.outcome = "failed"
    report.longrepr = f"CI must not skip: {reason.removeprefix('Skipped: ')}"


# --- outside

FORK_SERVER = pytest.StashKey[ForkServer]()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Before any test has run, so that beds start from nothing but imports."""
    if any(item.get_closest_marker("bed") for item in session.items) and not session.config.option.collectonly:
        session.stash[FORK_SERVER] = ForkServer(session)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if FORK_SERVER in session.stash:
        session.stash[FORK_SERVER].close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    marker = item.get_closest_marker("bed")
    if in_bed() or marker is None:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in reports_of(item, **marker.kwargs):
        item.ihook.pytest_runtest_logreport(report=report)
    # Wider fixtures that the test before this one left standing for others would never be torn down otherwise.
    call = pytest.CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(nextitem), when="teardown")
    if call.excinfo:
        item.ihook.pytest_runtest_logreport(report=pytest.TestReport.from_item_and_call(item, call))
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def reports_of(
    item: pytest.Item, gpu: dict[str, Any] | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Iterator[pytest.TestReport]:
    reason = why_no_bed()
    if reason is not None:
        yield no_bed(item, reason)
        return
    folder = Path(tempfile.mkdtemp(prefix="gpumod-bed-test."))
    try:
        yield from reports_from_bed(item, folder, gpu or {}, timeout_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def reports_from_bed(
    item: pytest.Item, folder: Path, gpu: dict[str, Any], timeout_s: float
) -> Iterator[pytest.TestReport]:
    config_file, share = folder / "gpu.json", folder / "share"
    config_file.write_text(json.dumps(gpu))
    share.mkdir()
    bed = [str(ENTER), "--gpu", str(config_file), "--share", str(share), "--env", f"GPUMOD_BED_LIMIT_S={timeout_s}"]
    with (share / OUTPUT).open("ab") as output:
        process = subprocess.Popen(
            [*bed, "--", "sh", "-c", "echo ready; exec cat"],
            env={**os.environ, "PYTHON": sys.executable},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
        )
    status, problem = run_in_bed(item, process, share, timeout_s)
    reports = list(read_reports(item, share / REPORTS))
    at_limit = share / AT_LIMIT
    if at_limit.exists():
        problem = f"the test did not end within {timeout_s:g} s\n{at_limit.read_text(errors='replace')}"
    elif problem is None and not any(report.when == "teardown" for report in reports):
        problem = f"the bed ended with exit code {status} before the test did"
    elif problem is None and status != int(any(report.failed for report in reports)):
        problem = f"the bed ended with exit code {status}"
    yield from reports
    if problem is not None:
        yield made_up(item, "failed", f"{problem}\n{(share / OUTPUT).read_text(errors='replace')[-OUTPUT_CHARACTERS:]}")


def run_in_bed(
    item: pytest.Item, process: subprocess.Popen[bytes], share: Path, timeout_s: float
) -> tuple[int | None, str | None]:
    """The exit status of the test's process, and what was wrong with the bed, or None. The bed ends with it."""
    server = item.session.stash[FORK_SERVER]
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if not select.select([process.stdout], [], [], BOOT_TIMEOUT_S)[0]:
            return None, f"the bed was not ready within {BOOT_TIMEOUT_S:g} s"
        if process.stdout.readline() != b"ready\n":
            return process.wait(END_TIMEOUT_S), f"the bed ended with exit code {process.wait(END_TIMEOUT_S)}"
        server.run(item.nodeid, process, share)
        status = server.wait(timeout_s + END_TIMEOUT_S)
        if status is None:
            end(process)
            return server.wait(END_TIMEOUT_S), f"the bed did not end within {timeout_s:g} s"
        process.stdin.close()
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return status, f"the bed was not left within {END_TIMEOUT_S:g} s"
    finally:
        if process.poll() is None:
            end(process)
        process.stdout.close()
    return status, None


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def read_reports(item: pytest.Item, path: Path) -> Iterator[pytest.TestReport]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            data = json.loads(line)
        except ValueError:
            return  # the bed was killed in the middle of this line
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
        if isinstance(report, pytest.TestReport):
            reason: Any = report.longrepr
            if isinstance(reason, list):
                report.longrepr = (
                    reason[0],
                    reason[1],
                    reason[2],
                )  # JSON knows no tuples, and pytest insists on one for a skip
            yield report


def no_bed(item: pytest.Item, reason: str) -> pytest.TestReport:
    report = made_up(item, "skipped", f"no bed can be entered here: {reason}")
    fail_what_was_skipped(report)
    return report


def made_up(item: pytest.Item, outcome: Any, text: str) -> pytest.TestReport:
    path, line, _ = item.location
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords=dict.fromkeys(item.keywords, 1),
        outcome=outcome,
        longrepr=(path, (line or 0) + 1, text) if outcome == "skipped" else text,
        when="setup" if outcome == "skipped" else "call",
    )


# --- inside


def watch_limit(path: Path, limit_s: float) -> None:
    """Ends this pytest after `limit_s`, leaving at `path` the stacks of its threads and the journal."""

    def give_up() -> None:
        with path.open("w") as file:
            faulthandler.dump_traceback(file)
            file.write(f"\nJournal of the bed:\n{journal_tail()}\nPlayed GPU:\n{gpu_record()}\n")
        os._exit(124)

    timer = threading.Timer(limit_s, give_up)
    timer.daemon = True
    timer.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    fail_what_was_skipped(report)
    if in_bed() and report.failed and item.get_closest_marker("bed"):
        report.sections += [("Journal of the bed", journal_tail()), ("Played GPU", gpu_record())]
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A file can be skipped as a whole."""
    report = yield
    fail_what_was_skipped(report)
    return report


def journal_tail() -> str:
    command = ["journalctl", "--user", "--no-pager", "--output=short-precise", "--lines=150"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def gpu_record() -> str:
    folder = Path(os.environ["GPUMOD_BED_RUN"])
    parts = [folder / "stats.json", folder / "config.json", folder / "timeline.jsonl"]
    return "\n".join("\n".join(part.read_text().splitlines()[-20:]) for part in parts if part.exists())
