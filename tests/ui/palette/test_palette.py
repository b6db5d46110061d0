"""The command palette: every action that is valid now, each mode, each unit's; found by typing."""

from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import Mode
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.ui.app import GpumodApp
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.modes.editor import ModeEditor
from gpumod_tui.ui.modes.simulate import WhatIfScreen
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.palette.screen import CommandScreen
from gpumod_tui.ui.switch.history import SwitchesScreen
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.units.details import DetailsScreen
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, until


def text(box: Box) -> str:
    return box.app.screen.query_one("CommandList").text()  # type: ignore[attr-defined,no-any-return]


async def opened(box: Box, pilot: Pilot[Any], typed: str = "") -> list[str]:
    await shown(box, pilot)
    await pilot.press("ctrl+p", *typed)
    await until(pilot, lambda: isinstance(box.app.screen, CommandScreen))
    await pilot.pause()
    return [line for line in text(box).splitlines()[2:] if line]


async def test_it_lists_modes_units_and_everything_else_with_keys() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 120)) as pilot:
        rows = await opened(box, pilot)
        assert rows[0].split() == ["▸", "Switch", "to", "blank", "1"]
        words = "\n".join(rows)
        for expected in ("glm-code: stop", "vllm-embedding: start", "Everywhere: next theme", "Journal: ", "GPUs: "):
            assert expected in words
        assert "glm-code: start" not in words
        assert "vllm-embedding: stop" not in words
        assert "previous unit" not in words
        assert box.app.dashboard.units.cursor == 0


async def test_typing_finds_and_enter_does_it_for_that_unit() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        assert len(await opened(box, pilot, "emb start")) == 1
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        assert box.commands.asked == [("plan", "start", "vllm-embedding")]


async def test_modes_beyond_the_ninth_are_reached_by_name() -> None:
    box = Box()
    services = box.host.registry.services
    modes = {f"mode-{number}": Mode(f"mode-{number}", f"Mode {number}", ()) for number in range(12)}
    box.host = DemoHost(
        box.clock, registry=ServiceRegistry(services, {"blank": box.host.registry.mode("blank"), **modes})
    )
    box.app = box.make(GpumodApp)
    async with box.app.run_test(size=(80, 24)) as pilot:
        await opened(box, pilot, "mode-11")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        assert box.commands.asked == [("plan", "mode-11")]


@pytest.mark.parametrize(
    ("keys", "kind"), [("enter", DetailsScreen), ("w", WhatIfScreen), ("h", SwitchesScreen), ("m n", ModeEditor)]
)
async def test_what_is_chosen_over_a_full_screen_is_done_on_the_dashboard(keys: str, kind: type[object]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        for typed, asked in (("to rag", ("plan", "rag")), ("emb start", ("plan", "start", "vllm-embedding"))):
            await pilot.press(*keys.split())
            await until(pilot, lambda: isinstance(box.app.screen, kind))
            await opened(box, pilot, typed)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
            assert len(box.app.screen_stack) == 2
            assert box.commands.asked[-1] == asked
            await pilot.press("escape")
            await until(pilot, lambda: box.app.screen is box.app.dashboard)


async def test_details_chosen_over_details_take_their_place_and_are_kept_up_to_date() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(box.app.screen, DetailsScreen))
        await opened(box, pilot, "glm details")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(box.app.screen, DetailsScreen))
        assert len(box.app.screen_stack) == 2
        box.host.die("glm-code")
        box.clock.advance(3.0)
        box.snapshots.push(box.look())
        await until(pilot, lambda: "exit-code" in box.app.screen.query_one(Sheet).text())
        await pilot.press("escape")
        await until(pilot, lambda: box.app.screen is box.app.dashboard)


async def test_what_was_changed_in_a_mode_is_lost_only_after_a_yes() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("m", "n")
        await until(pilot, lambda: isinstance(box.app.screen, ModeEditor))
        await pilot.press("x")
        for answer in ("escape", "y"):
            assert isinstance(box.app.screen, ModeEditor)
            await opened(box, pilot, "to rag")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
            assert box.commands.asked == []
            await pilot.press(answer)
            await pilot.pause()
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        assert box.commands.asked == [("plan", "rag")]


async def test_what_is_everywhere_leaves_a_full_screen_open() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("h")
        before = box.app.theme
        await opened(box, pilot, "next theme")
        await pilot.press("enter")
        await until(pilot, lambda: box.app.theme != before)
        assert isinstance(box.app.screen, SwitchesScreen)


async def test_what_does_not_match_is_said_and_backspace_and_escape_lead_back() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        rows = await opened(box, pilot, "zzz")
        assert rows == ["   nothing that is valid now matches"]
        await pilot.press("enter", "backspace", "backspace", "backspace", "down", "pagedown", "up")
        await pilot.pause()
        assert "▸ " in text(box)
        await pilot.press("escape")
        await pilot.pause()
        assert box.app.screen is box.app.dashboard
    assert box.commands.asked == []


async def test_a_read_only_palette_offers_nothing_that_acts() -> None:
    box = Box("glm-code", options=ViewOptions(read_only=True))
    async with box.app.run_test(size=(120, 120)) as pilot:
        words = "\n".join(await opened(box, pilot))
        assert "glm-code: details" in words
        for acting in ("Switch to", ": start", ": stop", ": restart", ": enable", ": load", "blank"):
            assert acting not in words, acting


async def test_it_fits_a_tiny_screen() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(40, 10)) as pilot:
        rows = await opened(box, pilot)
        assert len(rows) == 6
        await pilot.press(*["down"] * 8)
        await pilot.pause()
        assert text(box).splitlines()[-1].startswith("▸")
