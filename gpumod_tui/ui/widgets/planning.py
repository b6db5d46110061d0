"""That a plan is being made, where that takes a while."""

from typing import Final

from textual.message import Message
from textual.reactive import var
from textual.strip import Strip
from textual.timer import Timer

from gpumod_tui.ui.palette import DIM, KEY, STRONG, TEXT
from gpumod_tui.ui.rows import Row, rule, strip
from gpumod_tui.ui.widgets.painted import Painted

SOON_S: Final = 0.3
"""A plan that takes no longer is shown without a word before it."""
_WITH_WORDS: Final = 60
"""Columns from which on there is room for all words."""


class PlanningLine(Painted):
    """One row, hidden while there is nothing to tell."""

    class Changed(Message):
        """It has something to tell, or not any more: rows are to be shared out anew."""

    title: var[str] = var("")
    """Of what is being planned; empty: nothing."""
    aside: var[bool] = var(False)
    """`esc` is not meant for it now."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._timer: Timer | None = None
        self._told = False

    @property
    def wanted_height(self) -> int:
        """Rows."""
        return int(self._told)

    def watch_title(self) -> None:
        """Wait before it is told; whatever was told stays until something else is."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self.title and not self._told:
            self._timer = self.set_timer(SOON_S, lambda: self._tell(told=True))
        elif not self.title and self._told:
            self._tell(told=False)
        self.repaint()

    def watch_aside(self) -> None:
        """Another key leads out of it, or none does."""
        self.repaint()

    def _tell(self, *, told: bool) -> None:
        self._told = told
        self.post_message(self.Changed())

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """What is planned, and the way out."""
        title, words = self.title, ": looking at the box…"
        if width < _WITH_WORDS:
            title, words = title.removeprefix("Switch to "), ": looking…"
        left: Row = [(title, STRONG), (words, TEXT)]
        right: Row = [] if self.aside else [("esc", KEY), (" drops it", DIM)]
        return [strip(rule(left, right, width), width)]
