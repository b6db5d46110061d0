"""A word, and behind it a line to write on."""

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Input, Static


class Field(Horizontal):
    """One row; it is `line` that takes the focus."""

    DEFAULT_CSS = """
    Field { height: 1; background: $background; }
    Field > Static { width: 13; color: $foreground; }
    Field > Input { width: 1fr; }
    """

    def __init__(self, word: str, about: str, value: str) -> None:
        super().__init__()
        self._word = word
        self.line = Input(value, about, compact=True, select_on_focus=False)
        # A cursor that blinks is written to the line twice a second for nothing.
        self.line.cursor_blink = False

    def compose(self) -> ComposeResult:
        """The word, and the line."""
        yield Static(f" {self._word}", markup=False)
        yield self.line
