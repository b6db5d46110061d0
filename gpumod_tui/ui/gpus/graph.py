"""The history of one GPU as rows of blocks: its memory, stacked by who holds it, and its load; pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from rich.style import Style

from gpumod_tui.core.status.history import Column
from gpumod_tui.core.text import GIB
from gpumod_tui.ui.common.rows import Row
from gpumod_tui.ui.theme.styles import ACCENT, DIM, FOREIGN, OTHER, RELEASING, TEXT

AXIS_WIDTH: Final = 5
FOREIGN_NAME: Final = "not managed"
RELEASING_NAME: Final = "releasing"
HATCHED: Final = {FOREIGN_NAME: "▒", RELEASING_NAME: "░"}
"""Memory of no unit, told from units by its texture."""
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_STEPS_GIB: Final = (1, 2, 4, 6, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128)
_HATCHED_FROM: Final = 3
"""Eighths of a cell: a texture fills whole cells only."""
_REVERSED: Final = Style(reverse=True)


@dataclass(frozen=True, slots=True)
class Part:
    """What one holder has of a column."""

    name: str
    """Service id or one of `HATCHED`; empty: the card's own."""
    style: Style
    amount_bytes: int


@dataclass(frozen=True, slots=True)
class _Cell:
    char: str
    style: Style
    name: str = ""
    """Who fills all of it."""


_EMPTY: Final = _Cell(" ", TEXT)
_Stack = tuple[tuple[str, Style, int], ...]
"""Name, style and upper edge in eighths of a row of each part, from the bottom up."""


def parts_of(column: Column, colour: Callable[[str], Style]) -> list[Part]:
    """Who holds what, from the bottom up, the same in graphs and bars."""
    parts = [Part("", OTHER, column.other_bytes)]
    parts += [Part(name, colour(name), amount) for name, amount in column.by_unit.items()]
    parts.append(Part(FOREIGN_NAME, FOREIGN, column.foreign_bytes))
    parts.append(Part(RELEASING_NAME, RELEASING, column.releasing_bytes))
    return [part for part in parts if part.amount_bytes > 0]


def graph_rows(
    columns: Sequence[Column | None],
    total_bytes: int,
    height: int,
    colour: Callable[[str], Style],
    cursor: int | None = None,
) -> list[Row]:
    """The graph with its axis; the scale is fixed from 0 to the whole card. `cursor`: a column to stand out.

    A holder's name stands in its band wherever the band is long enough: colour is not its only sign.
    """
    labels = _axis(total_bytes, height)
    known: dict[_Stack, tuple[_Cell, ...]] = {}
    upright = []
    for column in columns:
        stack = _stack(column, total_bytes, height, colour) if column else ()
        # Neighbours look alike most of the time, and this runs at every tick.
        if stack not in known:
            known[stack] = tuple(_cell(stack, (height - 1 - y) * 8) for y in range(height))
        upright.append(known[stack])
    grid = [list(cells) for cells in zip(*upright, strict=True)] or [[] for _ in labels]
    if cursor is not None:
        for cells in grid:
            cells[cursor] = _marked(cells[cursor])
    _write_names(grid)
    rows: list[Row] = []
    for label, cells in zip(labels, grid, strict=True):
        row: Row = [(label, DIM)]
        row.extend(
            ("".join(cell.char for cell in run), style) for style, run in groupby(cells, lambda cell: cell.style)
        )
        rows.append(row)
    return rows


def load_row(columns: Sequence[Column | None], cursor: int | None = None) -> Row:
    """The load in each column; a space where it is unknown, and never one where it is 0."""
    cells = [
        _EMPTY if column is None or column.load_percent is None else _Cell(_eighths(column.load_percent), DIM)
        for column in columns
    ]
    if cursor is not None:
        cells[cursor] = _marked(cells[cursor])
    row: Row = [(f"{'load':>{AXIS_WIDTH - 1}} ", DIM)]
    row.extend(("".join(cell.char for cell in run), style) for style, run in groupby(cells, lambda cell: cell.style))
    return row


def _eighths(percent: int) -> str:
    return _BLOCKS[min(8, max(1, round(percent * 8 / 100)))]


def named(rows: Sequence[Row], name: str) -> bool:
    """Whether the holder's name stands in its band."""
    return any(text.strip() == name for row in rows for text, _ in row)


def _axis(total_bytes: int, height: int) -> list[str]:
    total_gib = total_bytes / GIB
    steps = [step for step in _STEPS_GIB if 2 <= step / total_gib * height <= height]
    # Labels at even distances are read at a glance: the step that falls on whole rows best.
    step = min(steps, key=lambda step: (abs(_rows(step, total_gib, height)), step), default=0)
    labels = [" " * (AXIS_WIDTH - 1) + "│"] * height
    for value in range(step, int(total_gib + 0.5) + 1, step) if step else ():
        place = min(height - 1, max(0, height - round(value / total_gib * height)))
        labels[place] = f"{value:>{AXIS_WIDTH - 2}} ┤"
    return labels


def _rows(step: int, total_gib: float, height: int) -> float:
    """How far a step is from whole rows."""
    rows = step / total_gib * height
    return round(rows - round(rows), 1)


def _stack(column: Column, total_bytes: int, height: int, colour: Callable[[str], Style]) -> _Stack:
    edges: list[tuple[str, Style, int]] = []
    summed = 0
    for part in parts_of(column, colour):
        summed += part.amount_bytes
        edge = min(height * 8, round(summed / total_bytes * height * 8))
        if edge > (edges[-1][2] if edges else 0):
            edges.append((part.name, part.style, edge))
    return tuple(edges)


def _cell(stack: _Stack, floor: int) -> _Cell:
    """One cell, whose lower edge is `floor` eighths high."""
    inside = [(name, style, min(8, edge - floor)) for name, style, edge in stack if edge > floor]
    if not inside:
        return _EMPTY
    name, style, edge = inside[0]
    above = inside[1] if len(inside) > 1 else None
    if above is not None and above[0] in HATCHED and above[2] - edge >= 4:
        # A texture has no parts of cells: it gets the cell that is mostly its own.
        (name, style, edge), above = above, None
    if name in HATCHED and edge >= _HATCHED_FROM:
        return _Cell(HATCHED[name], style, name)
    if edge >= 8:
        return _Cell("█", style, name)
    if above is not None and above[0] != RELEASING_NAME:
        # Two holders meet in this cell: the lower one is the block, the upper one its background.
        style += Style(bgcolor=above[1].color)
    return _Cell(_BLOCKS[edge], style)


def _marked(cell: _Cell) -> _Cell:
    return _Cell("│", ACCENT if cell.char == " " else cell.style + _REVERSED)


def _write_names(grid: list[list[_Cell]]) -> None:
    """Each name once, at the end of the longest run that its holder fills; of equal runs in the middle one."""
    runs: dict[str, list[tuple[int, int, int]]] = {}
    for y, cells in enumerate(grid):
        x = 0
        for name, run in groupby(cells, key=lambda cell: cell.name):
            length = len(list(run))
            x += length
            if name and length >= len(name) + 4:
                runs.setdefault(name, []).append((length, y, x))
    for name, found in runs.items():
        longest = max(length for length, _, _ in found)
        best = [(y, x) for length, y, x in found if length == longest]
        y, end = best[len(best) // 2]
        begin = end - len(name) - 3
        style = grid[y][begin].style + _REVERSED
        grid[y][begin : end - 1] = [_Cell(char, style, name) for char in f" {name} "]
