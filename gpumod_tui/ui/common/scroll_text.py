"""Rows of words that may be more than fit: scrolled by keys."""

from collections.abc import Sequence

from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, rule, strip
from gpumod_tui.ui.theme.styles import DIM, STRONG


class Sheet(Pane):
    """A heading and a part of the lines."""

    top: var[int] = var(0)
    """The first line shown."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        """Shown from the next lines on."""
        self._lines: tuple[Row, ...] = ()

    @property
    def page(self) -> int:
        """Lines that fit."""
        return max(1, self.size.height - 1)

    @property
    def overflows(self) -> bool:
        """There is more than fits."""
        return len(self._lines) > self.page

    def show(self, lines: Sequence[Row]) -> None:
        """Other lines; where they are looked at stays."""
        self._lines = tuple(lines)
        self.go_to(self.top)
        self.repaint()

    def go_to(self, line: int) -> None:
        """Show from this line on, and no further than the end."""
        self.top = max(0, min(line, len(self._lines) - self.page))

    def wheel(self, lines: int) -> None:
        """So many further."""
        self.go_to(self.top + lines)

    def watch_top(self) -> None:
        """Another part."""
        self.repaint()

    def rows(self, width: int, height: int) -> list[Strip]:
        """The heading says how much there is above and below."""
        below = len(self._lines) - self.top - (height - 1)
        more = " ".join(
            [*([f"{self.top} ↑"] if self.top else []), *([f"{below} ↓"] if below > 0 else [])],
        )
        head = rule([(self.title, STRONG)], [(more, DIM)] if more else [], width)
        return [strip(row, width) for row in (head, *self._lines[self.top : self.top + height - 1])]
