"""Which rows of which lines are on screen: at the end, or held fast at some line."""

from collections.abc import Callable, Sequence
from typing import Final

from gpumod_tui.ui.journal.entry import Entry

Place = tuple[int, int]
"""Index of an entry, and one of its rows."""
RowCount = Callable[[Entry], int]
_FIRST: Final = -(1 << 100)
"""Before any number."""


class LogWindow:
    """The first row is held by its entry's number, so that lines that come or go elsewhere do not move it."""

    def __init__(self) -> None:
        self._top: tuple[int, int] | None = None

    @property
    def follows(self) -> bool:
        """The last row is the newest."""
        return self._top is None

    def follow(self) -> None:
        """Go to the end and stay there."""
        self._top = None

    def stop(self, entries: Sequence[Entry], height: int, rows_of: RowCount) -> None:
        """Stay at what is on screen now."""
        if self._top is None:
            self._hold(next(iter(self.visible(entries, height, rows_of)), (0, 0)), entries)

    def go_to(self, index: int, entries: Sequence[Entry], rows_above: int, rows_of: RowCount) -> None:
        """Hold this one so many rows below the first."""
        self._hold(_back((index, 0), rows_above, entries, rows_of), entries)

    def visible(self, entries: Sequence[Entry], height: int, rows_of: RowCount) -> list[Place]:
        """What the rows show, at most `height` of them."""
        end = _back((len(entries), 0), height, entries, rows_of)
        start = end if self._top is None else min(self._start(entries, rows_of), end)
        return _forth(start, height, entries, rows_of)

    def scroll(self, by: int, entries: Sequence[Entry], height: int, rows_of: RowCount) -> int:
        """Move by rows, up when negative; it follows when it has come to the end. Rows up that there were not."""
        if not entries:
            return max(0, -by)
        end = _back((len(entries), 0), height, entries, rows_of)
        start = end if self._top is None else min(self._start(entries, rows_of), end)
        if by < 0:
            new = _back(start, -by, entries, rows_of)
            missing = -by - _distance(new, start, entries, rows_of)
        else:
            new = next(iter(_forth(start, by + 1, entries, rows_of)[by:]), end)
            missing = 0
        self._top = None
        if new < end:
            self._hold(new, entries)
        return missing

    def _hold(self, place: Place, entries: Sequence[Entry]) -> None:
        index, row = place
        if not entries:
            self._top = (_FIRST, 0)
        elif place == (0, 0) and not entries[0].is_mark:
            # A remark that comes to stand above the first line is to be seen.
            self._top = (entries[0].number - 1, 0)
        else:
            self._top = (entries[index].number, row)

    def _start(self, entries: Sequence[Entry], rows_of: RowCount) -> Place:
        assert self._top is not None
        number, row = self._top
        low, high = 0, len(entries)
        while low < high:
            middle = (low + high) // 2
            if entries[middle].number < number:
                low = middle + 1
            else:
                high = middle
        if low < len(entries) and entries[low].number == number:
            return low, min(row, rows_of(entries[low]) - 1)
        return low, 0


def _back(place: Place, rows: int, entries: Sequence[Entry], rows_of: RowCount) -> Place:
    """So many rows further up, or the first."""
    index, row = place
    rows -= row
    while rows > 0 and index > 0:
        index -= 1
        rows -= rows_of(entries[index])
    return (index, -rows) if rows <= 0 else (0, 0)


def _forth(place: Place, rows: int, entries: Sequence[Entry], rows_of: RowCount) -> list[Place]:
    """So many rows from here on."""
    done: list[Place] = []
    index, row = place
    while index < len(entries) and len(done) < rows:
        last = min(rows_of(entries[index]), row + rows - len(done))
        done += [(index, number) for number in range(row, last)]
        index, row = index + 1, 0
    return done


def _distance(start: Place, end: Place, entries: Sequence[Entry], rows_of: RowCount) -> int:
    return sum(rows_of(entries[index]) for index in range(start[0], end[0])) + end[1] - start[1]
