"""Where graphs and bars of 1 to 16 GPUs stand in a panel of so many cells; pure."""

from dataclasses import dataclass
from typing import Final

GRAPH_LEAST: Final = 4
"""Rows of the lowest graph, between its headings and its time axis; higher ones are multiples of it, which gives their
scale even labels."""
GRAPH_GOOD: Final = 10
"""With headings and time axis."""
LOAD_FROM: Final = 8
"""Rows of the lowest graph under which the load of the GPU has a row, too."""
GRAPH_MOST: Final = 18
GRAPH_WIDTH: Final = 56
"""Cells below which graphs do not stand side by side."""
ONE_HEADING: Final = 112
"""Cells from which on one row holds memory, load, heat and power; a narrower graph has two."""
BAR_LEAST: Final = 5
"""Cells of the smallest bar: a number and a block."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """`across` GPUs side by side, each `width` cells wide and `height` rows high."""

    graphs: bool
    across: int
    width: int
    height: int

    @property
    def headings(self) -> int:
        """Rows above a graph."""
        return _headings(self.width)

    @property
    def load(self) -> bool:
        """Whether there is a row for the load under the graph and its time axis."""
        return self.graphs and (self.height - self.headings - 1) % GRAPH_LEAST == 1

    def rows(self, count: int) -> int:
        """Rows of all."""
        return -(-count // self.across) * self.height

    def shown(self, count: int, height: int) -> int:
        """How many of `count` GPUs fit into so many rows."""
        return min(count, height // self.height * self.across)


def graphs_in(count: int, width: int, height: int, *, most: int = GRAPH_MOST) -> Arrangement | None:
    """Graphs in so many cells, one above the other where that leaves them high enough; None: there is no room.

    `most`: rows of the highest one, but for its load.
    """
    best: Arrangement | None = None
    for across in range(1, max(1, min(count, width // GRAPH_WIDTH)) + 1):
        frame = _headings(width // across) + 1
        each = min(most, height // -(-count // across))
        graph = (each - frame) // GRAPH_LEAST * GRAPH_LEAST
        each = graph + frame
        if graph >= LOAD_FROM and (each + 1) * -(-count // across) <= height:
            each += 1
        if each > frame and (best is None or each > best.height):
            best = Arrangement(True, across, width // across, each)
        if best is not None and best.height >= GRAPH_GOOD:
            break
    return best


def bars_in(count: int, width: int, height: int) -> Arrangement:
    """A bar each in at most so many rows, as few side by side as that takes."""
    across = min(-(-count // max(1, height)), max(1, width // BAR_LEAST))
    return Arrangement(False, max(1, across), width // max(1, across), 1)


def arrange(count: int, width: int, height: int, *, graphs: bool | None = None) -> Arrangement:
    """What a panel of this size shows; `graphs` False: bars, also where there is room for more."""
    found = graphs_in(count, width, height) if graphs is not False else None
    return found or bars_in(count, width, height)


def _headings(width: int) -> int:
    return 1 if width >= ONE_HEADING else 2
