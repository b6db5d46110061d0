"""The last line: the keys that are valid now."""

from textual import events
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, spread, strip, width_of
from gpumod_tui.ui.keys.hints import ENDS, Hint, ends, hints
from gpumod_tui.ui.theme.styles import DIM, KEY, TEXT

_MORE: Row = [("…  ", DIM)]


class FooterLine(Painted):
    """One row; what does not fit is left out, and an ellipsis says so. Help and quit are always there, to the right."""

    hints: var[tuple[Hint, ...]] = var(())
    ends: var[tuple[Hint, ...]] = var(())

    def __init__(self, *, ends: tuple[str, ...] = ENDS, id: str | None = None) -> None:  # noqa: A002
        """`ends`: ids of the bindings that are never left out."""
        super().__init__(id=id)
        self._ends = ends
        self._spans: dict[range, str] = {}
        """The key that stands there."""

    def on_mount(self) -> None:
        """What is valid changes with every key."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self.offer())
        self.offer()

    def offer(self) -> None:
        """What is valid on its screen now."""
        active, display = self.screen.active_bindings, self.app.get_key_display
        self.hints, self.ends = hints(active, display), ends(active, display, self._ends)

    def watch_hints(self) -> None:
        """Other keys are valid."""
        self.repaint()

    def watch_ends(self) -> None:
        """Other keys are valid."""
        self.repaint()

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """Keys and words."""
        self._spans.clear()
        right = [part for hint in self.ends for part in _row(hint)]
        room = width - width_of(right)
        left: Row = [(" ", TEXT)]
        whole = 1 + sum(width_of(_row(hint)) for hint in self.hints) <= room
        for hint in self.hints:
            more = _row(hint)
            if width_of(left) + width_of(more) + (0 if whole else width_of(_MORE)) > room:
                break
            self._spans[range(width_of(left), width_of(left) + width_of(more) - 2)] = hint.press
            left += more
        if not whole:
            left = spread(left, _MORE, room)
        at = room
        for hint in self.ends:
            self._spans[range(at, at + width_of(_row(hint)) - 2)] = hint.press
            at += width_of(_row(hint))
        return [strip(spread(left, right, width), width)]

    def on_click(self, event: events.Click) -> None:
        """As if that key were pressed."""
        for span, key in self._spans.items():
            if event.x in span and key:
                self.app.simulate_key(key)


def _row(hint: Hint) -> Row:
    return [(hint.key, KEY), (f" {hint.words}  ", DIM)]
