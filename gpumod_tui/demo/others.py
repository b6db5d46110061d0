"""What other processes did and do on the played host: switches that are over, and one that begins by itself."""

import copy
import threading
from dataclasses import replace
from typing import Final

from gpumod_tui.core.models import LogLine
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import StepRecord, StoredState, SwitchError, SwitchRecord
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.demo.store import MemoryLock, MemoryStore

PID: Final = 4711
SWITCHED_AGO_S: Final = 400.0
"""When the newest switch of the past began."""
_DAY_S: Final = 86400.0


class _OtherProcess(MemoryStore):
    """The same store, as another process sees it."""

    def __init__(self, host: DemoHost, command: str) -> None:
        super().__init__(host.clock)
        self._shared = host.store
        self._command = command

    def read(self) -> StoredState:
        """What all see."""
        return self._shared.read()

    def acquire(self, target: str, *, pid: int | None = None, command: str = "") -> MemoryLock | None:
        """With its own pid and command."""
        return self._shared.acquire(target, pid=pid or PID, command=command or self._command)


def restart_elsewhere(host: DemoHost, service: str) -> ModeResult | None:
    """`gpumod service restart SERVICE`, as on another terminal, to its end. None: it does not run, or a switch does."""
    unit = f"{service}.service"
    if host.store.read().held or host.units.states((unit,))[unit].is_down:
        return None
    other = copy.copy(host)
    other.store = _OtherProcess(host, f"gpumod service restart {service}")
    manager = Manager(other)
    try:
        return manager.submit_service("restart", service).result()
    finally:
        manager.close()


def begin_elsewhere(host: DemoHost, service: str, after_s: float) -> None:
    """Let that happen once, so many played seconds from now."""

    def begin() -> None:
        threading.Thread(target=restart_elsewhere, args=(host, service), name="gpumod-demo-other", daemon=True).start()

    host.at(after_s, begin)


def past(now: float) -> tuple[SwitchRecord, ...]:
    """Switches of the last days, the newest first."""
    line = LogLine(now - 3 * 3600, "devstral-small-2.service", "ggml_cuda: cudaMalloc failed: out of memory", 3)
    failure = SwitchError(
        "devstral-small-2.service failed: exit-code, exit status 1",
        step="start",
        unit="devstral-small-2.service",
        journal=(line,),
        hint="journalctl --user -u devstral-small-2.service --no-pager -n 50",
    )
    rag = _record("rag", now - SWITCHED_AGO_S, stop=1.1, release=1.4, start=4.2)
    failed = _record("service start devstral-small-2", now - 3 * 3600, start=2.1)
    steps = (
        *(step for step in failed.steps if step.step not in ("start", "load", "verify")),
        StepRecord("start", failure.message, False, 2.1, failed.started_at),
        StepRecord("rollback", "stopped again: devstral-small-2", True, 0.3, failed.started_at),
    )
    return (
        rag,
        replace(failed, steps=steps, outcome=Outcome.FAILED, errors=(failure,)),
        _record("code", now - _DAY_S, stop=0.4, release=0.9, start=0.3, load=11.3),
        _record("blank", now - _DAY_S - 7200, stop=0.8, release=1.2),
    )


def _record(target: str, at: float, **seconds: float) -> SwitchRecord:
    names = ("preflight", "stop", "release", "start", "load", "verify")
    steps = tuple(StepRecord(name, "", True, seconds.get(name, 0.01), at) for name in names)
    word = target if target.startswith("service ") else f"mode switch {target}"
    total = sum(step.seconds or 0.0 for step in steps)
    return SwitchRecord(
        f"{target} {at}",
        target,
        PID,
        0,
        at,
        steps,
        Outcome.DONE,
        ended_at=at + total,
        touched=True,
        command=f"gpumod {word}",
    )
