"""Exceptions that nobody expected end no thread that others count on, and none of them is lost."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.adapters.servers.follow import PollFollower, StreamFollower
from gpumod_tui.adapters.systemd.bus import Notifier
from gpumod_tui.core.events import SwitchSeen
from gpumod_tui.core.models import ModelState, ModelStatus, Snapshot
from gpumod_tui.core.status.attribution import Answer
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.poller import Poller, Rates
from gpumod_tui.core.status.probes import Prober
from gpumod_tui.core.switch.records import StoredState
from gpumod_tui.core.switch.watch import SwitchWatch
from gpumod_tui.core.threads import Unexpected
from gpumod_tui.demo.clock import RunningClock
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.demo.others import past
from tests.unit.cli.test_faults import environment


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    words: list[str] = []
    monkeypatch.setattr(
        threading, "excepthook", lambda fault: words.append(f"{fault.thread.name}: {fault.exc_value!r}")
    )
    return words


def wait_for(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class Odd:
    """Fails in a way that nobody expected, so many times."""

    def __init__(self, times: int) -> None:
        self.left = times

    def __call__(self, *_more: object, **_named: object) -> None:
        self.left -= 1
        if self.left >= 0:
            raise KeyError("odd")


def test_each_is_told_once_and_not_without_end(told: list[str]) -> None:
    unexpected = Unexpected()
    for error in (KeyError("a"), ValueError("b"), KeyError("a")):
        unexpected.tell(error)
    assert [words.partition(": ")[2] for words in told] == ["KeyError('a')", "ValueError('b')"]
    for number in range(100):
        unexpected.tell(KeyError(number))
    assert len(told) == 20


def test_switches_elsewhere_are_shown_after_it(told: list[str]) -> None:
    clock = RunningClock()
    record = past(clock.time())[0]
    odd, reads = Odd(2), [StoredState(Recorded(), None, held=False), StoredState(Recorded(), record, held=False)]

    class Store:
        def read(self) -> StoredState:
            odd()
            return reads.pop(0) if len(reads) > 1 else reads[0]

    seen: list[Any] = []
    watch = SwitchWatch(Store(), clock, 1, seen.append)  # type: ignore[arg-type]
    watch.start()
    wait_for(lambda: bool(seen))
    watch.stop()
    assert isinstance(seen[0], SwitchSeen)
    assert told == ["gpumod-elsewhere: KeyError('odd')"]


def test_a_unit_is_probed_again_after_it(told: list[str]) -> None:
    host, odd = DemoHost(running=["glm-code"]), Odd(1)
    answers: list[str] = []

    def answered(unit: str, _answer: Answer) -> None:
        odd()
        answers.append(unit)

    prober = Prober(host.drivers, answered)
    service = host.registry.service("glm-code")
    end = time.monotonic() + 30.0
    for _ in range(2):
        prober.ask([service])
        assert prober.join(lambda: end - time.monotonic()) == ()
    assert answers == ["glm-code.service"]
    assert told == ["gpumod-probe-glm-code: KeyError('odd')"]


def test_a_server_is_asked_for_its_models_after_it(told: list[str]) -> None:
    loaded, odd = ModelState("m", ModelStatus.LOADED), Odd(1)

    def models() -> tuple[ModelState, ...]:
        odd()
        return (loaded,)

    seen: list[ModelState] = []
    with closing(PollFollower("s", models, seen.append)):
        wait_for(lambda: bool(seen))
    assert seen == [loaded]
    assert told == ["gpumod-models-s: KeyError('odd')"]


def test_a_router_is_listened_to_after_it(told: list[str]) -> None:
    odd = Odd(100)

    class Http:
        connect = staticmethod(odd)

    service = DemoHost().registry.service("glm-code")

    def nothing(_state: ModelState) -> None: ...

    with closing(StreamFollower(Http(), service, tuple, nothing)):  # type: ignore[arg-type]
        wait_for(lambda: odd.left < 98)
    assert told == ["gpumod-models-glm-code: KeyError('odd')"]


def test_changes_of_units_are_told_after_it(told: list[str]) -> None:
    odd, calls = Odd(1), []
    notifier = Notifier(lambda: None)

    def callback() -> None:
        calls.append(1)
        odd()

    def called() -> bool:
        notifier.notify()
        return len(calls) > 2

    notifier.add(callback)
    wait_for(called)
    notifier.close()
    assert told == ["gpumod-unit-changes: KeyError('odd')"]


def test_snapshots_come_after_it(told: list[str]) -> None:
    host, odd = DemoHost(RunningClock(), running=["glm-code"]), Odd(9)
    seen: list[Snapshot] = []

    def take(snapshot: Snapshot) -> None:
        odd()
        seen.append(snapshot)

    poller = Poller(host, Recorded, rates=Rates(gpus_s=0.02, units_s=0.02, probes_s=0.02))
    poller.start(take)
    wait_for(lambda: bool(seen))
    assert {thread.is_alive() for thread in poller._threads} == {True}
    poller.stop()
    assert {words.partition(": ")[2] for words in told} == {"KeyError('odd')"}


def test_a_command_names_it_and_goes_on(tmp_path: Path) -> None:
    script = (
        "import threading\n"
        "from gpumod_tui import cli\n"
        "def run():\n"
        "    thread = threading.Thread(target=lambda: {}['odd'], name='gpumod-some')\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    return 3\n"
        "cli._run = run\n"
        "cli.main()\n"
    )
    for debug in ({}, {"GPUMOD_DEBUG": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment(tmp_path, **debug),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 3
        assert ("internal error in gpumod-some: KeyError: 'odd'" in done.stderr) is not bool(debug)
        assert ("Traceback" in done.stderr) is bool(debug)
