"""With a mouse: a click chooses what a key would, the wheel scrolls, and nothing is painted for it otherwise."""

from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widget import Widget

from gpumod_tui.core.models import LogLine
from gpumod_tui.ui.keys.help import HelpScreen
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, a_long_day, until


def place_of(widget: Any, words: str) -> tuple[int, int]:
    """The middle of these words."""
    for y, line in enumerate(widget.text().splitlines()):
        if words in line:
            return line.index(words) + len(words) // 2, y
    raise AssertionError(widget.text())


async def click(pilot: Pilot[Any], widget: Any, words: str) -> None:
    await pilot.click(widget, offset=place_of(widget, words))
    await pilot.pause()


async def wheel(pilot: Pilot[Any], widget: Widget, *, up: bool) -> None:
    from textual import events

    kind = events.MouseScrollUp if up else events.MouseScrollDown
    x, y = widget.region.x + 5, widget.region.y + 1
    event = kind(None, x, y, 0, 0, 0, False, False, False, screen_x=x, screen_y=y)
    pilot.app.screen._forward_event(event)
    await pilot.pause()


async def test_a_click_on_a_mode_shows_its_plan() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await click(pilot, box.app.dashboard.modes, "nemotron")
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        assert box.commands.asked == [("plan", "nemotron")]


async def test_a_click_on_a_unit_selects_it_and_its_pane() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        board = box.app.dashboard
        await pilot.press("tab")
        await click(pilot, board.units, "vllm-embedding")
        assert board.units.selected is not None
        assert (board.units.selected.id, board.focused) == ("vllm-embedding", board.units)
        await click(pilot, board.journal, "Journal")
        assert board.focused is board.journal


async def test_a_click_on_a_hint_is_its_key() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await click(pilot, box.app.dashboard.footer, "? help")
        await until(pilot, lambda: isinstance(box.app.screen, HelpScreen))
        await pilot.press("escape")
        await click(pilot, box.app.dashboard.footer, "x stop")
        await until(pilot, lambda: ("plan", "stop", "glm-code") in box.commands.asked)


async def test_the_wheel_scrolls_the_pane_under_it() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        for number in range(60):
            box.journal.sink(LogLine(box.clock.time(), "glm-code.service", f"line {number}"))
        box.app.flush()
        board = box.app.dashboard
        await wheel(pilot, board.journal, up=True)
        assert "line 56" in board.journal.text()
        assert "line 57" not in board.journal.text()
        assert board.units.has_focus
        for _ in range(3):
            await wheel(pilot, board.journal, up=False)
        assert "line 59" in board.journal.text()
        await wheel(pilot, board.units, up=False)
        assert board.units.cursor == 1
        await wheel(pilot, board.units, up=True)
        await wheel(pilot, board.units, up=True)
        assert board.units.cursor == 0


@pytest.mark.parametrize(("pane", "words"), [("modes", "nemotron"), ("footer", "x stop")])
async def test_a_read_only_dashboard_takes_no_click_for_a_command(pane: str, words: str) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        place = place_of(getattr(box.app.dashboard, pane), words)
        await pilot.click(getattr(box.app.dashboard, pane), offset=place)
        await until(pilot, lambda: box.commands.asked)
    box = Box("glm-code", options=ViewOptions(read_only=True))
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await pilot.click(getattr(box.app.dashboard, pane), offset=place)
        await pilot.pause(0.1)
        assert not isinstance(box.app.screen, PlanScreen)
    assert box.commands.asked == []


async def test_a_click_in_the_graph_looks_at_that_moment_and_the_wheel_looks_closer() -> None:
    box = a_long_day()
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        gpus = box.app.dashboard.gpus
        await click(pilot, gpus, "devstral-small-2")
        assert "FROZEN" in gpus.text()
        assert "devstral-small-2 14.3 · vllm-embedding 4.8" in gpus.text().splitlines()[0]
        await wheel(pilot, gpus, up=True)
        assert "FROZEN 5 min" in gpus.text()
        await wheel(pilot, gpus, up=False)
        assert "FROZEN 10 min" in gpus.text()
        assert "devstral-small-2 14.3" in gpus.text().splitlines()[0]
        await pilot.press("escape")
        await pilot.click(gpus, offset=(2, 4))
        assert "FROZEN" not in gpus.text()
        await click(pilot, gpus, "devstral-small-2")
        await pilot.resize_terminal(120, 24)
        await pilot.pause()
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert "FROZEN" not in gpus.text()
