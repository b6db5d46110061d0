"""What keys do, and that the screen goes on whatever threads do."""

import threading
import time
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.core.events import Step, StepEnded, SwitchEnded
from gpumod_tui.core.models import LogLine
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.results import ModeResult, Outcome, SwitchPlan
from gpumod_tui.ui.common.confirm import WordsScreen
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.journal.follow import CAPACITY
from gpumod_tui.ui.keys.help import HelpScreen
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.played import Box, until


async def ask(box: Box, pilot: Pilot[Any], key: str) -> None:
    await shown(box, pilot)
    await pilot.press(key)
    await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))


def ended(box: Box, outcome: Outcome = Outcome.DONE, *errors: SwitchError) -> None:
    result = ModeResult(outcome is Outcome.DONE, "nemotron", errors=errors, outcome=outcome, timings={"load": 9.0})
    box.emit(SwitchEnded(result))


async def test_a_number_shows_the_plan_and_enter_submits_it() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await ask(box, pilot, "4")
        assert box.commands.asked == [("plan", "nemotron")]
        await pilot.press("enter")
        await until(pilot, lambda: ("submit", "nemotron") in box.commands.asked)
        begin(box)
        await until(pilot, lambda: "71 %" in box.app.dashboard.steps.text())
        assert "switching" not in box.app.dashboard.header.text()
        assert "Switch to nemotron" in box.app.dashboard.header.text()
        box.emit(StepEnded(Step.LOAD, True, "loaded", 9.0))
        ended(box)
        await until(pilot, lambda: "reached" in box.app.dashboard.steps.text())
        box.clock.advance(60.0)
        await shown(box, pilot)
        assert box.app.dashboard.progress is None


@pytest.mark.parametrize("key", ["escape", "n"])
async def test_escape_leaves_the_plan_undone(key: str) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await ask(box, pilot, "4")
        await pilot.press(key)
        await pilot.pause()
        assert not isinstance(box.app.screen, PlanScreen)
    assert box.commands.asked == [("plan", "nemotron")]


async def test_a_plan_that_cannot_be_made_says_why() -> None:
    box = Box("glm-code")
    box.commands.answer = SystemdUnavailable("no user bus", hint="loginctl enable-linger")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await ask(box, pilot, "2")
        view = box.app.screen.query_one("#plan")
        assert "no user bus (loginctl enable-linger)" in view.text()  # type: ignore[attr-defined]
        await pilot.press("enter")
        assert box.commands.asked == [("plan", "rag")]


async def test_services_are_planned_first_too() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await pilot.press("down", "down", "down")
        await ask(box, pilot, "s")
        await pilot.press("y")
        await until(pilot, lambda: ("submit", "start", "devstral-small-2") in box.commands.asked)
        assert box.commands.asked[0] == ("plan", "start", "devstral-small-2")


async def test_escape_asks_to_cancel_and_the_end_is_shown_until_it_is_closed() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        begin(box)
        await pilot.pause()
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
        await pilot.press("enter")
        await until(pilot, lambda: ("cancel",) in box.commands.asked)
        assert "cancelling" in box.app.dashboard.steps.text()
        ended(box, Outcome.CANCELLED, SwitchError("cancelled at load"))
        await until(pilot, lambda: "Switch to nemotron: cancelled" in box.app.dashboard.steps.text())
        box.clock.advance(600.0)
        await shown(box, pilot)
        assert box.app.dashboard.progress is not None
        await pilot.press("escape")
        await pilot.pause()
        assert box.app.dashboard.progress is None


@pytest.mark.parametrize(("key", "planned"), [("r", "nemotron"), ("b", "blank")])
async def test_a_failure_stays_with_keys_that_lead_on(key: str, planned: str) -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        begin(box)
        ended(box, Outcome.FAILED, SwitchError("VRAM not released", "release", "glm-code.service", hint="blank"))
        await pilot.pause()
        box.clock.advance(600.0)
        await ask(box, pilot, key)
        assert "VRAM not released" in box.app.dashboard.steps.text()
        assert box.commands.asked == [("plan", planned)]


async def test_logs_of_what_failed() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        begin(box)
        ended(box, Outcome.FAILED, SwitchError("died", "start", "vllm-embedding.service"))
        await pilot.pause()
        await pilot.press("g")
        assert box.app.dashboard.journal.unit == "vllm-embedding"


