"""The modes with their keys."""

from textual import events
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import Mode, ModeTruth, Snapshot
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, spread, strip, width_of
from gpumod_tui.ui.keys.hints import Hint
from gpumod_tui.ui.messages import Ask
from gpumod_tui.ui.switch.progress import Progress
from gpumod_tui.ui.theme.styles import CHOSEN, DIM, KEY, TEXT, WARN


class ModeBar(Painted):
    """One row; the recorded mode stands in brackets, with a word where the box is not in it any more."""

    snapshot: var[Snapshot | None] = var(None)
    progress: var[Progress | None] = var(None)
    ends: var[tuple[Hint, ...]] = var(())
    """Keys that stand to the right where there is room."""

    def __init__(
        self,
        registry: ServiceRegistry,
        places: tuple[str, ...],
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """`places`: ids in the order of their numbers; those of no mode leave their number free."""
        super().__init__(id=id)
        self._modes = numbered(registry, places)
        self._spans: dict[str, range] = {}
        """Where each mode stands in the row."""
        self._keys: dict[range, str] = {}
        """The key that stands there."""
        self._problems = len(registry.problems)

    def on_click(self, event: events.Click) -> None:
        """That mode."""
        for mode_id, span in self._spans.items():
            if event.x in span:
                self.post_message(Ask("mode", mode_id))
        for span, key in self._keys.items():
            if event.x in span:
                self.app.simulate_key(key)

    def watch_ends(self) -> None:
        """Other keys are valid."""
        self.repaint()

    def adopt(self, registry: ServiceRegistry, places: tuple[str, ...]) -> None:
        """The catalog has changed."""
        self._modes = numbered(registry, places)
        self._problems = len(registry.problems)
        self.repaint()

    def watch_snapshot(self) -> None:
        """The mode may have drifted."""
        self.repaint()

    def watch_progress(self) -> None:
        """A switch may have begun."""
        self.repaint()

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """Number and id of each mode; of more than there is room for, those around the one that matters."""
        cells = [self._cell(number, mode) for number, mode in self._modes]
        end: Row = []
        if self._problems:
            end = [(f"  {self._problems} broken preset file(s): gpumod preset check", WARN)]
        elif len(self._modes) == 1:
            end = [("  no modes defined yet: gpumod preset list", DIM)]
        first, last = _around(cells, self._place, width - 1)
        row: Row = [(" ", TEXT), *([("‹ ", DIM)] if first else [])]
        self._spans.clear()
        for (_, mode), cell in zip(self._modes[first:last], cells[first:last], strict=True):
            self._spans[mode.id] = range(width_of(row), width_of(row) + width_of(cell))
            row += cell
        row += [*([("› ", DIM)] if last < len(cells) else []), *end]
        return [strip(spread(row, self._ends(width - width_of(row)), width), width)]

    def _ends(self, room: int) -> Row:
        """Keys to the right, all of them or none."""
        self._keys.clear()
        row: Row = []
        for hint in self.ends:
            row += [(f"  {hint.key}", KEY), (f" {hint.words}", DIM)]
        row.append((" ", TEXT))
        if width_of(row) > room:
            return []
        at = self.size.width - width_of(row)
        for hint in self.ends:
            size = len(hint.key) + len(hint.words) + 3
            self._keys[range(at + 2, at + size)] = hint.press
            at += size
        return row

    @property
    def _switching(self) -> str | None:
        return self.progress.target if self.progress is not None and self.progress.running else None

    @property
    def _current(self) -> str | None:
        view = self.snapshot.mode if self.snapshot is not None else None
        return self._switching or (view.mode if view is not None else None)

    @property
    def _place(self) -> int:
        current = self._current
        return next((place for place, (_, mode) in enumerate(self._modes) if mode.id == current), 0)

    def _cell(self, number: int, mode: Mode) -> Row:
        key = str(number) if number <= 9 else " "
        if mode.id == self._switching:
            return [(f" ▸{key} {mode.id}… ", CHOSEN)]
        if self._switching is not None and self.progress is not None and mode.id == self.progress.waiting:
            return [(f"  {key} ", KEY), (f"{mode.id} next ", WARN)]
        view = self.snapshot.mode if self.snapshot is not None else None
        if view is None or view.mode != mode.id or self._switching is not None:
            return [(f"  {key} ", KEY), (f"{mode.id}  ", TEXT)]
        if view.truth is ModeTruth.REACHED:
            return [(" ", TEXT), (f"[{key} {mode.id}]", CHOSEN), (" ", TEXT)]
        return [(" [", WARN), (f"{key} ", KEY), (f"{mode.id}: {view.truth}] ", WARN)]


def numbered(registry: ServiceRegistry, places: tuple[str, ...]) -> tuple[tuple[int, Mode], ...]:
    """Modes with their numbers."""
    return tuple((number, registry.modes[name]) for number, name in enumerate(places, 1) if name in registry.modes)


def _around(cells: list[Row], place: int, width: int) -> tuple[int, int]:
    """The first, and the one behind the last, of as many cells as fit beside marks where others are left out, with
    the one at `place` among them."""
    first, last = 0, len(cells)

    def wide() -> int:
        return sum(map(width_of, cells[first:last])) + 2 * (first > 0) + 2 * (last < len(cells))

    while wide() > width and last - first > 1:
        if last - 1 > place:
            last -= 1
        else:
            first += 1
    return first, last
