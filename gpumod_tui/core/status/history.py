"""What the graph of a GPU shows: load, heat, and what each unit held, second by second and, for longer, ten by ten."""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.models import GpuSample, Snapshot
from gpumod_tui.core.status.markers import MarkBook
from gpumod_tui.core.text import MIB

FINE_S: Final = 1.0
FINE_COLUMNS: Final = 660
"""Eleven minutes: a window of ten, and what a look back shifts it by."""
COARSE_S: Final = 10.0
COARSE_COLUMNS: Final = 2160
"""Six hours."""
_RELEASE_BYTES: Final = 64 * MIB
"""Some MiB come and go with contexts; only what is clearly more is a release under way."""
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Column:
    """One GPU at the moment of its highest use within some seconds; the newest column is the last sample. In bytes."""

    at: float
    """Unix time of that moment, seconds."""
    used_bytes: int | None = None
    """Where the GPU does not tell it: all that is not free. None: neither is known."""
    free_bytes: int | None = None
    total_bytes: int | None = None
    by_unit: Mapping[str, int] = field(default_factory=lambda: _NONE)
    """By service id."""
    foreign_bytes: int = 0
    """Processes of no managed unit."""
    releasing_bytes: int = 0
    """Nobody's any more, and not given back yet."""
    other_bytes: int = 0
    """Held by no process that NVML shows: the display, the driver itself."""
    unsized: bool = False
    """NVML lists processes and does not tell what they hold: it is in `other_bytes`."""
    load_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None


