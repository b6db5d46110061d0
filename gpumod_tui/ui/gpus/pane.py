"""GPU memory: a history graph for each GPU where there is room, one bar each where there is not."""

from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from textual.events import Click
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.models import GpuSample, Snapshot
from gpumod_tui.core.status.history import Column, History
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, fit, joined, rule, strip, width_of
from gpumod_tui.ui.gpus import rows as gpu_rows
from gpumod_tui.ui.gpus.alarms import AlarmBook
from gpumod_tui.ui.gpus.graph import AXIS_WIDTH, FOREIGN_NAME, HATCHED, RELEASING_NAME, graph_rows, load_row, named
from gpumod_tui.ui.gpus.layout import Arrangement, arrange
from gpumod_tui.ui.gpus.time_axis import SIGNS, axis_cells, words_of
from gpumod_tui.ui.theme.styles import BAD, DIM, FOREIGN, RELEASING, STRONG, WARN, UnitColours

CALM_S = 2.0
"""Load, heat and power move all the time: seconds between two updates of them."""
WINDOWS_MIN: Final = (1, 5, 10, 30, 60, 180, 360)
_USUAL: Final = WINDOWS_MIN.index(10)
_WIDE: Final = 150
"""Cells of a graph whose heading has room for every word."""
_UNDER_ALARM: Final = 5
"""Rows of the lowest graph that still spares one for an alarm."""


@dataclass(slots=True)
class _LookBack:
    """A frozen graph."""

    history: History
    """As it was then."""
    at: float
    """Unix time of the freezing."""
    end: float
    """Unix time at the right edge of the window, at most `at`."""
    cursor: int = 0
    """Columns left of the right edge."""


