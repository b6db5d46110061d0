"""A few rows of words over the dashboard: the questions before leaving and cancelling."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.strip import Strip

from gpumod_tui.core.switch.records import SwitchRecord
from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.common.format import harmless
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, clip, rule, strip, width_of, wrap
from gpumod_tui.ui.dashboard.layout import LEAST_HEIGHT, LEAST_WIDTH
from gpumod_tui.ui.theme.styles import DIM, STRONG, TEXT, WARN


class Words(Painted):
    """Rows that do not change."""

    def __init__(self, title: str, lines: list[Row]) -> None:
        super().__init__()
        self._title = title
        self._lines = lines

    @property
    def wanted_width(self) -> int:
        """Cells of the longest row, within reason."""
        return min(78, max(LEAST_WIDTH, *(width_of(row) + 2 for row in self._lines)))

    def wanted_height(self, width: int) -> int:
        """Rows at this width."""
        return 1 + len(self._wrapped(width))

    def rows(self, width: int, height: int) -> list[Strip]:
        """A heading, and the words."""
        head = rule([(self._title, STRONG)], [], width)
        lines = self._wrapped(width)
        return [strip(row, width) for row in (head, *(line for line in lines if line or len(lines) < height))]

    def _wrapped(self, width: int) -> list[Row]:
        """A sentence goes on in the next row."""
        rows: list[Row] = []
        for row in self._lines:
            if len(row) == 1 and width_of(row) >= width:
                ((text, style),) = row
                rows += [[(f" {part}", style)] for part in wrap(text, width - 2)]
            else:
                rows.append(row)
        return rows


class TooSmall(Painted):
    """In place of everything, where nothing else can be read."""

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """A sentence."""
        quits = self.key("app.quit")
        words = f"Too small: {LEAST_WIDTH} columns and {LEAST_HEIGHT} rows are needed."
        words += f" {quits} leaves." if quits else ""
        return [strip([(f" {line}", TEXT)], width) for line in wrap(words, width - 1)]


class WordsScreen(Dialog[bool]):
    """Ends with True where it is agreed to, with False where not."""

    def __init__(self, title: str, lines: list[Row]) -> None:
        self._words = Words(title, [[], *lines, []])
        super().__init__(self._words)

    def wanted(self, screen: Size) -> Size:
        """The words, broken where the screen is narrow."""
        width = min(self._words.wanted_width, screen.width)
        return Size(width, self._words.wanted_height(width))

    def action_agree(self) -> None:
        """Yes."""
        self.dismiss(True)

    def action_close(self) -> None:
        """No."""
        self.dismiss(False)


class LeaveScreen(WordsScreen):
    """Asked before leaving while a switch runs: who presses a key that leaves twice means it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,enter,y", "agree", "leave", id="leave.agree"),
        Binding("escape,n,question_mark", "close", "stay", id="leave.close"),
    ]
    KEYS = (("leave.agree", "leave"), ("leave.close", "stay"))


class CancelScreen(WordsScreen):
    """Asked before a switch of another process is cancelled."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "agree", "cancel it", id="cancel.agree"),
        Binding("escape,n,q,question_mark", "close", "let it go on", id="cancel.close"),
    ]
    KEYS = (("cancel.agree", "ask it to cancel"), ("cancel.close", "let it go on"))


def leave_screen(title: str, then: str = "") -> LeaveScreen:
    """`then`: what waits for the end of the switch that runs."""
    dropped: list[Row] = [[(f" “{then}”, which waits, is not done.", WARN)]] if then else []
    return LeaveScreen(
        "Leave",
        [
            [(f" “{title}” goes on to its end without this view.", TEXT)],
            [(" This command waits for it and tells how it ended; ctrl-c cancels it then.", DIM)],
            *dropped,
        ],
    )


def cancel_screen(title: str, record: SwitchRecord) -> CancelScreen:
    """`record`: of the switch of another process."""
    who = f" It belongs to pid {record.pid}"
    return CancelScreen(
        "Cancel",
        [
            [(f" “{title}” was not begun here.", TEXT)],
            [(f"{who} ({clip(harmless(record.command), 50)})." if record.command else f"{who}.", DIM)],
        ],
    )
