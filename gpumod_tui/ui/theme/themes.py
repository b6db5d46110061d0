"""How the screen is dressed at the last moment: a theme's colours, the terminal's own 16, none, or plain ASCII.

Widgets paint with the palette's styles and any glyph of one cell. A `Look` translates both, so that no widget knows
which theme is on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.theme import BUILTIN_THEMES, Theme

from gpumod_tui.core.catalog.config import Theme as Kind
from gpumod_tui.ui.theme import styles
from gpumod_tui.ui.theme.ascii import ASCII, fills

_NAMES: Final = {
    "text": styles.TEXT,
    "strong": styles.STRONG,
    "dim": styles.DIM,
    "rule": styles.RULE,
    "accent": styles.ACCENT,
    "good": styles.GOOD,
    "warn": styles.WARN,
    "bad": styles.BAD,
    "foreign": styles.FOREIGN,
    "releasing": styles.RELEASING,
    "other": styles.OTHER,
    "chosen": styles.CHOSEN,
}


@dataclass(frozen=True, slots=True)
class Skin:
    """The colours of a theme, for each of the palette's; None: gpumod's own, as they are in the palette."""

    theme: Theme
    colours: Mapping[str, str]
    """New colour by the palette's colour; empty: as they are."""
    cursor: Style
    """What lies under a selected row."""


_NEITHER: Final = {"ansi-background": "ansi_default", "ansi-foreground": "ansi_default"}


def _colour(style: Style) -> str:
    assert style.color is not None
    return style.color.name


def _skin(name: str, words: str, units: str, cursor: Style, *, background: str, panel: str, dark: bool) -> Skin:
    """`words`: colours in the order of `_NAMES`; `units`: in that of the palette's."""
    colours = dict(zip((_colour(style) for style in _NAMES.values()), words.split(), strict=True))
    colours |= dict(zip(styles.UNIT_COLOURS, units.split(), strict=True))
    ansi = name == "ansi"
    by_name = dict(zip(_NAMES, words.split(), strict=True))
    css = {key: f"ansi_{by_name[key]}" if ansi else by_name[key] for key in ("accent", "good", "warn", "bad", "text")}
    theme = Theme(
        name=f"gpumod-{name}",
        primary=css["accent"],
        foreground=css["text"],
        background=background,
        surface=background,
        panel=panel,
        success=css["good"],
        warning=css["warn"],
        error=css["bad"],
        dark=dark,
        ansi=ansi,
        # Textual's own styles ask for what is named only here.
        variables={**BUILTIN_THEMES["ansi-dark"].variables, **_NEITHER} if ansi else {},
    )
    return Skin(theme, colours, cursor)


DARK: Final = Skin(styles.THEME, {}, styles.CURSOR)
SKINS: Final[Mapping[Kind, Skin]] = {
    Kind.DARK: DARK,
    Kind.LIGHT: _skin(
        "light",
        "#24292f #0b0f14 #5f6b76 #b6c0ca #0a66b0 #1a7f37 #8a5a00 #c3261b #a0452c #7a8590 #a9b4be #ffffff",
        "#1f6fb5 #b86a00 #2f8a3f #7d4fb0 #0f8577 #b8457a #7a7f12 #4b5bd6",
        Style(bgcolor="#d5e3f1"),
        background="#f7f9fb",
        panel="#e6ebf0",
        dark=False,
    ),
    Kind.CONTRAST: _skin(
        "contrast",
        "#f5f5f5 #ffffff #d0d0d0 #9a9a9a #5fd7ff #5fff5f #ffd700 #ff7a7a #ff9a6b #d1d1d1 #8f8f8f #000000",
        "#4db8ff #ffaf00 #5fff87 #d7a6ff #00e0d0 #ff87c3 #e6f05a #a9b4ff",
        Style(bgcolor="#004a99"),
        background="#000000",
        panel="#1c1c1c",
        dark=True,
    ),
    # Neither black nor white: who knows what the terminal's background is?
    Kind.ANSI: _skin(
        "ansi",
        "default default bright_black bright_black cyan green yellow red red bright_black bright_black black",
        "bright_blue yellow green magenta cyan bright_magenta bright_green bright_cyan",
        Style(underline=True),
        background="ansi_default",
        panel="ansi_default",
        dark=True,
    ),
}

_COLOURLESS: Final = Style(underline=True)


class Look:
    """A skin, with or without colour, with or without glyphs beyond ASCII. Not for two threads."""

    def __init__(self, skin: Skin = DARK, *, ascii_only: bool = False, colour: bool = True) -> None:
        self._skin = skin
        self._ascii = ascii_only
        self._colour = colour
        self._styles: dict[Style, Style] = {}
        self._fills: dict[Style, dict[int, int]] = {}

    @property
    def is_plain(self) -> bool:
        """Nothing is to be translated."""
        return self._skin is DARK and not self._ascii and self._colour

    def dress(self, strip: Strip) -> Strip:
        """The same cells in this look."""
        if self.is_plain:
            return strip
        return Strip([self._segment(text, style or Style.null()) for text, style, _ in strip], strip.cell_length)

    def _segment(self, text: str, style: Style) -> Segment:
        new = self._styles.get(style)
        if new is None:
            new = self._styles[style] = self._style(style)
        if not self._colour or self._ascii:
            table = self._fills.get(style)
            if table is None:
                table = self._fills[style] = fills(_name(style.color), ascii_only=self._ascii)
            text = text.translate(table)
        return Segment(text if not self._ascii or text.isascii() else text.translate(ASCII), new)

    def _style(self, style: Style) -> Style:
        is_cursor = style.bgcolor == styles.CURSOR.bgcolor
        if not self._colour:
            chosen = style.bgcolor is not None and style.color == styles.CHOSEN.color
            plain = Style(bold=style.bold, italic=style.italic, underline=style.underline, reverse=chosen or None)
            return plain + _COLOURLESS if is_cursor else plain
        new = style
        if style.color is not None:
            new += Style(color=self._skin.colours.get(_name(style.color), _name(style.color)))
        if is_cursor:
            new = _without_background(new) + self._skin.cursor
        elif style.bgcolor is not None:
            new += Style(bgcolor=self._skin.colours.get(_name(style.bgcolor), _name(style.bgcolor)))
        return new


def _name(colour: Color | None) -> str:
    return colour.name if colour is not None else ""


def _without_background(style: Style) -> Style:
    plain = Style(color=style.color, bold=style.bold, italic=style.italic, underline=style.underline)
    return plain + Style(reverse=style.reverse, strike=style.strike)


PLAIN: Final = Look()