class _Cells:
    """Columns laid into cells: the highest in each cell that has one, and for the others what reaches into them."""

    def __init__(self, newest: int, cell_s: float, count: int, column_s: float) -> None:
        self._cell_s, self._column_s = cell_s, column_s
        self._first = newest - count + 1
        self._found: list[Column | None] = [None] * count
        self._held: list[Column | None] = [None] * count

    def copy(self) -> "_Cells":
        done = _Cells(0, self._cell_s, 0, self._column_s)
        done._first, done._found, done._held = self._first, self._found.copy(), self._held.copy()
        return done

    @property
    def begin(self) -> float:
        """Unix time from which on columns count."""
        return self._first * self._cell_s - 2 * self._column_s

    def put(self, column: Column, *, newest: bool = False) -> None:
        """Columns come in the order of time; `newest`: the last cell shows this one, the highest or not."""
        begin = column.at // self._column_s * self._column_s
        place, last = int(begin // self._cell_s) - self._first, len(self._found) - 1
        # A column as wide as several cells stands in all of them; so does one whose successor came a little late.
        reach = int((begin + 2 * self._column_s - 1e-6) // self._cell_s) - self._first
        for later in range(max(0, place), min(reach, last) + 1):
            self._held[later] = column
        if 0 <= place <= last:
            best = self._found[place]
            if best is None or (newest and place == last) or (column.used_bytes or 0) >= (best.used_bytes or 0):
                self._found[place] = column

    def all(self) -> tuple[Column | None, ...]:
        return tuple(cell or held for cell, held in zip(self._found, self._held, strict=True))


class _Ring:
    """Columns of one length, the newest of which is still open."""

    def __init__(self, column_s: float, columns: int) -> None:
        self.column_s = column_s
        self._closed: deque[Column] = deque(maxlen=columns)
        self._live: Column | None = None
        self._peak: Column | None = None
        self._laid: tuple[tuple[int, float, int], _Cells] | None = None
        """The closed columns in the cells that were asked for last: most ticks close none."""

    def __iter__(self) -> Iterator[Column]:
        yield from self._closed
        if self._live is not None:
            yield self._live

    def copy(self) -> "_Ring":
        ring = _Ring(self.column_s, self._closed.maxlen or 0)
        ring._closed, ring._live, ring._peak = self._closed.copy(), self._live, self._peak
        return ring

    def add(self, column: Column) -> None:
        if self._live is None or self._peak is None or self._number(column) > self._number(self._live):
            if self._peak is not None:
                self._closed.append(self._peak)
                self._laid = None
            self._peak = column
        elif (column.used_bytes or 0) >= (self._peak.used_bytes or 0):
            self._peak = column
        self._live = column

    def reaches(self, at: float) -> bool:
        """Whether nothing after that time was thrown away."""
        return len(self._closed) < (self._closed.maxlen or 0) or self._closed[0].at <= at

    def cells(self, newest: int, cell_s: float, count: int) -> tuple[Column | None, ...]:
        """The highest column in each of `count` cells, oldest first; the newest cell shows its last sample.

        A cell is a span of absolute time, so that what it shows does not change once it is over.
        """
        asked = (newest, cell_s, count)
        if self._laid is None or self._laid[0] != asked:
            laid = _Cells(*asked, self.column_s)
            recent = list(takewhile(lambda column: column.at >= laid.begin, reversed(self._closed)))
            for column in reversed(recent):
                laid.put(column)
            self._laid = (asked, laid)
        cells = self._laid[1]
        if self._live is not None:
            cells = cells.copy()
            cells.put(self._live, newest=True)
        return cells.all()

    def _number(self, column: Column) -> float:
        return column.at // self.column_s


@dataclass(slots=True)
class _Track:
    """One GPU."""

    rings: tuple[_Ring, ...]
    """The finest first."""
    newest: Column | None = None
    idle_bytes: int | None = None
    """The least that was ever held by nobody: the card's own."""


class History:
    """Memory of each GPU, fine for minutes and coarse for hours; single-threaded, and bounded."""

    def __init__(
        self,
        *,
        fine: tuple[float, int] = (FINE_S, FINE_COLUMNS),
        coarse: tuple[float, int] = (COARSE_S, COARSE_COLUMNS),
    ) -> None:
        """`fine` and `coarse`: seconds a column, and how many columns."""
        self._sizes = (fine, coarse)
        self._tracks: dict[int, _Track] = {}
        self.marks = MarkBook()
        """What happened meanwhile."""

    def copy(self) -> "History":
        """What is known now, to be looked at while new samples come in here."""
        done = History()
        done._sizes, done.marks = self._sizes, self.marks.copy()
        done._tracks = {gpu: replace(track, rings=_copies(track.rings)) for gpu, track in self._tracks.items()}
        return done

    def add(self, snapshot: Snapshot) -> None:
        """Take a snapshot in."""
        self.marks.take(snapshot)
        for sample in snapshot.gpus.gpus if snapshot.gpus else ():
            self._add(snapshot, sample)

    def newest(self, gpu: int) -> Column | None:
        """The last sample; None: there was none."""
        track = self._tracks.get(gpu)
        return track.newest if track else None

    def since(self, gpu: int) -> float | None:
        """Unix time of the oldest sample that is kept; None: there is none."""
        track = self._tracks.get(gpu)
        oldest = [next(iter(ring), None) for ring in track.rings] if track else []
        return min((column.at for column in oldest if column is not None), default=None)

    def cells(self, gpu: int, *, end: float, window_s: float, count: int) -> tuple[Column | None, ...]:
        """The window that ends at `end` in `count` cells, oldest first; None where nothing is known."""
        track = self._tracks.get(gpu)
        if track is None or count <= 0:
            return (None,) * max(0, count)
        cell_s = window_s / count
        newest = int(end // cell_s)
        begin = (newest - count + 1) * cell_s
        ring = next((ring for ring in track.rings if ring.reaches(begin)), track.rings[-1])
        return ring.cells(newest, cell_s, count)

    def _add(self, snapshot: Snapshot, sample: GpuSample) -> None:
        track = self._tracks.get(sample.index)
        if track is None or (track.newest is not None and snapshot.at < track.newest.at - COARSE_S):
            # A clock that was set back: what was known lies in the future now.
            track = self._tracks[sample.index] = _Track(tuple(_Ring(*size) for size in self._sizes))
        column = _column(track, snapshot, sample)
        for ring in track.rings:
            ring.add(column)
        track.newest = column


def _copies(rings: tuple[_Ring, ...]) -> tuple[_Ring, ...]:
    return tuple(ring.copy() for ring in rings)


def _column(track: _Track, snapshot: Snapshot, sample: GpuSample) -> Column:
    used = sample.used_bytes
    if used is None and sample.total_bytes is not None and sample.free_bytes is not None:
        used = sample.total_bytes - sample.free_bytes
    moving = Column(
        snapshot.at,
        load_percent=sample.utilization_percent,
        temperature_c=sample.temperature_c,
        power_w=sample.power_w,
    )
    if used is None:
        return moving
    before = track.newest
    by_unit: Mapping[str, int] = {
        view.id: amount for view in snapshot.services if (amount := view.vram_by_gpu.get(sample.index, 0)) > 0
    }
    if before is not None and before.by_unit == by_unit:
        # One mapping for hours in which nothing changes.
        by_unit = before.by_unit
    foreign = sum(holder.used_bytes or 0 for holder in snapshot.orphans if holder.gpu == sample.index)
    column = replace(
        moving,
        used_bytes=used,
        free_bytes=sample.free_bytes,
        total_bytes=sample.total_bytes,
        by_unit=by_unit,
        foreign_bytes=foreign,
    )
    if sample.processes is None and before is not None and before.used_bytes is not None:
        return _between(replace(column, unsized=before.unsized), before, track.idle_bytes or 0)
    nobodys = max(0, used - sum(by_unit.values()) - foreign)
    unsized = any(process.used_bytes is None for process in sample.processes or ())
    if sample.processes is None or unsized:
        return replace(column, other_bytes=nobodys, unsized=unsized)
    track.idle_bytes = nobodys if track.idle_bytes is None else min(nobodys, track.idle_bytes)
    over = nobodys - track.idle_bytes
    releasing = over if over >= _RELEASE_BYTES else 0
    return replace(column, releasing_bytes=releasing, other_bytes=nobodys - releasing)


def _between(column: Column, before: Column, idle_bytes: int) -> Column:
    """A column between two process lists, when only the sum is fresh.

    Growth is nobody's yet: it is laid to its unit with the next list, and must not read as memory being released.
    What a unit held that is down by now is on its way back, as far as it still shows in the sum.
    """
    used = column.used_bytes or 0
    known = sum(column.by_unit.values()) + column.foreign_bytes
    if known > used:
        by_unit = {name: amount * used // known for name, amount in column.by_unit.items()}
        return replace(column, by_unit=by_unit, foreign_bytes=column.foreign_bytes * used // known)
    vanished = sum(amount for name, amount in before.by_unit.items() if name not in column.by_unit)
    releasing = min(before.releasing_bytes + vanished, max(0, used - known - idle_bytes))
    return replace(column, releasing_bytes=releasing, other_bytes=min(before.other_bytes, used - known - releasing))