async def test_leaving_during_a_switch_says_that_it_goes_on() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        begin(box)
        await pilot.pause()
        await pilot.press("q")
        await pilot.pause()
        assert isinstance(box.app.screen, WordsScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert box.app.is_running
        await pilot.press("q")
        await pilot.pause()
        await pilot.press("q")
        await pilot.pause()
    assert ("cancel",) not in box.commands.asked
    assert box.snapshots.stopped
    assert box.journal.closed


async def test_a_flood_of_lines_keeps_the_screen_alive_and_what_is_lost_is_counted() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        line = LogLine(box.clock.time(), "glm-code.service", "x" * 300)

        def flood() -> None:
            for _ in range(20_000):
                box.journal.sink(line)

        thread = threading.Thread(target=flood)
        thread.start()
        thread.join()
        begun = time.perf_counter()
        box.app.flush()
        await pilot.press("down")
        assert time.perf_counter() - begun < 10.0
        assert box.app.dashboard.journal.dropped == 20_000 - CAPACITY
        assert f"{20_000 - CAPACITY} dropped" in box.app.dashboard.journal.text()


async def test_the_journal_stands_still_and_counts_what_is_new() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        for number in range(100):
            box.journal.sink(LogLine(box.clock.time(), "glm-code.service", f"line {number}"))
        box.app.flush()
        await pilot.press("f")
        for number in range(100, 130):
            box.journal.sink(LogLine(box.clock.time(), "glm-code.service", f"line {number}"))
        box.app.flush()
        await pilot.pause()
        journal = box.app.dashboard.journal
        assert "standing still, 30 new" in journal.text()
        assert journal.text().endswith("line 99")
        await pilot.press("tab", "pageup")
        assert "line 99" not in journal.text()
        await pilot.press("f")
        await pilot.pause()
        assert journal.text().endswith("line 129")


async def test_help_opens_and_closes() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(box.app.screen, HelpScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert not isinstance(box.app.screen, HelpScreen)


def title_of(box: Box) -> str:
    return box.app.screen.query_one("#plan").text()  # type: ignore[attr-defined,no-any-return]


async def test_blank_is_not_planned_against_what_a_running_switch_has_half_done() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        begin(box)
        await ask(box, pilot, "b")
        await pilot.pause()
        assert "planned and checked when that has ended" in title_of(box)
        assert "asked to cancel" in title_of(box)
        assert box.commands.asked == []
        await pilot.press("enter")
        await until(pilot, lambda: box.commands.asked == [("submit", "blank")])
        assert "cancelling" in box.app.dashboard.steps.text()


async def test_a_plan_gives_way_when_a_switch_begins() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await ask(box, pilot, "2")
        begin(box)
        await until(pilot, lambda: "planned and checked when that has ended" in title_of(box))


async def test_a_plan_on_screen_follows_the_units_but_not_every_second_of_them() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await ask(box, pilot, "4")
        box.commands.answer = SystemdUnavailable("no user bus")
        box.clock.advance(5.0)
        await shown(box, pilot)
        assert box.commands.asked == [("plan", "nemotron")]
        box.host.die("glm-code")
        await shown(box, pilot)
        await until(pilot, lambda: "no user bus" in title_of(box))
        assert len(box.commands.asked) == 2
        box.host.units.start("glm-code.service")
        box.clock.advance(0.4)
        await shown(box, pilot)
        assert len(box.commands.asked) == 2
        box.clock.advance(0.8)
        await shown(box, pilot)
        await until(pilot, lambda: len(box.commands.asked) == 3)


async def test_a_plan_that_was_closed_does_not_come_back() -> None:
    box = Box("glm-code")
    looked = threading.Event()
    plan = box.commands.plan

    def slow(mode: str, /) -> SwitchPlan:
        if box.commands.asked:
            looked.wait(60.0)
        return plan(mode)

    box.commands.plan = slow  # type: ignore[method-assign]
    async with box.app.run_test(size=(80, 24)) as pilot:
        await ask(box, pilot, "4")
        box.host.die("glm-code")
        box.clock.advance(2.0)
        await shown(box, pilot)
        await pilot.press("escape")
        await pilot.press("2")
        looked.set()
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        assert "Switch to rag" in title_of(box)


async def test_events_after_the_view_was_left_are_not_taken_for_shown() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        begin(box)
        await pilot.pause()
        box.app.exit()
        assert not box.emit(SwitchEnded(ModeResult(True, "nemotron")))
