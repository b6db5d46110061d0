"""Which pane keys act in, and that footer and help tell it."""

import re

import pytest

from gpumod_tui.core.events import SwitchEnded
from gpumod_tui.core.models import LogLine
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.keys.help import HelpScreen
from gpumod_tui.ui.theme.ascii import FOCUS_MARK
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.played import Box


def marked(box: Box) -> list[str | None]:
    """Ids of the panes that carry the mark."""
    board = box.app.dashboard
    return [pane.id for pane in (board.gpus, board.units, board.journal) if pane.text().startswith(FOCUS_MARK)]


async def test_tab_goes_round_the_panes_and_one_of_them_is_marked() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        seen = [marked(box)]
        for key in ("tab", "tab", "tab", "shift+tab"):
            await pilot.press(key)
            await pilot.pause()
            seen.append(marked(box))
        assert seen == [["units"], ["journal"], ["gpus"], ["units"], ["gpus"]]


async def test_arrows_act_in_the_pane_that_has_the_focus() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        for number in range(40):
            box.journal.sink(LogLine(box.clock.time(), "glm-code.service", f"line {number}"))
        box.app.flush()
        board = box.app.dashboard
        await pilot.press("down", "end")
        assert (board.units.cursor, board.journal.following) == (3, True)
        await pilot.press("home", "tab", "up", "up")
        assert (board.units.cursor, board.journal.following) == (0, False)
        assert board.journal.text().endswith("line 37")
        await pilot.press("end")
        assert board.journal.following


async def test_the_footer_offers_what_is_valid_now() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        footer = box.app.dashboard.footer
        assert "x stop  r restart" in footer.text()
        assert "s start" not in footer.text()
        await pilot.press("down")
        await pilot.pause()
        assert "s start" in footer.text()
        assert "x stop" not in footer.text()
        assert "/ filter" in footer.text()
        await pilot.press("tab", "tab")
        await pilot.pause()
        assert "/ filter" not in footer.text()
        begin(box)
        await pilot.pause()
        assert "esc cancel" in footer.text()
        box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
        await pilot.pause()
        assert "r retry" in footer.text()
        assert "esc close" in footer.text()


@pytest.mark.parametrize("key", ["s", "9"])
async def test_what_is_not_valid_now_is_not_done(key: str) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press(key)
        await pilot.pause()
        assert box.app.screen is box.app.dashboard
    assert box.commands.asked == []


async def test_the_footer_never_leaves_out_help_and_quit() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(40, 10)) as pilot:
        await shown(box, pilot)
        assert box.app.dashboard.footer.text().endswith("? help  q quit")


async def test_the_help_tells_the_keys_of_all_panes() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 60)) as pilot:
        await shown(box, pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(box.app.screen, HelpScreen)
        text = box.app.screen.query_one("Sheet").text()  # type: ignore[attr-defined]
        for topic in ("Modes and switches", "Units", "Journal", "GPUs", "Everywhere", "Signs"):
            assert re.search(rf"^ {topic}( |$)|   {topic}$", text, re.MULTILINE), topic
        assert "1-9         mode" in text
        assert "↑ ↓ pgup pgdn home end" in text
        assert "stop it" in text


@pytest.mark.parametrize("size", [(80, 24), (40, 10)])
async def test_a_help_longer_than_the_screen_is_scrolled(size: tuple[int, int]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        sheet = box.app.screen.query_one("Sheet")
        assert isinstance(sheet, Sheet)
        assert "Modes and switches" in sheet.text()
        seen = set(sheet.text().splitlines())
        for _ in range(60):
            await pilot.press("pagedown")
            await pilot.pause()
            seen |= set(sheet.text().splitlines())
        assert any("arrows and" in line for line in seen)
        assert any("belongs to no" in line for line in seen)
        await pilot.press("question_mark")
        await pilot.pause()
        assert box.app.screen is box.app.dashboard
