"""While a plan is being made: it is said, it can be dropped, and nothing waits behind it."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.catalog.config import Confirm
from gpumod_tui.core.events import SwitchEnded
from gpumod_tui.core.switch.results import ModeResult, Outcome, SwitchPlan
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.plan import SOON_S
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from tests.ui.dashboard.test_screens import shown
from tests.ui.pictures import picture
from tests.ui.played import Box, plan_for, until

SIZES = [(40, 10), (80, 24), (120, 40)]


class SlowBox(Box):
    """One on which a look for any mode but blank takes as long as a test wants."""

    def __init__(self, *running: str, **options: Any) -> None:
        super().__init__(*running, options=ViewOptions(**options))
        self.gate = threading.Event()
        self.commands.plan = self.plan  # type: ignore[method-assign]

    def plan(self, mode: str, /) -> SwitchPlan:
        self.commands.asked.append(("plan", mode))
        assert mode == "blank" or self.gate.wait(30.0)
        return plan_for(mode)

    @property
    def planned(self) -> str:
        """What the plan on screen is of; empty: there is none."""
        screen = self.app.screen
        return screen.ask.name if isinstance(screen, PlanScreen) else ""


@pytest.fixture
def box() -> Iterator[SlowBox]:
    box = SlowBox("glm-code")
    yield box
    box.gate.set()


def is_told(box: Box) -> bool:
    return ": looking" in picture(box.app)


async def asked(box: Box, pilot: Pilot[Any], key: str = "2") -> None:
    """For a mode, and it takes a while."""
    await pilot.press(key)
    await until(pilot, lambda: is_told(box))


@pytest.mark.parametrize("size", SIZES)
async def test_it_is_said_and_escape_drops_it(box: SlowBox, size: tuple[int, int]) -> None:
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        await asked(box, pilot)
        assert "rag: looking" in picture(box.app)
        assert "esc drops it" in picture(box.app)
        await until(pilot, lambda: "esc drop" in box.app.dashboard.footer.text())
        await pilot.press("escape")
        await until(pilot, lambda: not is_told(box))
        box.gate.set()
        await pilot.pause(0.05)
        assert box.app.screen is box.app.dashboard


async def test_escape_drops_it_before_it_is_said(box: SlowBox) -> None:
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("2", "escape")
        await pilot.pause()
        box.gate.set()
        await pilot.pause(SOON_S + 0.1)
        assert box.app.screen is box.app.dashboard
        assert not is_told(box)


async def test_it_goes_when_the_plan_is_there(box: SlowBox) -> None:
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await asked(box, pilot)
        box.gate.set()
        await until(pilot, lambda: box.planned == "rag")
        await until(pilot, lambda: not is_told(box))


async def test_a_quick_one_is_not_said(box: SlowBox) -> None:
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("b")
        await until(pilot, lambda: box.planned == "blank")
        await pilot.pause(SOON_S + 0.1)
        assert not box.app.dashboard.planning.display


async def test_the_way_back_does_not_wait_behind_it(box: SlowBox) -> None:
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await asked(box, pilot)
        await pilot.press("b")
        await until(pilot, lambda: box.planned == "blank")
        box.gate.set()
        await pilot.pause(0.05)
        assert box.planned == "blank", "what comes too late is not shown"
        await pilot.press("y")
        await until(pilot, lambda: ("submit", "blank") in box.commands.asked)


async def test_the_newest_wish_is_planned_and_the_same_one_once(box: SlowBox) -> None:
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await asked(box, pilot)
        await pilot.press("2", "2", "3")
        await until(pilot, lambda: "code: looking" in picture(box.app))
        box.gate.set()
        await until(pilot, lambda: box.planned == "code")
        assert box.commands.asked == [("plan", "rag"), ("plan", "code")]


async def test_what_is_dropped_is_not_carried_out_where_nothing_is_asked() -> None:
    box = SlowBox("glm-code", confirm=Confirm.NEVER)
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await asked(box, pilot)
        await pilot.press("escape")
        await pilot.pause()
        box.gate.set()
        await pilot.pause(0.05)
        assert box.commands.asked == [("plan", "rag")]


@pytest.mark.parametrize("size", SIZES)
async def test_a_failure_stays_in_sight_below_it(box: SlowBox, size: tuple[int, int]) -> None:
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
        await pilot.pause()
        await asked(box, pilot, "r")
        assert "Switch to nemotron: failed" in picture(box.app)
        await pilot.press("escape")
        await until(pilot, lambda: not is_told(box))
        assert "Switch to nemotron: failed" in picture(box.app)


async def test_escape_ends_a_zoom_first(box: SlowBox) -> None:
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("z")
        await asked(box, pilot)
        assert "esc drops" not in picture(box.app)
        await pilot.press("escape")
        await until(pilot, lambda: "esc drops it" in picture(box.app))
        assert is_told(box)
