"""What stands for a glyph where there is only ASCII, and what tells units apart where there is no colour."""

import unicodedata
from collections.abc import Mapping
from typing import Final

from rich.cells import get_character_cell_size
from rich.style import Style

from gpumod_tui.ui.theme import styles

FOCUS_MARK: Final = "▐"
"""The first cell of the pane that has the focus."""
HEAVY: Final = str.maketrans("─", "━")
"""The line of the heading of the pane that has the focus."""

_KNOWN: Final = {
    **dict.fromkeys("─╌┄", "-"),
    **dict.fromkeys("━═", "="),
    **dict.fromkeys("│┃║╎", "|"),
    **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯", "+"),
    **dict.fromkeys("█▇▆▉▊▋▌■", "#"),
    **dict.fromkeys("▅▄▃▍▎", "="),
    **dict.fromkeys("▂▁▏", "_"),
    **dict.fromkeys("▓▞▚", "%"),
    "▒": ":",
    "░": ".",
    FOCUS_MARK: ">",
    **dict.fromkeys("▸▶→▷»›", ">"),
    **dict.fromkeys("◂◀←◁«‹", "<"),
    "△": "(",
    "▲": ")",
    "↑": "^",
    **dict.fromkeys("▼▽↓▾", "v"),
    **dict.fromkeys("●•◉", "*"),
    **dict.fromkeys("○◌◦□", "o"),
    **dict.fromkeys("◐◑◆◇", "~"),
    **dict.fromkeys("✖✗✘×", "x"),
    **dict.fromkeys("✔✓", "v"),
    **dict.fromkeys("–—‑−", "-"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("‘’°′", "'"),
    "·": ".",
    "…": "~",
    "⏎": "<",
    "⌫": "<",
    "⊘": "/",
    "╵": "'",
    "╱": "/",
    "╲": "\\",
    "↻": "r",
    "≥": ">",
    "≤": "<",
    "Σ": "S",
    "µ": "u",
    "\N{NO-BREAK SPACE}": " ",
}
_DOTS: Final = " ..::::##"
"""By the number of a braille cell's dots."""


class _Ascii(dict[int, str]):
    """A table for str.translate that keeps the width of what it does not know."""

    def __missing__(self, code: int) -> str:
        found = self[code] = _stand_in(chr(code))
        return found


def _stand_in(char: str) -> str:
    if char.isascii():
        return char
    if "\N{BRAILLE PATTERN BLANK}" <= char <= "\N{BRAILLE PATTERN DOTS-12345678}":
        return _DOTS[(ord(char) - 0x2800).bit_count()]
    width = get_character_cell_size(char)
    base = unicodedata.normalize("NFKD", char)[0]
    return base if width == 1 and base.isascii() else "?" * width


ASCII: Final = _Ascii({ord(char): plain for char, plain in _KNOWN.items()})
"""For str.translate: one cell of ASCII for each cell of anything."""

_FILLS: Final = "█▓▚▞▤▥▦▧"
_ASCII_FILLS: Final = "#%@&$HXO"
"""None of them stands for memory of no unit, or for free memory."""
_OTHER_FILLS: Final[Mapping[Style, str]] = {styles.OTHER: "≡*", styles.FOREIGN: "▒:"}
"""Memory of no unit; the second in ASCII."""


def fills(colour: str, *, ascii_only: bool) -> dict[int, int]:
    """For str.translate, where colours do not tell units apart: what one's blocks are painted with instead; empty for
    other colours."""
    found = {style.color.name: chars[ascii_only] for style, chars in _OTHER_FILLS.items() if style.color is not None}
    found |= dict(zip(styles.UNIT_COLOURS, _ASCII_FILLS if ascii_only else _FILLS, strict=True))
    if colour not in found:
        return {}
    # In ASCII a block that is mostly full counts as full.
    return {ord(block): ord(found[colour]) for block in ("█■▇▆▅▉▊▋▌" if ascii_only else "█■")}
