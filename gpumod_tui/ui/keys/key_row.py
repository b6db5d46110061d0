"""Keys with what they do, which may be clicked: the last row of every dialog."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from rich.style import Style
from textual import events
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, strip, width_of
from gpumod_tui.ui.keys.hints import Hint
from gpumod_tui.ui.theme.styles import KEY, TEXT

_GAP: Final = 3


class KeyLine(NamedTuple):
    """One row of them."""

    row: Row
    presses: dict[range, str]
    """Textual's name of the key that stands in these cells."""

    def press_at(self, x: int) -> str:
        """The key in this cell; empty: none."""
        return next((press for span, press in self.presses.items() if x in span), "")


def key_lines(hints: Iterable[Hint], width: int, *, lead: int = 1, style: Style = TEXT) -> list[KeyLine]:
    """Broken where there is no room; `lead` blank cells before each row, `style` of the words."""
    lines: list[KeyLine] = []
    for hint in hints:
        cells: Row = [(hint.key, KEY), (f" {hint.words}", style)]
        if lines and width_of(lines[-1].row) + _GAP + width_of(cells) <= width:
            lines[-1].row.append((" " * _GAP, TEXT))
        else:
            lines.append(KeyLine([(" " * lead, TEXT)], {}))
        row, presses = lines[-1]
        at = width_of(row)
        row += cells
        presses[range(at, at + width_of(cells))] = hint.press
    return lines


class KeyRow(Painted):
    """As many rows as it needs; a click on a hint is what its key would be."""

    hints: var[tuple[Hint, ...]] = var(())

    def watch_hints(self) -> None:
        """Other keys act, or do something else."""
        self.repaint()

    def wanted_height(self, width: int) -> int:
        """Rows that show all of them."""
        return len(key_lines(self.hints, width))

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """Keys and words."""
        return [strip(line.row, width) for line in key_lines(self.hints, width)]

    def on_click(self, event: events.Click) -> None:
        """As if that key were pressed."""
        lines = key_lines(self.hints, self.size.width)
        press = lines[event.y].press_at(event.x) if event.y < len(lines) else ""
        if press:
            self.app.simulate_key(press)
