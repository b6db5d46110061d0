"""What switches look like: planned, of another process, failed, and past; at every size, and in each dress."""

from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.core.events import SwitchSeen
from gpumod_tui.core.models import LogLine
from gpumod_tui.core.switch.records import Level, Moment, StepRecord, SwitchRecord
from gpumod_tui.core.text import GIB
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.history import SwitchesScreen
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from tests.ui.dashboard.test_screens import ALL_SIZES, Compare, _id, shown
from tests.ui.played import Box, until
from tests.ui.switch.test_history import DONE, FAILED, KILLED, text_of
from tests.ui.switch.test_switching import BLOCKED

DRESSES = {
    "light": ViewOptions(theme=Theme.LIGHT),
    "ascii": ViewOptions(ascii_only=True),
    "no colour": ViewOptions(),
}


async def releasing(box: Box, pilot: Pilot[Any]) -> None:
    """A switch of another process waits for memory."""
    await shown(box, pilot)
    now = box.clock.time()
    steps = (
        StepRecord("preflight", "GPU 0: fits", True, 0.1, now - 1.5),
        StepRecord("stop", "glm-code 0.4 s, cgroup empty", True, 0.4, now - 1.4),
        StepRecord("release", at=now - 1.0),
    )
    moment = Moment("1", "release", "", 0.3, (Level(0, 24 * GIB, 9 * GIB, 23 * GIB),))
    record = SwitchRecord(
        "1",
        "nemotron",
        4711,
        1,
        now - 1.5,
        steps,
        starting=("nemotron-3-nano.service",),
        stopping=("glm-code.service",),
        command="gpumod mode switch nemotron",
    )
    box.emit(SwitchSeen(record, True, moment))
    await until(pilot, lambda: box.app.dashboard.progress is not None)
    box.journal.sink(LogLine(now, "glm-code.service", "Stopped glm-code.service"))
    box.app.flush()
    await pilot.pause()


async def planned(box: Box, pilot: Pilot[Any]) -> None:
    """A plan that is refused."""
    await shown(box, pilot)
    await pilot.press("4")
    await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
    await pilot.pause()


async def listed(box: Box, pilot: Pilot[Any]) -> None:
    """The history."""
    await shown(box, pilot)
    await pilot.press("h")
    await until(pilot, lambda: isinstance(box.app.screen, SwitchesScreen) and "▸" in text_of(box).replace(">", "▸"))
    await pilot.pause()


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_a_switch_of_another_process(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box("nemotron-3-nano")
    box.film(30)
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: releasing(box, pilot))


@pytest.mark.parametrize("dress", DRESSES)
def test_a_switch_of_another_process_in_another_dress(
    dress: str, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dress == "no colour":
        monkeypatch.setenv("NO_COLOR", "1")
    box = Box("nemotron-3-nano", options=DRESSES[dress])
    box.film(30)
    assert snap_compare(box.app, terminal_size=(80, 24), run_before=lambda pilot: releasing(box, pilot))


@pytest.mark.parametrize("size", [(40, 10), (200, 60)], ids=_id)
def test_refused_plan_where_there_is_little_room_or_much(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box("glm-code")
    box.commands.answer = BLOCKED
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: planned(box, pilot))


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_history(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box()
    box.commands.ended = (KILLED, FAILED, DONE)
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: listed(box, pilot))


@pytest.mark.parametrize("size", [(40, 10), (80, 24)], ids=_id)
def test_one_of_the_history(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box()
    box.commands.ended = (FAILED,)

    async def opened(pilot: Pilot[Any]) -> None:
        await listed(box, pilot)
        await pilot.press("enter")
        await pilot.pause()

    assert snap_compare(box.app, terminal_size=size, run_before=opened)


def test_the_mode_at_login_is_asked_about(snap_compare: Compare) -> None:
    box = Box("glm-code")

    async def asked(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press("D")
        await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
        await pilot.pause()

    assert snap_compare(box.app, terminal_size=(80, 24), run_before=asked)
