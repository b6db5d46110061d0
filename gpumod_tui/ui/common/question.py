"""A question with two answers."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size

from gpumod_tui.ui.common.confirm import Words
from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.theme.styles import TEXT

_WIDTH = 72


class QuestionScreen(Dialog[bool]):
    """Ends with True for yes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y,enter", "answer(True)", "yes", id="question.yes"),
        Binding("escape,n,q", "answer(False)", "no", id="question.no"),
    ]

    def __init__(self, title: str, sentence: str, yes: str, no: str = "no") -> None:
        """`yes` and `no`: what the answers come to."""
        self._words = Words(title, [[], [(f" {sentence}", TEXT)], []])
        self._answers = (("question.yes", yes), ("question.no", no))
        super().__init__(self._words)

    def keys(self) -> tuple[tuple[str, str], ...]:
        """Both answers."""
        return self._answers

    def wanted(self, screen: Size) -> Size:
        """The question, broken where the screen is narrow."""
        width = min(_WIDTH, screen.width)
        return Size(width, self._words.wanted_height(width))

    def action_answer(self, agreed: bool) -> None:
        """By a key."""
        self.dismiss(agreed)
