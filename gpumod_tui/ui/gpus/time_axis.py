"""The time axis under a graph: marks of what happened, and the clock where they leave room; pure."""

from collections.abc import Iterable
from itertools import groupby
from typing import Final

from rich.style import Style

from gpumod_tui.core.status.markers import Mark, MarkKind
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, clip
from gpumod_tui.ui.theme.styles import ACCENT, BAD, DIM, TEXT, WARN

SIGNS: Final = {
    MarkKind.BEGAN: ("△", DIM),
    MarkKind.ENDED: ("▲", ACCENT),
    MarkKind.CANCELLED: ("○", WARN),
    MarkKind.REFUSED: ("⊘", WARN),
    MarkKind.FAILED: ("✖", BAD),
}
_IMPORTANT_FIRST: Final = tuple(reversed(MarkKind))
_LABEL_LEAST: Final = 4
"""Cells: less of a word says nothing."""
_TICKS_S: Final = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_TICK_APART: Final = 14

Cells = list[tuple[str, Style]]


def words_of(mark: Mark) -> str:
    """What a mark says of itself."""
    word = {MarkKind.REFUSED: "refused ", MarkKind.CANCELLED: "cancelled "}.get(mark.kind, "")
    return f"{word}{mark.words}"


def axis_cells(count: int, newest: int, cell_s: float, marks: Iterable[Mark], legend: Row) -> Row:
    """`count` cells, the last of which is number `newest` of `cell_s` seconds since 1970.

    A sign for each mark, words to its right as far as nothing else stands there; `legend` to the far right, and times
    of day in what is left.
    """
    cells: Cells = [(" ", TEXT)] * count
    placed = [(count - 1 - (newest - int(mark.at // cell_s)), mark) for mark in marks]
    placed = [(place, mark) for place, mark in placed if 0 <= place < count]
    placed.sort(key=lambda entry: (_IMPORTANT_FIRST.index(entry[1].kind), -entry[1].at))
    standing = []
    for place, mark in placed:
        if cells[place][0] == " ":
            cells[place] = SIGNS[mark.kind]
            standing.append((place, mark))
    for place, mark in standing:
        _write(cells, place, words_of(mark), SIGNS[mark.kind][1])
    _put(cells, count - sum(len(text) for text, _ in legend), legend)
    _ticks(cells, newest, cell_s)
    return [("".join(char for char, _ in run), style) for style, run in groupby(cells, key=lambda cell: cell[1])]


def _write(cells: Cells, place: int, words: str, style: Style) -> None:
    """To the right of the sign; to its left only where the axis ends, so that no word stands between two signs."""
    right = _free(cells, place + 1, 1)
    left = _free(cells, place - 1, -1)
    if len(cells) - place - 1 < len(words) < left:
        _put(cells, place - len(words), [(words, style)])
        return
    # One cell stays free before whatever comes next; the end of the axis needs none.
    room = right if place + 1 + right == len(cells) else right - 1
    if room >= min(len(words), _LABEL_LEAST):
        _put(cells, place + 1, [(clip(words, room), style)])


def _free(cells: Cells, place: int, step: int) -> int:
    count = 0
    while 0 <= place < len(cells) and cells[place][0] == " ":
        count, place = count + 1, place + step
    return count


def _put(cells: Cells, place: int, row: Row) -> None:
    """Write the row if all of it lies on free cells."""
    text = [(char, style) for words, style in row for char in words]
    if place >= 0 and place + len(text) <= len(cells) and all(cell[0] == " " for cell in cells[place:][: len(text)]):
        cells[place : place + len(text)] = text


def _ticks(cells: Cells, newest: int, cell_s: float) -> None:
    every_s = next((step for step in _TICKS_S if step / cell_s >= _TICK_APART), _TICKS_S[-1])
    number = (newest + 1) * cell_s // every_s
    while (place := len(cells) - 1 - (newest - int(number * every_s // cell_s))) >= 0:
        label = f"╵{fmt.clock(number * every_s, with_seconds=every_s < 60)}"
        before = place - 1
        if before < 0 or cells[before][0] == " ":
            _put(cells, place, [(f"{label} ", DIM)])
        number -= 1
