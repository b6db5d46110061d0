"""What the terminal shows, cell by cell, so that of an update only the cells that differ are written."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.control import Control
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

_GAP: Final = 6
"""Equal cells between two that differ: to write so many costs less than to move the cursor and name the style anew."""
_OBEYED: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)))
"""Control characters, which take no cell: whatever was painted may name what strangers named."""
_Cell = tuple[str, Style | None]
"""Its character, and the style of that."""


class Cells:
    """What was written last. Textual writes each dirty region whole, from its widget's left edge."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, _Cell]] = {}
        """By y and x; what is not there is unknown, and differs from everything."""

    def forget(self) -> None:
        """Nothing is known of the terminal any more: the next update is written whole."""
        self._rows.clear()

    def only_changes(self, update: CompositorUpdate) -> CompositorUpdate:
        """The same update, of which nothing is written that is there already."""
        return _Changes(update, self) if isinstance(update, (ChopsUpdate, LayoutUpdate)) else update

    def take(self, x: int, y: int, strip: Strip) -> Iterator[tuple[int, list[_Cell]]]:
        """Take note of a strip that is to stand there; the runs of it that have to be written, each with its x."""
        row = self._rows.setdefault(y, {})
        cells = [(char, style) for text, style, control in strip if not control for char in _shown(text)]
        if not all(char.isascii() or get_character_cell_size(char) == 1 for char, _ in cells):
            # Wide and combining characters: where each stands is the terminal's to say; one at the beginning may join
            # the cell before.
            for place in range(x - 1, x + strip.cell_length):
                row.pop(place, None)
            yield x, cells
            return
        begin, end = 0, -_GAP
        for place, cell in enumerate(cells):
            if row.get(x + place) == cell:
                continue
            row[x + place] = cell
            if place - end > _GAP:
                if end > 0:
                    yield x + begin, cells[begin:end]
                begin = place
            end = place + 1
        if end > 0:
            yield x + begin, cells[begin:end]


class _Changes(CompositorUpdate):
    """Compared when it is written, not when it is made: one that never gets so far has changed no terminal."""

    def __init__(self, update: ChopsUpdate | LayoutUpdate, cells: Cells) -> None:
        self._update = update
        self._cells = cells

    def render_segments(self, console: Console) -> str:
        """Raw data for the terminal."""
        colours = console._color_system or ColorSystem.TRUECOLOR  # noqa: SLF001 - as Strip.render asks for it
        if isinstance(self._update, LayoutUpdate):
            # After a resize, or where frames were lost: nobody knows what the terminal made of what it had.
            self._cells.forget()
        written: list[str] = []
        for x, y, strip in _strips(self._update):
            for begin, run in self._cells.take(x, y, strip):
                written.append(Control.move_to(begin, y).segment.text)
                for style, cells in groupby(run, lambda cell: cell[1]):
                    text = "".join(char for char, _ in cells)
                    written.append(text if style is None else Strip.render_style(style, text, colours))
        return "".join(written)


def _shown(text: str) -> str:
    return text if text.isprintable() else text.translate(_OBEYED)


def _strips(update: ChopsUpdate | LayoutUpdate) -> Iterable[tuple[int, int, Strip]]:
    """What an update holds: x, y and the strip that stands there."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            yield update.region.x, y, Strip.join(list(line))
        return
    for y, begin, end in update.spans:
        for edge, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x < end and edge > begin:
                yield max(x, begin), y, strip.crop(max(0, begin - x), min(edge, end) - x)
