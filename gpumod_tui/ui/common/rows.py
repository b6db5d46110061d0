"""Rows of styled text, cut and padded to a width by cells."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from gpumod_tui.ui.journal.sanitize import harmless
from gpumod_tui.ui.theme.styles import DIM, RULE, TEXT

Row = list[tuple[str, Style]]
"""Runs of text in one style. Each run costs bytes on the line to the operator: few are best."""

_ELLIPSIS: Final = "…"


def width_of(row: Row) -> int:
    """In cells."""
    return sum(cell_len(text) for text, _ in row)


def clip(text: str, width: int) -> str:
    """Cut to a width in cells, with an ellipsis where something is lost."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1) + _ELLIPSIS if width > 0 else ""


def clip_middle(text: str, width: int) -> str:
    """Cut to a width with the ellipsis inside: names that begin alike are told apart by their ends."""
    if len(text) <= width or width < 5 or not text.isascii():
        return clip(text, width)
    head = (width - 1) * 3 // 5
    return f"{text[:head]}{_ELLIPSIS}{text[head + 1 - width :]}"


def pad(text: str, width: int) -> str:
    """Cut or padded on the right to exactly this width."""
    return set_cell_size(clip(text, width), width)


def rpad(text: str, width: int) -> str:
    """Cut or padded on the left to exactly this width."""
    text = clip(text, width)
    return " " * (width - cell_len(text)) + text


def spread(left: Row, right: Row, width: int, *, fill: str = " ", style: Style = TEXT) -> Row:
    """Left and right ends of a row; what does not fit is cut off the left part."""
    room = width - width_of(right)
    if room < 0:
        return fit(right, width)
    left = fit(left, room, padded=False)
    gap = room - width_of(left)
    return [*left, (fill * gap, style), *right] if gap else [*left, *right]


def fit(row: Row, width: int, *, padded: bool = True) -> Row:
    """Cut to a width, padded if wanted."""
    done: Row = []
    left = width
    for text, style in row:
        size = cell_len(text)
        if size > left:
            done.append((clip(text, left), style))
            left = 0
            break
        done.append((text, style))
        left -= size
    if padded and left > 0:
        done.append((" " * left, TEXT))
    return done


def rule(title: Row, right: Row, width: int) -> Row:
    """A heading of a panel: a line with a title in it."""
    left: Row = [("─ ", RULE), *title, (" ", RULE)] if title else [("─", RULE)]
    end: Row = [(" ", RULE), *right, (" ─", RULE)] if right else [("─", RULE)]
    return spread(left, end, width, fill="─", style=RULE)


def joined(parts: Iterable[Row], between: str = " · ") -> Row:
    """Rows one after the other."""
    done: Row = []
    for part in parts:
        if part:
            done.extend([(between, DIM), *part] if done else part)
    return done


def flowed(parts: Iterable[Row], lead: Row, width: int, between: str = " · ") -> list[Row]:
    """The same, broken where there is no room; `lead` before the first row, as much space before the others."""
    blank: Row = [(" " * width_of(lead), TEXT)]
    rows: list[Row] = []
    for part in parts:
        if rows and width_of(rows[-1]) + cell_len(between) + width_of(part) <= width:
            rows[-1] += [(between, DIM), *part]
        else:
            rows.append([*(blank if rows else lead), *part])
    return rows or [lead]


def strip(row: Row, width: int, *, under: Style | None = None) -> Strip:
    """What Textual paints: exactly `width` cells, neighbours of one style in one run, `under` beneath all of it."""
    segments: list[Segment] = []
    for text, style in fit(row, width):
        if under is not None:
            style = style + under
        if segments and segments[-1].style == style:
            segments[-1] = Segment(segments[-1].text + text, style)
        elif text:
            segments.append(Segment(text, style))
    return Strip(segments, width)


_CHARS_A_CELL = 4
"""At most, of a harmless text: a letter and what is combined with it."""


def wrap(text: str, width: int) -> list[str]:
    """Lines of whole words, one at least; a word that is too long stands alone and is cut when it is painted."""
    lines = [""]
    for word in harmless(text.replace("\n", " ")).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > max(20, width):
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines


def chop(text: str, width: int, most: int) -> list[str]:
    """Pieces of at most `width` cells, `most` of them, behind a space where there is one; what is left stays on the
    last one, to be cut there. Together they are the text's beginning, as far as it can be seen."""
    if len(text) <= width and text.isascii():
        return [text]
    return list(_pieces(text, max(1, width), most))


@lru_cache(256)
def _pieces(text: str, width: int, most: int) -> tuple[str, ...]:
    # Painted again and again while lines come, and only the beginning is seen.
    text = text[: (most + 1) * width * _CHARS_A_CELL]
    pieces: list[str] = []
    at, ascii_only = 0, text.isascii()
    while len(pieces) < most - 1 and at < len(text):
        piece = text[at : at + width] if ascii_only else _fitting(text[at : at + width * _CHARS_A_CELL], width)
        space = piece.rfind(" ") + 1
        if at + len(piece) < len(text) and space > len(piece) * 2 // 3:
            piece = piece[:space]
        pieces.append(piece)
        at += len(piece)
    return (*pieces, text[at:]) if at < len(text) or not pieces else tuple(pieces)


def _fitting(text: str, width: int) -> str:
    """The beginning of so many cells; one character at least."""
    return (chop_cells(text, width) or [""])[0] or text[:1]
