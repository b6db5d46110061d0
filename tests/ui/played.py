"""A box for the screen: a played host filmed into snapshots, and somebody who takes commands."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from textual import events
from textual.pilot import Pilot

from gpumod_tui.core.catalog.modes import ModeSaved
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.events import Event
from gpumod_tui.core.models import LogLine, Mode, Snapshot
from gpumod_tui.core.status import probes, snapshot
from gpumod_tui.core.status.details import ModelChoice, ProcessView, UnitDetails
from gpumod_tui.core.status.history import History
from gpumod_tui.core.status.markers import Mark, MarkKind
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.snapshot import take_snapshot
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import SwitchHistory, SwitchRecord
from gpumod_tui.core.switch.results import GpuArithmetic, SwitchPlan
from gpumod_tui.core.switch.simulate import WhatIf
from gpumod_tui.core.text import MIB
from gpumod_tui.core.units.actions import Act
from gpumod_tui.core.units.login import LoginMode
from gpumod_tui.core.view import View
from gpumod_tui.demo.clock import PlayedClock
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.ui.app import DEFAULTS, GpumodApp
from gpumod_tui.ui.backend import Archive
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.options import ViewOptions

GLM = "GLM-4.7-Flash-UD-Q4_K_XL"


def plan_for(target: str = "nemotron") -> SwitchPlan:
    """From code to nemotron: fits by the skin of its teeth."""
    sums = GpuArithmetic(0, 24564 * MIB, 4139 * MIB, 19968 * MIB, 0, 23040 * MIB, 512 * MIB)
    return SwitchPlan(
        target,
        ("nemotron-3-nano",),
        stop=("glm-code",),
        keep=(),
        restart=(),
        start=(("nemotron-3-nano",),),
        arithmetic=(sums,),
        needs={"nemotron-3-nano": {0: 23040 * MIB}},
    )


@dataclass
class PlayedCommands:
    """Plans what it was told to, and remembers what it was asked for."""

    answer: SwitchPlan | GpumodError = field(default_factory=plan_for)
    asked: list[tuple[str, ...]] = field(default_factory=list)
    manager: Manager | None = None
    """Who looks closely at the played host."""
    ended: tuple[SwitchRecord, ...] = ()
    at_login: str | None = None
    fits: tuple[str, ...] = ("rag",)

    def plan(self, mode: str, /) -> SwitchPlan:
        self.asked.append(("plan", mode))
        return self._answer()

    def plan_service(self, verb: str, service: str, /) -> SwitchPlan:
        self.asked.append(("plan", verb, service))
        return self._answer()

    def submit_mode(self, mode: str, /) -> None:
        self.asked.append(("submit", mode))

    def submit_service(self, verb: str, service: str, /) -> None:
        self.asked.append(("submit", verb, service))

    def submit_load(self, service: str, model: str, /) -> None:
        self.asked.append(("load", service, model))

    def submit_unload(self, service: str, model: str, /) -> None:
        self.asked.append(("unload", service, model))

    def submit_act(self, act: Act, /) -> None:
        self.asked.append(("act", act.label))

    def models(self, service: str, /) -> tuple[ModelChoice, ...]:
        assert self.manager is not None
        return self.manager.models(service)

    def process(self, pid: int, /) -> ProcessView | None:
        assert self.manager is not None
        return self.manager.process(pid)

    def details(self, service: str, /) -> UnitDetails:
        assert self.manager is not None
        return self.manager.details(service)

    def what_if(self, gpus_bytes: tuple[int, ...] = (), /) -> WhatIf:
        assert self.manager is not None
        return self.manager.what_if(gpus_bytes)

    def catalog(self) -> ServiceRegistry:
        assert self.manager is not None
        return self.manager.catalog()

    def own_modes(self) -> frozenset[str]:
        assert self.manager is not None
        return self.manager.own_modes()

    def save_mode(self, mode: Mode, /, *, replaces: bool) -> ModeSaved:
        assert self.manager is not None
        self.asked.append(("save", mode.id))
        return self.manager.save_mode(mode, replaces=replaces)

    def delete_mode(self, mode_id: str, /) -> ModeSaved:
        assert self.manager is not None
        self.asked.append(("delete", mode_id))
        return self.manager.delete_mode(mode_id)

    def cancel(self) -> None:
        self.asked.append(("cancel",))

    def cancel_elsewhere(self, switch_id: str, /) -> None:
        self.asked.append(("cancel", switch_id))

    def history(self) -> SwitchHistory:
        return SwitchHistory(self.ended)

    def login_mode(self) -> LoginMode:
        return LoginMode(self.at_login, "current", enabled=True) if self.at_login else LoginMode()

    def set_login_mode(self, mode: str | None, /) -> LoginMode:
        self.asked.append(("default", mode or ""))
        self.at_login = mode
        return self.login_mode()

    def fitting(self) -> tuple[str, ...]:
        return self.fits

    def _answer(self) -> SwitchPlan:
        if isinstance(self.answer, GpumodError):
            raise self.answer
        return self.answer


class PlayedSnapshots:
    """Hands over what a test pushes."""

    def __init__(self) -> None:
        self.push: Callable[[Snapshot], object] = lambda _snapshot: None
        self.stopped = False

    def start(self, callback: Callable[[Snapshot], object], /) -> None:
        self.push = callback

    def stop(self) -> None:
        self.stopped = True


class Follower:
    """A journal that a test writes."""

    def __init__(self) -> None:
        self.sink: Callable[[LogLine], None] = lambda _line: None
        self.report: Callable[[str], object] = lambda _fault: None
        self.closed = False
        self.followed: list[frozenset[str]] = []
        """What was asked for beside what is managed, each time."""

    def __call__(
        self, units: frozenset[str], sink: Callable[[LogLine], None], report: Callable[[str], object]
    ) -> "Follower":
        self.sink = sink
        self.report = report
        report("")
        self.followed.append(units)
        return self

    def close(self) -> None:
        self.closed = True


class _Inline(threading.Thread):
    """Does its work in the thread that starts it."""

    def start(self) -> None:
        self.run()

    def join(self, timeout: float | None = None) -> None:
        return


@contextmanager
def answered_at_once() -> Iterator[None]:
    """A played host keeps nobody waiting: minutes of film need no threads, which take longer than all else."""
    threads = SimpleNamespace(Thread=_Inline, Lock=threading.Lock)
    with patch.object(snapshot, "threading", threads), patch.object(probes, "threading", threads):
        yield


class Box:
    """A played host, the app that shows it, and everything the app was given."""

    def __init__(
        self, *running: str, gpu_count: int = 1, activity: bool = False, options: ViewOptions = DEFAULTS
    ) -> None:
        self.options = options
        self.clock = PlayedClock()
        self.host = DemoHost(self.clock, running=running, gpu_count=gpu_count, activity=activity)
        self.recorded = Recorded("code", since=self.clock.time()) if running else Recorded()
        self.history = History()
        self.commands = PlayedCommands(manager=Manager(self.host))
        self.snapshots = PlayedSnapshots()
        self.journal = Follower()
        self.emit: Callable[[Event], bool] = lambda _event: False
        self.lines: list[LogLine] = []
        self.host.journal.follow([s.unit for s in self.host.registry.services.values()], self.lines.append)
        self.view = View()
        self.archive: Archive | None = None
        self.app = self.make(GpumodApp)

    def make(self, kind: type[GpumodApp]) -> GpumodApp:
        return kind(
            self.host.registry,
            self.snapshots,
            self.journal,
            self.commands,
            connect=lambda sink: setattr(self, "emit", sink),
            history=self.history,
            host_name="gpubox",
            options=self.options,
            view=self.view,
            archive=self.archive,
            live=False,
        )

    def look(self) -> Snapshot:
        with answered_at_once():
            seen = take_snapshot(self.host, lambda: self.recorded)
        if seen.units_error is not None:
            return seen
        # As the poller does, which asks for it now and then.
        files = self.host.units.file_states([view.state.unit for view in seen.services])
        views = [(view, replace(view.state, file_state=files.get(view.state.unit, ""))) for view in seen.services]
        return replace(seen, services=tuple(replace(view, state=state) for view, state in views))

    def film(self, seconds: float, *, every_s: float = 1.0) -> Snapshot:
        """Let time go by, and the history with it."""
        for _ in range(round(seconds / every_s)):
            self.clock.advance(every_s)
            self.history.add(self.look())
        return self.look()

    def load(self, service_id: str, model: str) -> None:
        service = self.host.registry.service(service_id)
        self.host.units.start(service.unit)
        self.film(1.0)
        self.host.drivers(service).load(service, model)

    def mark(self, words: str, kind: MarkKind = MarkKind.ENDED) -> None:
        """A word on the time axis, now."""
        self.history.marks.note(Mark(self.clock.time(), kind, words))

    def show_lines(self) -> None:
        """What the host's journal wrote so far, on screen."""
        for line in self.lines:
            self.journal.sink(line)
        self.lines.clear()
        self.app.flush()


