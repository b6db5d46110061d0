"""Every screen at every size and in every dress, and each state that alarms: stored, so that a change is seen."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.core.events import SwitchEnded
from gpumod_tui.core.models import LogLine
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.journal.entry import Batch
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.units.details import DetailsScreen
from gpumod_tui.ui.units.end_process import EndScreen
from gpumod_tui.ui.units.model_picker import PickerScreen
from tests.ui.dashboard.test_screens import ALL_SIZES, Compare, _id, begin, shown
from tests.ui.pictures import picture
from tests.ui.played import Box, a_long_day, until
from tests.ui.terminal.test_painting import a_crowd

Scene = Callable[[Box, Pilot[Any]], Awaitable[None]]


async def calm(box: Box, pilot: Pilot[Any]) -> None:
    """As it stands most of the time."""
    await shown(box, pilot)


def after(*keys: str, words: str = "", kind: type[object] = object) -> Scene:
    """After these keys, as soon as these words stand on a screen of that kind."""

    async def scene(box: Box, pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press(*keys)
        await until(pilot, lambda: isinstance(box.app.screen, kind) and words in picture(box.app))
        await pilot.pause()

    return scene


async def a_switch(box: Box, pilot: Pilot[Any]) -> None:
    """Half-way through a load."""
    await shown(box, pilot)
    begin(box)
    await until(pilot, lambda: "load" in box.app.dashboard.steps.text())
    box.journal.sink(LogLine(box.clock.time(), "nemotron-3-nano.service", "srv load_model: loading model"))
    box.app.flush()
    await pilot.pause()


async def a_failure(box: Box, pilot: Pilot[Any]) -> None:
    """A switch that ended badly."""
    await a_switch(box, pilot)
    error = SwitchError("nemotron-3-nano died: exit code 1", "load", "nemotron-3-nano.service", hint="gpumod doctor")
    box.emit(SwitchEnded(ModeResult(False, "nemotron", errors=(error,), outcome=Outcome.FAILED)))
    await until(pilot, lambda: "r retry" in box.app.dashboard.footer.text())
    await pilot.pause()


async def leaving(box: Box, pilot: Pilot[Any]) -> None:
    """While a switch runs."""
    await a_switch(box, pilot)
    await pilot.press("q")
    await pilot.pause()


SCENES: dict[str, Scene] = {
    "dashboard": calm,
    "plan": after("4", words="do it"),
    "switch": a_switch,
    "failure": a_failure,
    "leaving": leaving,
    "help": after("question_mark"),
    "palette": after("ctrl+p", "s", "t"),
    "details": after("enter", words="State", kind=DetailsScreen),
    "picker": after("u", words="GiB", kind=PickerScreen),
    "end": after("end", "K", words="command", kind=EndScreen),
    "zoom": after("z"),
    "units of the journal": after("tab", "i"),
    "filter of the journal": after("tab", "slash", *"eval"),
    "filter of the units": after("slash", *"emb"),
    "history": after("h"),
}


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
@pytest.mark.parametrize("name", SCENES)
def test_at_every_size(name: str, size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_long_day()
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: SCENES[name](box, pilot))


DRESSES = {
    "light": ViewOptions(theme=Theme.LIGHT),
    "contrast": ViewOptions(theme=Theme.CONTRAST),
    "ansi": ViewOptions(theme=Theme.ANSI),
    "ascii": ViewOptions(ascii_only=True),
    "no colour": ViewOptions(),
}


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("name", SCENES)
def test_in_every_dress(name: str, dress: str, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    if dress == "no colour":
        monkeypatch.setenv("NO_COLOR", "1")
    box = a_long_day(DRESSES[dress])
    assert snap_compare(box.app, terminal_size=(100, 30), run_before=lambda pilot: SCENES[name](box, pilot))


def stopped_by_hand() -> Box:
    """A unit of the mode."""
    box = Box("glm-code")
    box.host.units.stop("glm-code.service")
    box.film(3)
    return box


def drifted() -> Box:
    """A unit that the mode does not have was started by hand."""
    box = Box("glm-code", "vllm-embedding")
    box.film(3)
    return box


def partial() -> Box:
    """A switch that reached a part."""
    box = Box("glm-code")
    box.recorded = Recorded("rag", since=box.clock.time(), note="vllm-embedding failed")
    return box


def unit_failed() -> Box:
    """One died on its own."""
    box = Box("glm-code")
    box.host.die("glm-code")
    box.film(3)
    return box


def gpus_unreadable() -> Box:
    """The library does not fit the driver any more."""
    box = Box("glm-code")
    box.host.gpus.error = "the NVIDIA driver was updated: reboot"
    return box


def units_unreadable() -> Box:
    """No user manager."""
    box = Box("glm-code")
    box.host.units.error = "no user bus"
    return box


def gpu_lost() -> Box:
    """One of two fell off the bus."""
    box = Box("glm-code", gpu_count=2)
    box.host.lose_gpu(1, "GPU is lost: it fell off the bus")
    return box


def processes_untold() -> Box:
    """NVML does not say who holds what."""
    box = Box("glm-code")
    box.host.gpus.tells_processes = False
    return box


def orphan() -> Box:
    """A process that belongs to no managed unit."""
    box = Box()
    box.host.foreign(8000)
    return box


ALARMS: dict[str, Callable[[], Box]] = {
    kind.__name__: kind
    for kind in (
        stopped_by_hand,
        drifted,
        partial,
        unit_failed,
        gpus_unreadable,
        units_unreadable,
        gpu_lost,
        processes_untold,
        orphan,
        a_crowd,
    )
}


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40)], ids=_id)
@pytest.mark.parametrize("name", ALARMS)
def test_what_alarms(name: str, size: tuple[int, int], snap_compare: Compare) -> None:
    box = ALARMS[name]()
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: calm(box, pilot))


async def fault(box: Box, pilot: Pilot[Any]) -> None:
    """No journal, and lines that were dropped before."""
    await shown(box, pilot)
    box.app.dashboard.journal.take(Batch((), 1234))
    box.app.dashboard.journal.fault = "journalctl cannot be run"


def test_the_journal_is_lost(snap_compare: Compare) -> None:
    box = Box("glm-code")
    assert snap_compare(box.app, terminal_size=(80, 24), run_before=lambda pilot: fault(box, pilot))


@pytest.mark.parametrize("dress", DRESSES)
def test_a_failure_is_told_in_a_toast(dress: str, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    if dress == "no colour":
        monkeypatch.setenv("NO_COLOR", "1")
    box = Box("glm-code", options=DRESSES[dress])

    async def die(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        box.host.die("glm-code")
        box.clock.advance(1.0)
        await shown(box, pilot)
        await until(pilot, lambda: "failed: exit-code" in picture(box.app))
        if dress == "ascii":
            assert picture(box.app).isascii()

    assert snap_compare(box.app, terminal_size=(80, 24), run_before=die)


@pytest.mark.parametrize("size", [(39, 10), (40, 9), (20, 5)], ids=_id)
def test_too_small(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box("glm-code")
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: calm(box, pilot))


def test_read_only(snap_compare: Compare) -> None:
    box = a_long_day(ViewOptions(read_only=True))
    assert snap_compare(box.app, terminal_size=(80, 24), run_before=lambda pilot: calm(box, pilot))


def test_no_services_are_defined(snap_compare: Compare) -> None:
    box = Box()
    empty = replace(box.look(), services=())

    async def scene(pilot: Pilot[Any]) -> None:
        await pilot.pause()
        box.snapshots.push(empty)
        await pilot.pause()

    assert snap_compare(box.app, terminal_size=(80, 24), run_before=scene)
