"""How the suite shares a machine: several tests at once, benchmarks alone and last; what each part took is printed.

A bed has a machine of its own and mostly waits, so there are more workers than processors. A single file runs without
workers: they take longer to start than it takes.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

import pytest

WORKERS_A_CPU: Final = 2
ALONE: Final = "tests/bench/"
FIRST: Final = ("tests/bed_tests/", "tests/qa/")
"""What takes longest a test, so that no worker begins it when all others are done."""


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    if all(".py" in argument for argument in config.args):
        return 0
    return WORKERS_A_CPU * len(os.sched_getaffinity(0)) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    return 0 if item.nodeid.startswith(FIRST) else 2 if item.nodeid.startswith(ALONE) else 1


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A benchmark waits until no worker runs another test, and holds up those that come after it.

    The lock is on this file: runs of other checkouts are not held up, and nothing is left behind.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return (yield)
    with Path(__file__).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX if item.nodeid.startswith(ALONE) else fcntl.LOCK_SH)
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    parts = list(_parts(terminalreporter))
    if len(parts) < 2:
        return
    terminalreporter.section("parts (seconds of all workers together)")
    for line in parts:
        terminalreporter.write_line(line)


def _parts(reporter: pytest.TerminalReporter) -> Iterable[str]:
    seconds: dict[str, float] = {}
    tests: dict[str, set[str]] = {}
    for reports in reporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                part = "/".join(report.nodeid.split("/")[:2])
                seconds[part] = seconds.get(part, 0.0) + report.duration
                tests.setdefault(part, set()).add(report.nodeid)
    for part, taken in sorted(seconds.items()):
        yield f"{taken:7.1f} s  {len(tests[part]):5} tests  {part}"
