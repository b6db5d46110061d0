"""The base of what stands in the middle of the screen, over what was there before."""

from typing import Generic

from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import ModalScreen, ScreenResultType

from gpumod_tui.ui.widgets.painted import Painted


class Dialog(ModalScreen[ScreenResultType], Generic[ScreenResultType]):
    """One widget, as large as `wanted` says, and no larger than the screen."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 40%; }
    Dialog > Painted { background: $panel; }
    """

    def __init__(self, content: Painted) -> None:
        super().__init__()
        self._content = content

    def compose(self) -> ComposeResult:
        """The content alone."""
        yield self._content

    def on_mount(self) -> None:
        """As large as its words."""
        self.fit()

    def on_resize(self) -> None:
        """The terminal changed."""
        self.fit()

    def wanted(self, screen: Size) -> Size:
        """Cells of the content, on a screen of this size; all of it by default."""
        return screen

    def fit(self) -> None:
        """As large as is wanted now; before it is on screen nothing is."""
        if not self.is_attached:
            return
        screen = self.app.size
        width, height = self.wanted(screen)
        self._content.styles.width = min(width, screen.width)
        self._content.styles.height = min(height, screen.height)
