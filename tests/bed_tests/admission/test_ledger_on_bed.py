"""The door with real processes: units that ask in their ExecCondition, real kills, and the played card as judge."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bed.host import (
    HOME,
    cgroup_pids,
    gpu,
    journal,
    kill_cgroup,
    run,
    systemctl,
    unit_properties,
    wait_until,
)

UNITS = ("one", "two", "vllm-embedding", "devstral-small-2", "glm-code", "nemotron-3-nano")
BIG = """
id: {name}
name: {name}
driver: vllm
port: {port}
vram_mb: 14800
model_id: test/{name}
startup_timeout: 30
unit_vars:
  gpu_mem_util: 0.5
"""
"""Two of them do not fit on one card."""
ENGINES = {"vllm": {"models": {"test/one": 13000, "test/two": 13000}}}


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Units that ask before they start; and whatever a test does, the card never holds more than it has."""
    if request.node.get_closest_marker("bed") is None or os.environ.get("GPUMOD_BED") != "1":
        yield
        return
    presets = HOME / ".config/gpumod/presets"
    presets.mkdir(parents=True)
    for name, port in (("one", 9101), ("two", 9102)):
        (presets / f"{name}.yaml").write_text(BIG.format(name=name, port=port))
    (presets / "mode-one.yaml").write_text("id: mode-one\nname: One\nservices: [one]\n")
    (presets / "mode-two.yaml").write_text("id: mode-two\nname: Two\nservices: [two]\n")
    run("gpumod", "template", "install", "--yes", check=True)
    gpumod = shutil.which("gpumod")
    for unit in UNITS:
        text = (HOME / f".config/systemd/user/{unit}.service").read_text()
        if "ExecCondition=" not in text:
            folder = HOME / f".config/systemd/user/{unit}.service.d"
            folder.mkdir()
            (folder / "door.conf").write_text(f"[Service]\nExecCondition={gpumod} preflight --unit %n\n")
    systemctl("daemon-reload")
    yield
    gpu().assert_never_overcommitted()


def ledger() -> dict[str, Any]:
    """What is promised now, as it lies on disk."""
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod/ledger.json"
    state: dict[str, Any] = json.loads(path.read_text())["state"]
    return state


def settled() -> list[dict[str, Any]]:
    """The commitments after somebody has looked: a dry run settles the ledger."""
    run("gpumod", "mode", "switch", "blank", "--dry-run", check=True)
    commitments: list[dict[str, Any]] = ledger()["commitments"]
    return commitments


def active(name: str) -> str:
    return unit_properties(f"{name}.service", "ActiveState")["ActiveState"]


def sub(name: str) -> str:
    return unit_properties(f"{name}.service", "SubState")["SubState"]


def up() -> list[str]:
    return [name for name in UNITS if active(name) not in ("inactive", "failed") or cgroup_pids(f"{name}.service")]


def blank() -> None:
    """All is stopped, and nothing is left: no unit, no commitment, no memory."""
    run("gpumod", "mode", "switch", "blank", check=True)
    assert up() == []
    assert settled() == []
    wait_until(lambda: gpu().used_mib() < 100, what="all memory is back")


