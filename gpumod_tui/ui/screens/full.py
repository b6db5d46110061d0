"""The base of what covers the dashboard whole, but for its first line."""

from collections.abc import Callable
from typing import Final

from textual.screen import Screen, ScreenResultType

from gpumod_tui.ui.widgets.header import HeaderEcho, HeaderLine

WITH_HEADER: Final = 16
"""Rows of screen from which on there is room for the header."""


class FullScreen(Screen[ScreenResultType]):
    """What the box does meanwhile stands above it, where there is room."""

    DEFAULT_CSS = """
    FullScreen { layout: vertical; overflow: hidden; background: $background; color: $foreground; }
    FullScreen > HeaderLine, FullScreen > FooterLine { background: $panel; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.header = HeaderEcho(id="header")

    def on_mount(self) -> None:
        """Say what the dashboard's header says, which lies under all others."""
        self.header.follow(self.app.screen_stack[0].query_one(HeaderLine))
        self._make_room()

    def on_resize(self) -> None:
        """The terminal changed."""
        self._make_room()

    def leave_for(self, do: Callable[[], object]) -> None:
        """Something else is to be done, which closes this screen: do it, unless something here would be lost."""
        do()

    def _make_room(self) -> None:
        self.header.display = bool(self.header_rows)

    @property
    def header_rows(self) -> int:
        """Rows of the header."""
        return int(self.app.size.height >= WITH_HEADER)
