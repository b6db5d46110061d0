"""The base of all widgets here: rows of text, of which only the changed ones are written to the terminal."""

from typing import Final

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from gpumod_tui.ui.keys.hints import Hint, named
from gpumod_tui.ui.theme.ascii import FOCUS_MARK, HEAVY
from gpumod_tui.ui.theme.styles import ACCENT, TEXT
from gpumod_tui.ui.theme.themes import PLAIN, Look

WHEEL_LINES: Final = 3


class Painted(Widget):
    """Paints what `rows` returns. Call `repaint` after anything that `rows` shows has changed.

    Textual compares no cells: what is refreshed is written to the line whole. So this compares rows.
    """

    DEFAULT_CSS = """
    Painted { height: 1; width: 1fr; background: $background; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name
        super().__init__(id=id)
        self._strips: list[Strip] = []
        self.rows_painted = 0
        """How many rows were refreshed so far."""

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """The content, at most `height` strips of `width` cells; an empty widget by default."""
        return []

    def framed(self, rows: list[Strip]) -> list[Strip]:
        """The content with what stands around it."""
        return rows

    def repaint(self) -> None:
        """Refresh the rows that changed."""
        width, height = self.size
        if not width or not height:
            return
        under = Style(bgcolor=self.background_colors[1].rich_color)
        look: Look = getattr(self.app, "look", PLAIN)
        new = [look.dress(row).apply_style(under) for row in self.framed(self.rows(width, height)[:height])]
        new.extend(Strip.blank(width, under) for _ in range(height - len(new)))
        old, self._strips = self._strips, new
        changed = [y for y, strip in enumerate(new) if y >= len(old) or strip != old[y]]
        self.rows_painted += len(changed)
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def named(self, *wanted: tuple[str, str]) -> tuple[Hint, ...]:
        """Those of `wanted`, ids of bindings with words of their own, that act on its screen now."""
        return named(self.screen.active_bindings, self.app.get_key_display, wanted)

    def key(self, id_: str) -> str:
        """What is pressed for this binding now; empty: it does nothing, or there is no such key."""
        return next((hint.key for hint in self.named((id_, ""))), "")

    def notify_style_update(self) -> None:
        """Another theme."""
        super().notify_style_update()
        self.repaint()

    def on_resize(self) -> None:
        """Every row is new."""
        self._strips = []
        self.repaint()

    def render_line(self, y: int) -> Strip:
        """One row."""
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, TEXT)

    def text(self) -> str:
        """What is on screen, without styles."""
        return "\n".join(strip.text.rstrip() for strip in self._strips)


class Pane(Painted, can_focus=True):
    """A part of the screen that keys act in while it has the focus; the mark of that replaces its first cell."""

    def framed(self, rows: list[Strip]) -> list[Strip]:
        """With the focus: a mark at the first row, and its line heavy."""
        if not rows or not self.has_focus:
            return rows
        first, *rest = rows[0].crop(1)
        heavy = [Segment(text.translate(HEAVY), style) for text, style, _ in (first, *rest)]
        return [Strip([Segment(FOCUS_MARK, ACCENT), *heavy], rows[0].cell_length), *rows[1:]]

    def wheel(self, lines: int) -> None:
        """The mouse wheel was turned, up (negative) or down."""

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Up."""
        event.stop()
        self.wheel(-WHEEL_LINES)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Down."""
        event.stop()
        self.wheel(WHEEL_LINES)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Keys act here now, or elsewhere."""
        super().watch_has_focus(has_focus)
        self.repaint()