def start_at_once(*names: str) -> None:
    """Each by a process of its own, in the same millisecond."""
    barrier = threading.Barrier(len(names))

    def begin(name: str) -> None:
        barrier.wait()
        run("systemctl", "--user", "start", f"{name}.service")

    threads = [threading.Thread(target=begin, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def refusals(name: str) -> list[str]:
    return [line for line in journal(f"{name}.service") if "gpumod: refused" in line]


@pytest.mark.long(share=6, whole=20, of="starts of two at once")
@pytest.mark.bed(gpu={**ENGINES, "release_s": 0.2})
def test_of_two_started_in_the_same_millisecond_exactly_one_wins(repetitions: int) -> None:
    for _ in range(repetitions):
        start_at_once("one", "two")
        states = {name: active(name) for name in ("one", "two")}
        assert sorted(states.values()) == ["active", "inactive"], f"{states}\n{refusals('one')}{refusals('two')}"
        loser = next(name for name, state in states.items() if state == "inactive")
        assert "insufficient VRAM" in refusals(loser)[-1]
        assert "margin" in refusals(loser)[-1]
        systemctl("stop", "one.service", "two.service")
        systemctl("reset-failed")
        wait_until(lambda: gpu().used_mib() < 100, what="all memory is back")
    assert settled() == []


@pytest.mark.long(share=2, whole=4, of="starts while a switch runs")
@pytest.mark.bed(gpu={**ENGINES, "release_s": 0.5})
def test_a_start_by_hand_while_a_switch_runs_is_refused_and_the_switch_goes_on(repetitions: int) -> None:
    for delay_s in (0.3, 1.1, 0.7, 1.5)[:repetitions]:
        run("gpumod", "mode", "switch", "mode-one", check=True)
        switch = subprocess.Popen(
            ["gpumod", "mode", "switch", "mode-two"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        time.sleep(delay_s)
        run("systemctl", "--user", "start", "glm-code.service")
        run("systemctl", "--user", "start", "devstral-small-2.service")
        out, _ = switch.communicate(timeout=60)
        # Whoever was first has it; the other is refused, and never both.
        together = "devstral-small-2" in up() and "two" in up()
        assert not together, out
        if switch.returncode == 0:
            assert active("two") == "active"
        else:
            assert switch.returncode in (1, 3), out
            assert b"insufficient VRAM" in out or b"refused" in out, out
        blank()
        systemctl("reset-failed")


@pytest.mark.bed(gpu={**ENGINES, "release_s": 3.0})
def test_an_automatic_restart_waits_for_its_own_last_invocations_memory() -> None:
    systemctl("start", "one.service")
    wait_until(lambda: gpu().used_mib() > 12000, what="it holds its memory")
    before = unit_properties("one.service", "InvocationID")["InvocationID"]
    gpu().config(release_s=9.0)
    kill_cgroup("one.service")
    wait_until(lambda: sub("one") == "condition", what="systemd starts it again")
    assert gpu().used_mib() > 12000, "its last memory is still away, or this proves nothing"
    wait_until(lambda: sub("one") == "running", 30, what="it runs again")
    wait_until(lambda: gpu().used_mib() > 12000, what="it holds its memory")
    assert unit_properties("one.service", "InvocationID")["InvocationID"] != before
    assert unit_properties("one.service", "NRestarts")["NRestarts"] == "1"
    assert refusals("one") == []
    gpu().config(release_s=0.5)
    blank()


@pytest.mark.long(share=10, whole=30, of="kills of a switch")
@pytest.mark.bed(gpu={**ENGINES, "release_s": 0.2})
def test_a_switch_killed_at_any_moment_leaves_no_promise_behind(repetitions: int) -> None:
    chance = random.Random(3)
    for _ in range(repetitions):
        target = chance.choice(("mode-one", "mode-two", "rag"))
        switch = subprocess.Popen(
            ["gpumod", "mode", "switch", target], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(chance.uniform(0.1, 1.6))
        switch.send_signal(signal.SIGKILL)
        switch.wait()
        # At once, while what it began may be under way: whoever comes is judged by what there is.
        run("systemctl", "--user", "start", f"{chance.choice(('one', 'two'))}.service")
        systemctl("reset-failed")
        if chance.random() < 0.4:
            blank()
    blank()
    start_at_once("one")
    assert active("one") == "active", refusals("one")
    blank()


@pytest.mark.long(share=5, whole=15, of="kills of a check")
@pytest.mark.bed(gpu={**ENGINES, "release_s": 0.2})
def test_a_killed_preflight_is_no_admission_and_leaves_nothing(repetitions: int) -> None:
    chance = random.Random(4)
    killed = 0
    # Where there is no ledger yet, whoever is asking counts as granted.
    assert settled() == []
    for _ in range(repetitions):
        started = subprocess.Popen(["systemctl", "--user", "start", "one.service"], stderr=subprocess.DEVNULL)
        # On a busy machine its asking can be over between two looks: then it runs already, and nothing is killed.
        wait_until(lambda: sub("one") in ("condition", "running"), what="it asks", interval_s=0.001)
        time.sleep(chance.uniform(0, 0.4))
        if sub("one") == "condition":
            systemctl("kill", "--signal=KILL", "one.service", check=False)
        started.wait(60)
        killed += active("one") != "active"
        # It would be tried again, and holds what it was granted until then.
        systemctl("stop", "one.service")
        assert settled() == []
        systemctl("reset-failed")
        wait_until(lambda: gpu().used_mib() < 100, what="all memory is back")
    assert killed, "none was killed before it had answered"
    assert settled() == []


@pytest.mark.bed(gpu={**ENGINES, "release_s": 0.2})
@pytest.mark.parametrize("restarts", [True, False])
def test_a_start_whose_check_is_killed_is_told_as_failed_not_as_refused(restarts: bool) -> None:
    if not restarts:
        folder = HOME / ".config/systemd/user/one.service.d"
        folder.mkdir(exist_ok=True)
        (folder / "restart.conf").write_text("[Service]\nRestart=no\n")
        systemctl("daemon-reload")
    assert settled() == []

    def is_held() -> bool:
        """Stopped as soon as it is seen: it may not answer before it is killed, however busy the machine is."""
        pids = cgroup_pids("one.service") if sub("one") == "condition" else []
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        if pids and sub("one") == "condition":
            return True
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return False

    for _ in range(10):
        start = subprocess.Popen(["gpumod", "service", "start", "one", "--json"], stdout=subprocess.PIPE, text=True)
        while not is_held() and start.poll() is None:
            time.sleep(0.001)
        if start.poll() is None:
            break
        # It had asked and been answered between two looks.
        start.communicate()
        blank()
    systemctl("kill", "--signal=KILL", "one.service")
    out, _ = start.communicate(timeout=60)
    told = json.loads(out)
    assert (start.returncode, told["outcome"]) == (1, "failed"), out
    assert "signal, before its server ran" in told["errors"][0]["message"]
    assert settled() == []
    if not restarts:
        assert active("one") == "failed"
        assert "failed (signal)" in run("gpumod", "status", check=True).stdout
        run("gpumod", "service", "reset-failed", "one", check=True)
    started = run("gpumod", "service", "start", "one")
    assert started.returncode == 0, started.stdout + started.stderr
    blank()


@pytest.mark.bed(gpu=ENGINES)
def test_what_is_unknown_is_refused_and_the_journal_says_why() -> None:
    def refused(name: str, *said: str) -> None:
        run("systemctl", "--user", "start", f"{name}.service")
        assert active(name) == "inactive"
        line = refusals(name)[-1]
        for words in said:
            assert words in line, line
        assert up() == []

    preset = HOME / ".config/gpumod/presets/one.yaml"
    text = preset.read_text()
    preset.write_text("id: one\nname: [broken\n")
    refused("one", "preset of one is broken or gone")
    preset.unlink()
    refused("one", "preset of one is broken or gone")
    preset.write_text(text)

    gpu().config(faults=[{"function": "Init", "code": "LIB_RM_VERSION_MISMATCH"}])
    refused("one", "the NVIDIA driver was updated", "reboot or reload the module")
    gpu().config(faults=[{"function": "DeviceGetMemoryInfo", "code": "GPU_IS_LOST"}])
    refused("one", "GPU 0")
    gpu().config(faults=[])

    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod"
    (path / "ledger.json").chmod(0)
    refused("one", "ledger.json")
    (path / "ledger.json").chmod(0o600)
    priorities = journal("one.service", "--priority=err")
    assert sum("gpumod: refused" in line for line in priorities) == 5, priorities
    systemctl("start", "one.service")
    assert active("one") == "active"
    blank()


@pytest.mark.bed(gpu={**ENGINES, "release_s": 0.3})
def test_a_damaged_ledger_is_rebuilt_from_what_runs() -> None:
    systemctl("start", "one.service")
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod/ledger.json"
    for garbage in (b"\xff\x00garbage", b"", path.read_bytes()[:40], b'{"version": 99, "state": {}}'):
        path.write_bytes(garbage)
        # Before its memory could be seen, too: at its full need.
        run("systemctl", "--user", "start", "two.service")
        assert active("two") == "inactive"
        assert path.with_suffix(".damaged").read_bytes() == garbage
        warned = journal("two.service", "--priority=warning..warning")[-1]
        assert "and was set aside as ledger.damaged; rebuilt from what runs" in warned
        found = json.loads(run("gpumod", "doctor", "--json").stdout)["findings"]
        assert any("ledger.damaged was set aside at" in one["what"] for one in found)
        assert {entry["unit"]: entry["needs"] for entry in ledger()["commitments"]} == {
            "one.service": {"0": 14800 * 1024**2}
        }
    path.unlink()
    told = run("gpumod", "mode", "switch", "blank", "--dry-run")
    assert "was missing while one ran; rebuilt from what runs" in told.stdout + told.stderr
    assert [entry["unit"] for entry in settled()] == ["one.service"]
    blank()
    systemctl("start", "two.service")
    assert active("two") == "active"
    blank()