def a_long_day(options: ViewOptions = DEFAULTS) -> Box:
    """Some switches in the last ten minutes, a failure, an orphan; now in mode code."""
    box = Box("vllm-embedding", activity=True, options=options)
    box.mark("rag")
    box.film(80)
    box.host.script("devstral-small-2").start_fails = 0
    box.host.units.start("devstral-small-2.service")
    box.mark("start devstral-small-2")
    box.film(160)
    box.host.units.stop("devstral-small-2.service")
    box.host.units.stop("vllm-embedding.service")
    box.mark("blank")
    box.film(40)
    box.host.script("devstral-small-2").start_fails = 1
    box.host.units.start("devstral-small-2.service")
    box.mark("rag", MarkKind.FAILED)
    box.film(50)
    box.host.script("glm-code").load_s = 25.0
    box.load("glm-code", GLM)
    box.film(30)
    box.mark("code")
    box.recorded = Recorded("code", since=box.clock.time())
    box.host.foreign(1228)
    box.film(150)
    return box


def dialog_text(box: Box) -> str:
    """What stands on the screen on top, with its keys, without what lies below it."""
    return "\n".join(view.text() for view in box.app.screen.query(Painted))


async def press_at_once(pilot: Pilot[Any], *keys: str) -> None:
    """As a key that is held down: `pilot.press` rests 40 ms after each."""
    driver = pilot.app._driver
    assert driver is not None
    for key in keys:
        driver.process_message(events.Key(key, None))
    await pilot.pause()


async def until(pilot: Pilot[Any], wanted: object) -> None:
    """Threads answer when they answer."""
    assert callable(wanted)
    end = time.monotonic() + 60.0
    while time.monotonic() < end:
        await pilot.pause()
        if wanted():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("never happened")
