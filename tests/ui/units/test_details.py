"""The screen of one unit: complete, scrolled by keys, and read again while it is open."""

from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.core.models import LogLine
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.keys.footer import FooterLine
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.theme.styles import UnitColours
from gpumod_tui.ui.units.details import DetailsScreen
from gpumod_tui.ui.units.details_rows import SECTIONS, page_of
from gpumod_tui.ui.units.model_picker import PickerScreen
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, until


def sheet(box: Box) -> Sheet:
    assert isinstance(box.app.screen, DetailsScreen)
    return box.app.screen.query_one(Sheet)


async def open_details(box: Box, pilot: Pilot[Any]) -> Sheet:
    await shown(box, pilot)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(box.app.screen, DetailsScreen) and "State" in sheet(box).text())
    await pilot.pause()
    return sheet(box)


def text_of(box: Box, service: str, width: int = 100) -> str:
    assert box.commands.manager is not None
    page = page_of(box.commands.manager.details(service), width, box.clock.time(), UnitColours(()))
    return "\n".join("".join(text for text, _ in row) for row in page.lines)


def test_it_tells_everything() -> None:
    box = Box("glm-code")
    box.host.script("glm-code").enabled = True
    box.film(70)
    text = text_of(box, "glm-code")
    for words in (
        "1 State",
        "active running, since",
        "(1 min)",
        "started (enabled)",
        "none yet",
        "7070, held by the guard",
        "VRAM held      19.5 GiB",
        "declared       20.0 GiB",
        "GLM-4.7-Flash-UD-Q4_K_XL: 20.0 GiB (declared; it was never measured)",
        "19.5 GiB on GPU 0",
        "llama-server --alias GLM-4.7-Flash-UD-Q4_K_XL",
        "Wants          gpumod-guard.socket",
        "gpumod template install glm-code would change this",
        "-TimeoutStopSec=20",
        "ExecCondition=/usr/local/bin/gpumod preflight --unit %n",
        "6 Journal",
    ):
        assert words in text, words


def test_a_unit_that_failed_says_how_and_one_that_never_ran_says_so() -> None:
    box = Box("glm-code")
    box.host.die("glm-code", 42)
    text = text_of(box, "glm-code")
    assert "last result    exit-code" in text
    assert "exit status 42" in text
    assert "Main process exited, code=exited, status=42" in text
    assert " none\n" in text
    never = text_of(box, "nemotron-3-nano")
    assert "no lines" in never
    assert "inactive dead" in never


@pytest.mark.parametrize("width", [38, 80, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    box = Box("glm-code")
    box.host.journal.write("glm-code.service", "漢字" * 50 + "\x1b[2J")
    for line in text_of(box, "glm-code", width).splitlines():
        assert cell_len(line) <= width, line
    assert "\x1b" not in text_of(box, "glm-code", width)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40)])
async def test_keys_lead_through_it_and_back(size: tuple[int, int]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=size) as pilot:
        page = await open_details(box, pilot)
        assert page.text().splitlines()[1].startswith("─ 1 State")
        await pilot.press("down")
        await pilot.pause()
        assert page.top == 1
        for number, section in enumerate(SECTIONS[1:4], 2):
            await pilot.press("tab")
            await pilot.pause()
            assert f"{number} {section}" in page.text()
        await pilot.press("shift+tab", "5")
        await pilot.pause()
        assert "5 Unit file" in page.text()
        await pilot.press("end")
        await pilot.pause()
        assert "is loaded" in page.text() or "glm-code" in page.text()
        assert "↓" not in page.text().splitlines()[0]
        await pilot.press("pageup", "pagedown", "home")
        await pilot.pause()
        assert page.top == 0
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(box.app.screen, Dashboard)


async def test_it_reads_again_while_it_is_open_and_stays_where_one_looks() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        page = await open_details(box, pilot)
        await pilot.press("down", "down")
        await pilot.pause()
        box.host.die("glm-code")
        box.clock.advance(3.0)
        box.snapshots.push(box.look())
        await until(pilot, lambda: "exit-code" in page.text())
        assert page.top == 2


async def test_a_look_that_fails_is_told_above_the_older_one() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        page = await open_details(box, pilot)
        box.host.units.error = "no user bus"
        box.clock.advance(3.0)
        box.snapshots.push(box.look())
        await until(pilot, lambda: "not read again: no user bus" in page.text())
        assert "1 State" in page.text()


async def test_nothing_known_at_all_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box("glm-code")

    def fail(_service: str) -> None:
        raise SystemdUnavailable("no user bus", hint="loginctl enable-linger")

    monkeypatch.setattr(box.commands, "details", fail)
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("enter")
        await until(
            pilot,
            lambda: (
                isinstance(box.app.screen, DetailsScreen)
                and "no user bus (loginctl enable-linger)" in sheet(box).text()
            ),
        )


def test_lines_of_the_journal_are_coloured_by_level() -> None:
    box = Box("glm-code")
    box.host.journal.write("glm-code.service", "cudaMalloc failed", priority=3)
    assert box.commands.manager is not None
    details = box.commands.manager.details("glm-code")
    assert isinstance(details.journal[-1], LogLine)
    page = page_of(details, 80, box.clock.time(), UnitColours(()))
    styles = {style for row in page.lines for text, style in row if text == "cudaMalloc failed"}
    assert [style.color.name for style in styles if style.color] == ["#f47067"]


# -- what can be done from there -----------------------------------------------------------------------------------


def footer(box: Box) -> str:
    return box.app.screen.query_one(FooterLine).text()


async def test_what_is_valid_for_the_unit_is_offered_and_changes_with_its_state() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(200, 60)) as pilot:
        await open_details(box, pilot)
        for words in ("x stop", "r restart", "l load", "u unload", "p sleep", "e enable", "1-6 part", "close"):
            assert words in footer(box), footer(box)
        assert "s start" not in footer(box)
        box.host.die("glm-code")
        box.snapshots.push(box.look())
        await until(pilot, lambda: "s start" in footer(box))
        assert "c clear" in footer(box)
        assert "x stop" not in footer(box)


@pytest.mark.parametrize("key", ["x", "r", "p"])
async def test_what_is_planned_is_planned_over_the_dashboard(key: str) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await open_details(box, pilot)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        assert not any(isinstance(screen, DetailsScreen) for screen in box.app.screen_stack)
        verb = {"x": "stop", "r": "restart", "p": "sleep"}[key]
        assert ("plan", verb, "glm-code") in box.commands.asked
        await pilot.press("y")
        await until(pilot, lambda: ("submit", verb, "glm-code") in box.commands.asked)


async def test_a_model_is_picked_and_what_needs_no_plan_leaves_the_screen_open() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await open_details(box, pilot)
        await pilot.press("e")
        await until(pilot, lambda: ("act", "enable glm-code") in box.commands.asked)
        assert isinstance(box.app.screen, DetailsScreen)
        await pilot.press("l")
        await until(pilot, lambda: isinstance(box.app.screen, PickerScreen))


async def test_nothing_is_offered_where_one_only_looks() -> None:
    box = Box("glm-code", options=ViewOptions(read_only=True))
    async with box.app.run_test(size=(200, 60)) as pilot:
        await open_details(box, pilot)
        assert "stop" not in footer(box)
        await pilot.press("x", "e", "l")
        await pilot.pause()
        assert isinstance(box.app.screen, DetailsScreen)
        assert box.commands.asked == []