class GpuPanel(Pane):
    """Height: what the screen gives; the more, the higher the graphs."""

    class Reshaped(Message):
        """Bars are wanted in place of graphs, or the other way round: rows are to be shared out anew."""

    snapshot: var[Snapshot | None] = var(None)

    def __init__(self, history: History, colours: UnitColours, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._history = history
        self._colours = colours
        self._alarms = AlarmBook()
        self._calm: dict[int, GpuSample] = {}
        self._calm_at = 0.0
        self._window = _USUAL
        self._back: _LookBack | None = None
        self.graphs: bool | None = None
        """Whether graphs are wanted, or bars; None: as there is room."""

    def watch_snapshot(self) -> None:
        """New figures; the history has them already."""
        if self.snapshot is None:
            return
        reading = self.snapshot.gpus
        if not 0 <= self.snapshot.at - self._calm_at < CALM_S:
            self._calm_at = self.snapshot.at
            self._calm = {sample.index: sample for sample in reading.gpus} if reading else {}
        if reading is not None:
            self._alarms.take(reading)
        self.repaint()

    # -- what keys do ------------------------------------------------------------------------------------------

    @property
    def alarms(self) -> int:
        """How many nobody has acknowledged."""
        return len(self._alarms.open)

    @property
    def frozen(self) -> bool:
        """The graph stands still."""
        return self._back is not None

    @property
    def shows_graphs(self) -> bool:
        """Graphs, not bars."""
        return self._arrangement is not None and self._arrangement.graphs

    def acknowledge(self) -> None:
        """All alarms were seen."""
        self._alarms.acknowledge()
        self.repaint()

    def toggle(self) -> None:
        """Bars in place of graphs, or the other way round; the screen gives them their rows."""
        self.graphs = not self.shows_graphs
        if not self.graphs:
            self._back = None
        self.repaint()
        self.post_message(self.Reshaped())

    def freeze(self) -> None:
        """Stand still, with the cursor at the newest column."""
        if self.snapshot is not None:
            self._back = _LookBack(self._history.copy(), self.snapshot.at, self.snapshot.at)
            self.repaint()

    def unfreeze(self) -> None:
        """Show what is now."""
        self._back = None
        self.repaint()

    def move(self, by: int) -> None:
        """The cursor of a frozen graph, by columns; at the window's edges the window goes along."""
        back, count = self._back, self._room
        if back is None or not count:
            return
        cell_s = self._window_s / count
        wanted = back.cursor - by
        back.cursor = min(max(wanted, 0), count - 1)
        if wanted > back.cursor:
            oldest = min((at for gpu in self._gpus() if (at := back.history.since(gpu)) is not None), default=back.at)
            steps = min(wanted - back.cursor, max(0, int((back.end - self._window_s - oldest) / cell_s) + 1))
            back.end -= steps * cell_s
        back.end = min(back.at, back.end + max(0, -wanted) * cell_s)
        self.repaint()

    @property
    def window_min(self) -> int:
        """Minutes that the graph shows."""
        return WINDOWS_MIN[self._window]

    def show_window(self, minutes: int) -> None:
        """Another window from the first; one that does not exist changes nothing."""
        if minutes in WINDOWS_MIN:
            self._window = WINDOWS_MIN.index(minutes)

    def can_zoom(self, by: int) -> bool:
        """There are graphs, and a longer (positive) or shorter window."""
        return self.shows_graphs and 0 <= self._window + by < len(WINDOWS_MIN)

    def zoom(self, by: int) -> None:
        """The next window; a cursor stays at its time, as far as the new window reaches back."""
        at = self._cursor_at()
        self._window += by
        if self._back is not None and self._room:
            if self._back.end - at >= self._window_s:
                self._back.end = min(self._back.at, at + self._window_s / 2)
            cell_s = self._window_s / self._room
            cursor = int(self._back.end // cell_s) - int(at // cell_s)
            self._back.cursor = min(max(cursor, 0), self._room - 1)
        self.repaint()

    def wheel(self, lines: int) -> None:
        """Up looks closer, down further back."""
        by = 1 if lines > 0 else -1
        if self.can_zoom(by):
            self.zoom(by)

    def on_click(self, event: Click) -> None:
        """Freeze the graph with the cursor there."""
        plan, room = self._arrangement, self._room
        if plan is None or not room:
            return
        column = event.x % plan.width - AXIS_WIDTH
        if 0 <= column < room:
            if self._back is None:
                self.freeze()
            if self._back is not None:
                self._back.cursor = room - 1 - column
            self.repaint()
            self.refresh_bindings()

    def on_resize(self) -> None:
        """Bars do not look back."""
        if not self.shows_graphs:
            self._back = None

    # -- what is painted ---------------------------------------------------------------------------------------

    def rows(self, width: int, height: int) -> list[Strip]:
        """Graphs, bars, or why there are none."""
        if self.snapshot is None:
            return [strip([(" reading GPUs…", DIM)], width)]
        reading = self.snapshot.gpus
        if reading is None:
            return [strip([(" GPU ", STRONG), (f"cannot be read: {self.snapshot.gpu_error}", BAD)], width)]
        if not reading.gpus:
            return [strip([(" no NVIDIA GPU in this machine", WARN)], width)]
        plan = arrange(len(reading.gpus), width, height, graphs=self.graphs)
        shown = plan.shown(len(reading.gpus), height)
        blocks = [
            self._graph(sample, plan) if plan.graphs else [self._bar(sample, plan.width)]
            for sample in reading.gpus[:shown]
        ]
        done: list[Strip] = []
        for first in range(0, shown, plan.across):
            beside = blocks[first : first + plan.across]
            rows = (
                [run for part in parts for run in fit(part, plan.width)] for parts in zip_longest(*beside, fillvalue=[])
            )
            done.extend(strip(row, width) for row in rows)
        if shown < len(reading.gpus):
            last = done[-1].crop(0, width - 9)
            done[-1] = Strip.join([last, strip([(f" {len(reading.gpus) - shown} more ", WARN)], 9)])
        return done

    @property
    def _arrangement(self) -> Arrangement | None:
        count = len(self._gpus())
        return arrange(count, self.size.width, self.size.height, graphs=self.graphs) if count else None

    @property
    def _room(self) -> int:
        """Columns of a graph; 0: there are none."""
        plan = self._arrangement
        return plan.width - AXIS_WIDTH - 1 if plan is not None and plan.graphs else 0

    @property
    def _window_s(self) -> float:
        return WINDOWS_MIN[self._window] * 60.0

    def _key(self) -> str:
        """What acknowledges, as it is bound now; empty: nothing."""
        active = self.screen.active_bindings.values()
        bound = (entry.binding for entry in active if entry.binding.id == "gpu.acknowledge")
        return next((self.app.get_key_display(binding) for binding in bound), "")

    def _gpus(self) -> list[int]:
        reading = self.snapshot.gpus if self.snapshot is not None else None
        return [sample.index for sample in reading.gpus] if reading else []

    def _cursor_at(self) -> float:
        """Unix time at which the cursor's cell begins; 0.0: it cannot be seen."""
        if self._back is None or not self._room:
            return 0.0
        cell_s = self._window_s / self._room
        return (int(self._back.end // cell_s) - min(self._back.cursor, self._room - 1)) * cell_s

    def _graph(self, sample: GpuSample, plan: Arrangement) -> list[Row]:
        assert self.snapshot is not None
        back = self._back
        history, end = (back.history, back.end) if back else (self._history, self.snapshot.at)
        room = plan.width - AXIS_WIDTH - 1
        cells = history.cells(sample.index, end=end, window_s=self._window_s, count=room)
        cursor = min(room - 1, max(0, room - 1 - back.cursor)) if back else None
        window = self._end(history, sample, end, plan.width)
        beside = plan.width - width_of(window) - 7
        below = plan.width if plan.headings > 1 else 0
        if cursor is None:
            title = gpu_rows.headings(sample, self._calm.get(sample.index, sample), beside, below)
        else:
            title = self._past(sample, cells, cursor, beside, below)
        head = rule(title[0], window, plan.width)
        body = title[1:]
        alarms = self._alarms.of(sample.index)
        if alarms and plan.height >= _UNDER_ALARM:
            body.append(gpu_rows.alarm_row(alarms, plan.width, self._key()))
        elif sample.error is not None:
            body.append([(f"  {sample.error}", BAD)])
        height = plan.height - 2 - plan.load - len(body)
        # A GPU that was lost tells its size no more; what it showed before still stands on its scale.
        total = sample.total_bytes or max((cell.total_bytes or 0 for cell in cells if cell), default=0)
        if not total:
            return [head, *body, [("  memory: N/A", DIM)]]
        graph = graph_rows(cells, total, height, self._colours.style, cursor)
        cell_s = self._window_s / room
        legend = self._legend(cells, graph)
        axis = axis_cells(room, int(end // cell_s), cell_s, history.marks.marks, legend)
        load = [load_row(cells, cursor)] if plan.load else []
        return [head, *body, *graph, [(f"{0:>{AXIS_WIDTH - 2}} └", DIM), *axis], *load]

    def _past(
        self, sample: GpuSample, cells: tuple[Column | None, ...], cursor: int, width: int, below: int
    ) -> list[Row]:
        """What is known at the cursor, in rows like `gpu_rows.headings`."""
        assert self._back is not None
        column, at, cell_s = cells[cursor], self._cursor_at(), self._window_s / len(cells)
        colour = self._colours.style
        first = gpu_rows.moment(sample, column.at if column else at)
        here = [mark for mark in self._back.history.marks.marks if at <= mark.at < at + cell_s]
        marks: list[Row] = [[(f"{SIGNS[mark.kind][0]} {words_of(mark)}", SIGNS[mark.kind][1])] for mark in here]
        if not below:
            return [gpu_rows.values(column, width, colour, first=first, marks=marks)]
        happened = gpu_rows.fitting([(0, first), *((1 + place, mark) for place, mark in enumerate(marks))], width)
        return [happened, [("  ", DIM), *gpu_rows.values(column, below - 2, colour, first=[])]]

    def _end(self, history: History, sample: GpuSample, end: float, width: int) -> Row:
        """The right end of the heading: the window, since when it knows, and whether it stands still."""
        minutes = WINDOWS_MIN[self._window]
        row: Row = [(f"{minutes} min" if minutes < 60 else f"{minutes // 60} h", DIM)]
        since = history.since(sample.index)
        if self._back is not None:
            assert self.snapshot is not None
            behind = fmt.ago(self._back.at, self.snapshot.at)
            row = [("FROZEN", WARN), (f" {'' if behind == 'now' else behind + ' behind, '}", DIM), *row]
        elif since is not None and since > end - self._window_s:
            row = [(f"{'known ' if width >= _WIDE else ''}since {fmt.clock(since)}, ", DIM), *row]
        return row

    def _legend(self, cells: tuple[Column | None, ...], graph: list[Row]) -> Row:
        """Textures whose names do not stand in the graph."""
        legend: list[Row] = []
        for name, style, is_there in (
            (RELEASING_NAME, RELEASING, any(column and column.releasing_bytes for column in cells)),
            (FOREIGN_NAME, FOREIGN, any(column and column.foreign_bytes for column in cells)),
        ):
            if is_there and not named(graph, name):
                legend.append([(HATCHED[name], style), (f" {name}", DIM)])
        return joined(legend, "  ")

    def _bar(self, sample: GpuSample, width: int) -> Row:
        calm = self._calm.get(sample.index, sample)
        column = self._history.newest(sample.index)
        return gpu_rows.bar(sample, calm, column, self._alarms.of(sample.index), width, self._colours.style)
