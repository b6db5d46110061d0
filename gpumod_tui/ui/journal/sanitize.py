"""Log lines as a terminal may show them: nothing that moves, hides or rings, and of their colours what can be read."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from rich.color import Color
from rich.style import Style

from gpumod_tui.ui.theme.styles import DIM

Span = tuple[int, int, Style]
"""From, to (characters), and what is laid over the style of the line."""

TAB: Final = "    "
_SPANS: Final = 32
"""A line with more changes of colour keeps the first: each costs bytes on the line to the operator."""
_MARKS: Final = 3
"""Combining characters that one letter may carry: piles of them reach into the rows above."""

# Every part ends at the next escape, so that no line takes more than one pass.
_ESCAPES: Final = re.compile(
    r"(?:\x1b\[|\x9b)(?P<sgr>[0-9;:]*)m"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: cursor, erase, modes
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS, …: titles, clipboard
    r"|\x1b[ -/]*[0-~]"
)
_CONTROLS: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
    # Format characters: they turn the direction, join, or show nothing.
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e007f]"
)
_VARIANTS: Final = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Terminals do not agree on the width of what they stand behind."""
_COMBINING: Final = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_PILES: Final = re.compile(f"({_COMBINING}{{{_MARKS}}}){_COMBINING}+")


def harmless(text: str) -> str:
    """A text without anything that moves the cursor, changes the terminal or hides text."""
    return text if text.isprintable() and text.isascii() else "".join(part for part, _ in _parts(text)).rstrip("·")


def coloured(message: str) -> tuple[str, tuple[Span, ...]]:
    """The harmless text of a message, and where its own colours (SGR) lie over it."""
    if message.isprintable() and message.isascii():
        return message, ()
    if "\x1b" not in message and "\x9b" not in message:
        return harmless(message), ()
    done: list[str] = []
    spans: list[Span] = []
    at, state = 0, _PLAIN
    for part, sgr in _parts(message):
        style = _style(state)
        if part and style is not None and len(spans) < _SPANS:
            spans.append((at, at + len(part), style))
        done.append(part)
        at += len(part)
        if sgr is not None:
            state = _changed(state, sgr)
    text = "".join(done).rstrip("·")
    return text, tuple((start, min(end, len(text)), style) for start, end, style in spans if start < len(text))


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    """Harmless pieces, each with the parameters of the SGR sequence behind it; None: something else, or the end."""
    at = 0
    for escape in _ESCAPES.finditer(text):
        yield _cleaned(text[at : escape.start()]), escape["sgr"]
        at = escape.end()
    yield _cleaned(text[at:]), None


def _cleaned(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return _PILES.sub(r"\1", _VARIANTS.sub("", _CONTROLS.sub("·", text.replace("\t", TAB))))


class _State(NamedTuple):
    """What SGR sequences so far came to.

    Backgrounds, reverse, blinking and concealment can hide text, or pretend to be a part of the screen: they are
    dropped.
    """

    colour: Color | None = None
    """None: the line's own."""
    bold: bool = False
    italic: bool = False
    underline: bool = False


_PLAIN: Final = _State()
_SWITCHES: Final[Mapping[int, dict[str, Any]]] = {
    1: {"bold": True},
    22: {"bold": False},
    3: {"italic": True},
    23: {"italic": False},
    4: {"underline": True},
    24: {"underline": False},
}


def _changed(state: _State, parameters: str) -> _State:
    codes = [int(code) if code and len(code) < 6 else 0 for code in re.split("[;:]", parameters)]
    place = 0
    while place < len(codes):
        code = codes[place]
        if code == 0:
            state = _PLAIN
        elif code in _SWITCHES:
            state = state._replace(**_SWITCHES[code])
        elif 30 <= code <= 37 or 90 <= code <= 97:
            state = state._replace(colour=_by_number(code - 30 if code < 90 else code - 82))
        elif code == 39:
            state = state._replace(colour=None)
        elif code in (38, 48, 58):
            colour, used = _extended(codes[place + 1 :], colons=":" in parameters)
            place += used
            if code == 38:
                state = state._replace(colour=colour)
        place += 1
    return state


def _extended(codes: list[int], *, colons: bool) -> tuple[Color | None, int]:
    """`5;n` or `2;r;g;b` (with colons there may be a colour space before r), and how many codes that took."""
    if codes[:1] == [5] and len(codes) > 1:
        return _by_number(codes[1]), 2
    if codes[:1] == [2]:
        extra = 1 if colons and len(codes) >= 5 else 0
        rgb = codes[1 + extra : 4 + extra]
        if len(rgb) == 3:
            return _readable(*rgb), 4 + extra
    return None, len(codes)


def _by_number(number: int) -> Color | None:
    """One of 256; black and white, which may be the background's, give way to what can be read."""
    if number in (0, 8):
        return DIM.color
    if number in (7, 15) or number > 255:
        return None
    if number < 16:
        return Color.from_ansi(number)
    return _readable(*Color.from_ansi(number).get_truecolor())


def _readable(red: int, green: int, blue: int) -> Color | None:
    """A colour, unless it is near black or near white: one of them is the background."""
    red, green, blue = (min(255, part) for part in (red, green, blue))
    light = (299 * red + 587 * green + 114 * blue) // 1000
    return Color.from_rgb(red, green, blue) if 60 <= light <= 205 else None


@lru_cache(256)
def _style(state: _State) -> Style | None:
    if state == _PLAIN:
        return None
    return Style(
        color=state.colour, bold=state.bold or None, italic=state.italic or None, underline=state.underline or None
    )
