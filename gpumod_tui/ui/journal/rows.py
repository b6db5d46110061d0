"""Log lines as rows of cells."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from rich.style import Style

from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, chop, clip_middle, pad
from gpumod_tui.ui.journal.entry import Entry
from gpumod_tui.ui.journal.search import Pattern
from gpumod_tui.ui.theme.styles import ACCENT, BAD, CHOSEN, DIM, STRONG, TEXT, WARN, UnitColours

WHOLE: Final = 10_000
"""Rows a line may take when it is to be seen whole: more than any has."""
_NARROW: Final = 60
"""Columns from which on a line has room for seconds and for a name that is more than a hint."""
_SIGNS: Final = {4: "W", 5: "N", 6: " ", 7: "D"}
_MATCH: Final = Style(color=CHOSEN.color, bgcolor=WARN.color)
_THIS_MATCH: Final = CHOSEN + Style(underline=True)


class LogPainter:
    """Knows how a line looks: clock, level, unit, text with its own colours and with what was searched for."""

    def __init__(self, colours: UnitColours, name_width: int) -> None:
        self._colours = colours
        self._names = min(16, name_width)
        self.most_rows = 3
        """Of one line, as the operator wants it."""
        self.tight = False
        """There are so few rows that each line has one, whatever is wanted."""
        self.names = True
        """Whether the unit is told in each line."""
        self.search: Pattern | None = None
        self.current: Entry | None = None
        """The match that was gone to."""

    @property
    def _most(self) -> int:
        return 1 if self.tight else self.most_rows

    def rows_of(self, entry: Entry, width: int) -> int:
        """How many rows it takes."""
        return 1 if entry.is_mark else len(chop(entry.text, self._room(width), self._most))

    def row(self, entry: Entry, number: int, width: int) -> Row:
        """One of them."""
        if entry.is_mark:
            return [(f" ── {entry.text} ──", DIM)]
        style = _style(entry)
        pieces = chop(entry.text, self._room(width), self._most)
        start = sum(map(len, pieces[:number]))
        room = self._room(width)
        # The last piece holds all that is left; what cannot be seen of it needs no styles.
        text = list(self._painted(entry, start, pieces[number][: room * 4 + 4], style))
        if number:
            return [(" " * (width - room), TEXT), *text]
        name = self._name_width(width)
        here = entry is self.current
        clock = fmt.clock(entry.line.at, with_seconds=width >= _NARROW)
        head: Row = [("▸" if here else " ", ACCENT), (f"{clock} ", DIM)]
        head.append((f"{_SIGNS.get(entry.line.priority, 'E')} ", style))
        if name:
            service_id = entry.line.unit.removesuffix(".service")
            head.append((pad(clip_middle(service_id, name), name) + " ", self._colours.style(service_id)))
        return [*head, *text]

    def _painted(self, entry: Entry, start: int, piece: str, style: Style) -> Iterator[tuple[str, Style]]:
        end = start + len(piece)
        layers = list(entry.spans)
        if self.search is not None and entry.found:
            found = _THIS_MATCH if entry is self.current else _MATCH
            layers += [(first, last, found) for first, last in self.search.spans(entry.text)]
        layers = [layer for layer in layers if layer[0] < end and layer[1] > start]
        cuts = sorted({start, end, *(min(end, max(start, at)) for first, last, _ in layers for at in (first, last))})
        for here, there in pairwise(cuts):
            over = style
            for first, last, layer in layers:
                if first <= here and there <= last:
                    over = over + layer
            yield piece[here - start : there - start], over
        if not piece:
            yield "", style

    def _name_width(self, width: int) -> int:
        if not self.names:
            return 0
        return self._names if width >= 100 else min(self._names, 12 if width >= _NARROW else 5)

    def _room(self, width: int) -> int:
        name = self._name_width(width)
        clock = len("00:00:00 " if width >= _NARROW else "00:00 ")
        return max(1, width - 1 - clock - 2 - (name + 1 if name else 0))


def _style(entry: Entry) -> Style:
    priority = entry.line.priority
    if priority <= 3:
        return BAD
    if priority == 4:
        return WARN
    if entry.line.identifier == "systemd" or priority >= 7:
        return DIM
    return STRONG if priority == 5 else TEXT
