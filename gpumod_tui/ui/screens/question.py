"""A question with two answers."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from gpumod_tui.ui.palette import KEY, STRONG, TEXT
from gpumod_tui.ui.rows import Row, rule, strip, width_of
from gpumod_tui.ui.screens.dialog import Dialog
from gpumod_tui.ui.widgets.painted import Painted
from gpumod_tui.ui.wrap import wrap


class QuestionView(Painted):
    """The sentence, and below it both answers, which may be clicked."""

    class Answered(Message):
        """By a click."""

        def __init__(self, agreed: bool) -> None:
            super().__init__()
            self.agreed = agreed

    def __init__(self, title: str, sentence: str, yes: str) -> None:
        super().__init__()
        self._title = title
        self._sentence = sentence
        self._yes: Row = [(" y", KEY), (f" {yes}   ", TEXT)]

    def wanted_height(self, width: int) -> int:
        """Rows that show everything."""
        return len(wrap(self._sentence, width - 2)) + 4

    def rows(self, width: int, height: int) -> list[Strip]:
        """The answers stay where the sentence has no room."""
        words: list[Row] = [[(f" {line}", TEXT)] for line in wrap(self._sentence, width - 2)]
        answers: Row = [*self._yes, ("esc", KEY), (" no", TEXT)]
        rows = [rule([(self._title, STRONG)], [], width), [], *words[: max(1, height - 3)], [], answers]
        return [strip(row, width) for row in (*rows[: height - 1], answers)[:height]]

    def on_click(self, event: events.Click) -> None:
        """One of the answers."""
        if event.y == self.size.height - 1:
            self.post_message(self.Answered(event.x < width_of(self._yes)))


class QuestionScreen(Dialog[bool]):
    """Ends with True for yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "yes", id="question.yes"),
        Binding("escape,n", "answer(False)", "no", id="question.no"),
    ]

    def __init__(self, title: str, sentence: str, yes: str) -> None:
        self._view = QuestionView(title, sentence, yes)
        super().__init__(self._view)

    def wanted(self, screen: Size) -> Size:
        """The question, broken where the screen is narrow."""
        width = min(72, screen.width)
        return Size(width, self._view.wanted_height(width))

    def on_question_view_answered(self, message: QuestionView.Answered) -> None:
        """By a click."""
        self.dismiss(message.agreed)

    def action_answer(self, agreed: bool) -> None:
        """By a key."""
        self.dismiss(agreed)
