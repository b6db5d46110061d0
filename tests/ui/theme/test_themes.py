"""Themes, the terminal's own 16 colours, no colour at all, and plain ASCII: the same screen tells the same."""

import re

import pytest
from rich.color import Color
from rich.style import Style
from textual.strip import Strip

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.ui.common.rows import strip
from gpumod_tui.ui.gpus.graph import FOREIGN_NAME, HATCHED, RELEASING_NAME
from gpumod_tui.ui.gpus.rows import FREE, RESERVED
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.theme import styles
from gpumod_tui.ui.theme.ascii import ASCII
from gpumod_tui.ui.theme.styles import DIM, FOREIGN, OTHER, RELEASING, TEXT, UNIT_COLOURS
from gpumod_tui.ui.theme.themes import SKINS, Look
from tests.ui.counted import CountedApp
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, a_long_day, until

_PALETTE = {name: style for name, style in vars(styles).items() if isinstance(style, Style)}
THEMED = [name for name in SKINS if name is not Theme.DARK]


def _colours(style: Style) -> set[str]:
    return {colour.name for colour in (style.color, style.bgcolor) if colour is not None}


@pytest.mark.parametrize("theme", THEMED)
def test_every_colour_of_the_palette_has_its_counterpart(theme: Theme) -> None:
    known = {*SKINS[theme].colours, *_colours(styles.CURSOR)}
    for name, style in _PALETTE.items():
        assert _colours(style) <= known, name
    assert set(styles.UNIT_COLOURS) <= known


def _luminance(name: str) -> float:
    red, green, blue = (
        part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in Color.parse(name).get_truecolor()
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [Theme.DARK, Theme.LIGHT, Theme.CONTRAST])
def test_words_and_units_stand_out_from_the_background(theme: Theme) -> None:
    skin = SKINS[theme]
    assert skin.theme.background is not None
    below = _luminance(skin.theme.background)
    least = 7.0 if theme is Theme.CONTRAST else 4.5
    for name in ("TEXT", "STRONG", "DIM", "ACCENT", "GOOD", "WARN", "BAD"):
        colour = _PALETTE[name].color
        assert colour is not None
        above = _luminance(skin.colours.get(colour.name, colour.name))
        high, low = max(above, below), min(above, below)
        assert (high + 0.05) / (low + 0.05) >= least, name
    units = [skin.colours.get(colour, colour) for colour in styles.UNIT_COLOURS]
    for unit in units:
        high, low = max(_luminance(unit), below), min(_luminance(unit), below)
        assert (high + 0.05) / (low + 0.05) >= 3.0, unit


@pytest.mark.parametrize("theme", list(SKINS))
def test_units_stay_apart(theme: Theme) -> None:
    colours = SKINS[theme].colours
    units = [Color.parse(colours.get(colour, colour)).get_truecolor() for colour in styles.UNIT_COLOURS]
    for place, one in enumerate(units):
        for other in units[:place]:
            assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) >= 60


def test_without_colour_units_are_told_apart_by_what_their_blocks_are_made_of() -> None:
    look = Look(SKINS[Theme.ANSI], colour=False)
    blocks = [look.dress(strip([("█■", Style(color=colour))], 2)).text for colour in styles.UNIT_COLOURS]
    assert len(set(blocks)) == len(blocks)
    assert all(mark[0] == mark[1] for mark in blocks)


def test_ascii_keeps_every_cell_where_it_was() -> None:
    texts = ["█▇▆▅▄▃▂▁▉▊▋▌▍▎▏░▒▓", "─━│┤└┃▐▸▲✔✖●○◐◆", "“–…· ×°C ü é 漢字 \u2826\u28ff", "naïve"]
    look = Look(ascii_only=True)
    for text in texts:
        before = strip([(text, styles.TEXT)], 40)
        after = look.dress(before)
        assert after.text.isascii()
        assert (len(after.text), after.cell_length) == (40, before.cell_length)
    assert "naive" in look.dress(strip([("naïve", styles.TEXT)], 8)).text
    assert "✔".translate(ASCII) != "✖".translate(ASCII)


def _rows(box: Box) -> list[Strip]:
    screen = box.app.screen
    return [row for widget in screen.query("Painted") for row in widget.render_lines(widget.size.region)]


@pytest.mark.parametrize("keys", ["", "?", "3"])
async def test_the_whole_screen_is_ascii_where_that_is_wanted(keys: str) -> None:
    box = a_long_day(ViewOptions(ascii_only=True))
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        for key in keys:
            await pilot.press("question_mark" if key == "?" else key)
            await pilot.pause(0.2)
        text = "\n".join(row.text for row in _rows(box))
        assert "glm-code" in text or keys
        assert not re.findall(r"[^\x00-\x7f]", text)


async def test_no_colour_reaches_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    box = a_long_day()
    box.app = box.make(CountedApp)
    written: list[str] = []
    async with box.app.run_test(size=(120, 40)) as pilot:
        driver = box.app._driver
        assert driver is not None
        monkeypatch.setattr(driver, "write", written.append)
        await shown(box, pilot)
        await pilot.press("tab", "question_mark", "escape", "3", "escape", "T")
        await pilot.pause()
    text = "".join(written)
    assert "glm-code" in text
    codes = {code for group in re.findall(r"\x1b\[([\d;]*)m", text) for code in group.split(";")}
    assert codes & {"1", "7"}
    assert not {code for code in codes if code and 30 <= int(code) <= 109 and code not in ("39", "49")}


async def test_a_key_goes_through_the_themes_and_every_row_follows() -> None:
    box = a_long_day()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        seen: list[tuple[str, frozenset[str]]] = []
        for _ in range(5):
            styles = {segment.style for row in _rows(box) for segment in row}
            seen.append((box.app.theme, frozenset(str(style) for style in styles)))
            await pilot.press("T")
            await until(pilot, lambda before=seen[-1][0]: box.app.theme != before)
        names = [name for name, _ in seen]
        assert names == ["gpumod", "gpumod-light", "gpumod-contrast", "gpumod-ansi", "gpumod"]
        assert seen[0][1] == seen[4][1]
        dark = "#0f1216"
        for name, texts in seen[1:4]:
            assert not any(f"on {dark}" in style for style in texts), name


@pytest.mark.parametrize(("ascii_only", "colour"), [(False, False), (True, False), (True, True)])
def test_who_holds_memory_is_told_without_colour(*, ascii_only: bool, colour: bool) -> None:
    look = Look(ascii_only=ascii_only, colour=colour)
    units = [[("█", Style(color=name))] for name in UNIT_COLOURS]
    others = [[("█", OTHER)], [(HATCHED[FOREIGN_NAME], FOREIGN)], [(HATCHED[RELEASING_NAME], RELEASING)]]
    free = [[(FREE, DIM)], [(RESERVED, DIM)], [(" ", TEXT)]]
    painted = [look.dress(strip(row, 1)).text for row in (*units, *others, *free)]
    assert len(set(painted)) == len(painted), painted
    squares = [look.dress(strip([("■", Style(color=name))], 1)).text for name in UNIT_COLOURS]
    assert squares == painted[: len(units)], "the unit table is the legend"
