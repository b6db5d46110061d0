"""What is wanted while a switch runs: it waits in sight, and is asked about when its turn comes."""

from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.catalog.config import Confirm
from gpumod_tui.core.events import SwitchEnded
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.common.confirm import Words
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.messages import UnitWish
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.played import Box, until

NEVER = ViewOptions(confirm=Confirm.NEVER)


async def wait_behind_nemotron(box: Box, pilot: Pilot[Any], *keys: str) -> None:
    """A switch to nemotron runs, and these keys are pressed."""
    await shown(box, pilot)
    begin(box)
    await until(pilot, lambda: "▸ load" in box.app.dashboard.steps.text())
    await pilot.press(*keys)
    await pilot.pause()


def end(box: Box, outcome: Outcome = Outcome.DONE) -> None:
    box.emit(SwitchEnded(ModeResult(outcome is Outcome.DONE, "nemotron", outcome=outcome)))


def heading(box: Box) -> str:
    return box.app.dashboard.steps.text().splitlines()[0]


def toasts(box: Box) -> list[str]:
    return [f"{toast.title}: {toast.message}" for toast in box.app._notifications]


@pytest.mark.parametrize("size", [(40, 10), (120, 40)])
async def test_the_last_wish_waits_in_sight_and_becomes_a_plan(size: tuple[int, int]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=size) as pilot:
        await wait_behind_nemotron(box, pilot, "2", "3")
        await until(pilot, lambda: "nemotron, then code" in heading(box))
        assert "esc drops it" in heading(box)
        assert "3 code next" in box.app.dashboard.modes.rows(80, 1)[0].text
        assert "next: Switch to code: instead of “Switch to rag”" in toasts(box)
        assert box.commands.asked == []
        end(box)
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        await until(pilot, lambda: "then" not in heading(box))
        assert box.commands.asked == [("plan", "code")]


async def test_escape_drops_what_waits_before_it_cancels_what_runs() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await wait_behind_nemotron(box, pilot, "3")
        await until(pilot, lambda: "esc drop next" in box.app.dashboard.footer.text())
        await pilot.press("escape")
        await until(pilot, lambda: "then" not in heading(box))
        assert "dropped: Switch to code: esc again cancels the switch" in toasts(box)
        assert box.commands.asked == []
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
        await pilot.press("y")
        await until(pilot, lambda: box.commands.asked == [("cancel",)])
        end(box, Outcome.CANCELLED)
        await until(pilot, lambda: "cancelled" in heading(box))
        await pilot.pause(0.05)
        assert box.commands.asked == [("cancel",)]


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.FAILED])
async def test_where_nothing_is_asked_it_begins_by_itself_but_not_after_a_failure(outcome: Outcome) -> None:
    box = Box("glm-code", options=NEVER)
    async with box.app.run_test(size=(120, 40)) as pilot:
        await wait_behind_nemotron(box, pilot, "3")
        await until(pilot, lambda: "then code" in heading(box))
        end(box, outcome)
        asked = [("plan", "code"), *([("submit", "code")] if outcome is Outcome.DONE else [])]
        await until(pilot, lambda: box.commands.asked == asked)
        if outcome is Outcome.FAILED:
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
            assert box.commands.asked == asked


@pytest.mark.parametrize("outcome", [Outcome.DONE, Outcome.FAILED])
async def test_a_load_waits_too_and_is_not_done_after_a_failure(outcome: Outcome) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await wait_behind_nemotron(box, pilot)
        box.app.post_message(UnitWish("load", "glm-code", "tiny"))
        await until(pilot, lambda: "then load tiny (glm-code)" in heading(box))
        end(box, outcome)
        if outcome is Outcome.DONE:
            await until(pilot, lambda: box.commands.asked == [("load", "glm-code", "tiny")])
        else:
            await until(pilot, lambda: "not done" in "".join(toasts(box)))
            assert box.commands.asked == []


async def test_blank_lets_nothing_come_after_it() -> None:
    box = Box("glm-code", options=NEVER)
    async with box.app.run_test(size=(120, 40)) as pilot:
        await wait_behind_nemotron(box, pilot, "3", "b")
        await until(pilot, lambda: box.commands.asked == [("submit", "blank")])
        await until(pilot, lambda: "then" not in heading(box))
        end(box, Outcome.CANCELLED)
        await until(pilot, lambda: "cancelled" in heading(box))
        await pilot.pause(0.05)
        assert box.commands.asked == [("submit", "blank")]


async def test_who_leaves_is_told_that_it_is_not_done() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await wait_behind_nemotron(box, pilot, "3")
        await until(pilot, lambda: "then code" in heading(box))
        await pilot.press("q")
        sentence = "“code”, which waits, is not done."
        await until(pilot, lambda: sentence in "".join(view.text() for view in box.app.screen.query(Words)))
