"""The base of what stands in the middle of the screen, over what was there before."""

from collections.abc import Callable
from typing import ClassVar, Final, Generic

from textual.app import ComposeResult
from textual.geometry import Size
from textual.screen import ModalScreen, Screen, ScreenResultType

from gpumod_tui.ui.common.row_widget import WHEEL_LINES, Painted
from gpumod_tui.ui.dashboard.header import HeaderEcho, HeaderLine
from gpumod_tui.ui.keys.hints import named
from gpumod_tui.ui.keys.key_row import KeyRow


class Dialog(ModalScreen[ScreenResultType], Generic[ScreenResultType]):
    """One widget, as large as `wanted` says, and below it the keys that act now; no larger than the screen."""

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Ids of the bindings that are named, with what they do here."""
    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 40%; }
    Dialog > Painted { background: $panel; }
    """

    def __init__(self, content: Painted) -> None:
        super().__init__()
        self._content = content
        self._key_row = KeyRow()

    def compose(self) -> ComposeResult:
        """The content, and the keys."""
        yield self._content
        yield self._key_row

    def on_mount(self) -> None:
        """As large as its words."""
        self.bindings_updated_signal.subscribe(self, lambda _screen: self.offer())
        self.offer()
        self.fit()

    def on_resize(self) -> None:
        """The terminal changed."""
        self.offer()
        self.fit()

    def on_mouse_scroll_up(self) -> None:
        """Back."""
        self.wheel(-WHEEL_LINES)

    def on_mouse_scroll_down(self) -> None:
        """Forth."""
        self.wheel(WHEEL_LINES)

    def wheel(self, lines: int) -> None:
        """The mouse wheel was turned, up (negative) or down."""

    def wanted(self, screen: Size) -> Size:
        """Cells of the content, on a screen of this size; all of it by default."""
        return screen

    def keys(self) -> tuple[tuple[str, str], ...]:
        """Ids of the bindings that are named now, with what they do."""
        return self.KEYS

    def offer(self) -> None:
        """Name the keys that act now."""
        if not self.is_attached:
            return
        hints = named(self.active_bindings, self.app.get_key_display, self.keys())
        if hints != self._key_row.hints:
            self._key_row.hints = hints
            self.fit()

    def fit(self) -> None:
        """As large as is wanted now; before it is on screen nothing is."""
        if not self.is_attached:
            return
        screen = self.app.size
        width, height = self.wanted(screen)
        width = min(width, screen.width)
        low = self._key_row.wanted_height(width)
        self._content.styles.width = self._key_row.styles.width = width
        self._content.styles.height = min(height, screen.height - low)
        self._key_row.styles.height = low


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
