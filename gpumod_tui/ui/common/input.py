"""A word, and behind it a line to write on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
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


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for."""

    words: str
    """Shown below the line while nothing is wrong."""
    value: str
    """What stands in it at first."""
    fault_of: Callable[[str], str]
    """What is wrong with a value, in words; empty: nothing."""
    take: Callable[[str], None]
    """Gets the value that nothing was wrong with."""


class Prompt(Input):
    """Hidden until something is asked. Its pane shows words and faults, and has the focus back at the end."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "done", id="prompt.done"),
        Binding("escape", "leave", "leave", id="prompt.leave"),
    ]
    DEFAULT_CSS = """
    Prompt { dock: top; margin: 1 0 0 0; display: none; background: $panel; color: $foreground; }
    """

    class Moved(Message):
        """What is asked, or what is wrong with the answer, is another."""

    def __init__(self) -> None:
        super().__init__(compact=True)
        self.cursor_blink = False
        self.question: Question | None = None
        self.fault = ""

    def ask(self, question: Question) -> None:
        """Show it."""
        self.question = question
        self.value = question.value
        self.fault = question.fault_of(question.value) if question.value else ""
        self.display = True
        # At once, not after what is under way: keys that were typed ahead belong to it.
        self.screen.set_focus(self)
        self.action_select_all()
        self.post_message(self.Moved())

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say at once what is wrong."""
        event.stop()
        if self.question is not None:
            self.fault = self.question.fault_of(event.value) if event.value else ""
            self.post_message(self.Moved())

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Hand it on, if nothing is wrong."""
        event.stop()
        question = self.question
        if question is None:
            return
        self.fault = question.fault_of(event.value)
        if not self.fault:
            self.action_leave()
            question.take(event.value)
        self.post_message(self.Moved())

    def action_leave(self) -> None:
        """Nothing is asked any more."""
        if self.has_focus and self.parent is not None:
            self.screen.set_focus(self.parent if self.parent.is_attached else None)  # type: ignore[arg-type]
        self._end()

    def on_blur(self) -> None:
        """Who looks elsewhere does not answer."""
        self._end()

    def _end(self) -> None:
        self.question = None
        self.fault = ""
        self.display = False
        self.post_message(self.Moved())
