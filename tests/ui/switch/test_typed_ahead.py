"""Keys that come in one piece, as over a slow line: each goes to what the ones before it opened."""

from dataclasses import replace
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from gpumod_tui.ui.messages import UnitWish
from gpumod_tui.ui.palette.screen import CommandScreen
from gpumod_tui.ui.switch.plan import PlanView
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.units.details import DetailsScreen
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, dialog_text, plan_for, until


async def burst(box: Box, pilot: Pilot[Any], *keys: str) -> None:
    """All at once; none waits for what the one before it did."""
    for key in keys:
        box.app.post_message(events.Key(key, {"slash": "/"}.get(key, key) if len(key) == 1 or key == "slash" else None))
    await pilot.pause()


async def test_a_filter_of_units_gets_what_was_typed_with_its_key() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await burst(box, pilot, "slash", "e", "m", "b")
        await until(pilot, lambda: box.app.dashboard.units.needle == "emb")
        assert box.commands.asked == []


async def test_a_prompt_of_the_journal_gets_what_was_typed_with_its_key() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        box.app.dashboard.journal.focus()
        await pilot.pause()
        await burst(box, pilot, "slash", "e", "x", "b")
        await until(pilot, lambda: box.app.dashboard.journal.prompt.value == "exb")
        assert box.commands.asked == []


async def test_the_palette_gets_what_was_typed_with_its_key_and_does_it() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await burst(box, pilot, "ctrl+p", "q", "x", "b", "s")
        await until(pilot, lambda: isinstance(box.app.screen, CommandScreen) and box.app.screen.typed == "qxbs")
        await burst(box, pilot, "backspace", "escape")
        await until(pilot, lambda: box.app.screen is box.app.dashboard)
        await burst(box, pilot, "ctrl+p", "b", "l", "a", "n", "k", "backspace", "k", "enter")
        await until(pilot, lambda: box.commands.asked == [("plan", "blank")])


async def test_a_plan_does_not_open_over_what_was_opened_meanwhile() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await burst(box, pilot, "1", "enter")
        await until(pilot, lambda: ("plan", "blank") in box.commands.asked)
        for _ in range(5):
            await pilot.pause(0.05)
        assert not [screen for screen in box.app.screen_stack if isinstance(screen, PlanScreen)]
        await pilot.press("enter")
        assert ("submit", "blank") not in box.commands.asked


async def test_a_key_that_is_pressed_twice_opens_one_screen() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        for _ in range(2):
            box.app.post_message(UnitWish("details", "glm-code"))
        await until(pilot, lambda: isinstance(box.app.screen, DetailsScreen))
        await pilot.pause()
        assert len(box.app.screen_stack) == 2


async def opened_plan(box: Box, pilot: Pilot[None]) -> PlanScreen:
    """The plan of mode 4, just open."""
    await shown(box, pilot)
    await pilot.press("4")
    await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
    screen = box.app.screen
    assert isinstance(screen, PlanScreen)
    return screen


async def test_a_plan_is_agreed_to_by_nobody_who_is_still_typing() -> None:
    box = Box("glm-code")
    box.app._switches._guard_s = 3600.0
    async with box.app.run_test(size=(120, 40)) as pilot:
        screen = await opened_plan(box, pilot)
        await until(pilot, lambda: "needed: 22.5" in screen.query_one(PlanView).text())
        assert "enter" not in dialog_text(box)
        await pilot.press("enter", "y", "enter")
        assert box.commands.asked == [("plan", "nemotron")]
        screen.open_to_keys()
        await until(pilot, lambda: "enter do it" in dialog_text(box))
        await pilot.press("enter")
        await until(pilot, lambda: ("submit", "nemotron") in box.commands.asked)


async def test_a_key_makes_a_plan_wait_until_nobody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    resets: list[object] = []
    monkeypatch.setattr("textual.timer.Timer.reset", lambda timer: resets.append(timer))
    box = Box("glm-code")
    box.app._switches._guard_s = 3600.0
    async with box.app.run_test(size=(120, 40)) as pilot:
        screen = await opened_plan(box, pilot)
        await pilot.press("enter", "x")
        assert resets.count(screen._guard) == 2
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(box.app.screen, PlanScreen))


async def test_a_plan_that_becomes_another_one_is_agreed_to_anew() -> None:
    box = Box("glm-code")
    box.app._switches._guard_s = 3600.0
    async with box.app.run_test(size=(120, 40)) as pilot:
        screen = await opened_plan(box, pilot)
        view = screen.query_one(PlanView)
        await until(pilot, lambda: "needed: 22.5" in view.text())
        for plan, stays_open in ((plan_for(), True), (replace(plan_for(), stop=("vllm-embedding",)), False)):
            screen.open_to_keys()
            screen.show_plan(plan, "")
            await until(pilot, lambda stays_open=stays_open: ("enter do it" in dialog_text(box)) == stays_open)
