"""All modes: which one to change, to delete, or to make anew."""

from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.catalog.modes import ModeSaved
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import BLANK, Mode
from gpumod_tui.ui.background import errand
from gpumod_tui.ui.common.dialog import FullScreen
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, clip_middle, pad, rule, strip
from gpumod_tui.ui.keys.footer import FooterLine
from gpumod_tui.ui.messages import CatalogChanged
from gpumod_tui.ui.modes.editor import ModeEditor
from gpumod_tui.ui.modes.pane import numbered
from gpumod_tui.ui.theme.styles import ACCENT, CURSOR, DIM, GOOD, KEY, STRONG, TEXT, UnitColours


class ModeList(Pane):
    """One row for a new mode, and one for each that is there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "previous", id="mode_list.up", show=False),
        Binding("down", "move(1)", "next", id="mode_list.down", show=False),
        Binding("home", "end(0)", "first", id="mode_list.first", show=False),
        Binding("end", "end(-1)", "last", id="mode_list.last", show=False),
    ]

    modes: var[tuple[tuple[int, Mode], ...]] = var(())
    """With their numbers on the dashboard."""
    own: var[frozenset[str]] = var(frozenset())
    cursor: var[int] = var(0)

    class Opened(Message):
        """A click chose what is under the cursor."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._top = 0

    @property
    def selected(self) -> Mode | None:
        """None: the row of a new one."""
        return self.modes[self.cursor - 1][1] if 0 < self.cursor <= len(self.modes) else None

    def watch_modes(self) -> None:
        """Others are there."""
        self.cursor = min(self.cursor, len(self.modes))
        self.repaint()

    def watch_own(self) -> None:
        """It is known which may be deleted."""
        self.repaint()
        self.refresh_bindings()

    def watch_cursor(self) -> None:
        """Another row is selected."""
        self.repaint()
        self.refresh_bindings()

    def action_move(self, by: int) -> None:
        """Up or down, round the ends."""
        self.cursor = (self.cursor + by) % (len(self.modes) + 1)

    def action_end(self, place: int) -> None:
        """The first (0) or the last (-1)."""
        self.cursor = place % (len(self.modes) + 1)

    def on_click(self, event: events.Click) -> None:
        """A click opens."""
        place = self._top + event.y - 1
        if event.y > 0 and place <= len(self.modes):
            self.cursor = place
            self.post_message(self.Opened())

    def rows(self, width: int, height: int) -> list[Strip]:
        """Heading, and the rows around the cursor."""
        room = max(1, height - 1)
        count = len(self.modes) + 1
        self._top = max(0, min(self.cursor - room + 1, count - room))
        hidden = max(0, count - room)
        done = [strip(rule([("Modes", STRONG)], [(f"{hidden} more", DIM)] if hidden else [], width), width)]
        rows: list[Row] = [[("  + ", KEY), ("new mode", TEXT), (" of what runs now", DIM)]]
        rows += [self._row(number, mode, width) for number, mode in self.modes]
        for place, row in enumerate(rows[self._top : self._top + room], self._top):
            here = place == self.cursor
            mark: Row = [("▸" if here else " ", ACCENT)]
            done.append(strip([*mark, *row], width, under=CURSOR if here else None))
        return done

    def _row(self, number: int, mode: Mode, width: int) -> Row:
        name = min(max(len(one.id) for _, one in self.modes), width // 3)
        services = min(max(len(_services(one)) for _, one in self.modes), width // 2)
        row: Row = [(f" {number if number < 10 else ' '} ", KEY), (pad(clip_middle(mode.id, name), name), TEXT)]
        row += [("  ", TEXT), (pad(_services(mode), services), TEXT)]
        row += [("  your own", GOOD)] if mode.id in self.own else []
        return [*row, (f"  {mode.description}", DIM)]


def _services(mode: Mode) -> str:
    return ", ".join(mode.services) or "–"


class ModePicker(FullScreen[None]):
    """What is chosen here is changed in the editor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,e", "open", "change", id="mode_picker.open"),
        Binding("enter,n", "new", "new", id="mode_picker.new"),
        Binding("d,delete", "delete", "delete", id="mode_picker.delete"),
        Binding("escape,q", "leave", "close", id="mode_picker.close"),
        Binding("m", "leave", "close", id="mode_picker.close_too", show=False),
    ]
    AUTO_FOCUS = "#mode-list"
    DEFAULT_CSS = "ModePicker > #mode-list { height: 1fr; }"

    def __init__(self, registry: ServiceRegistry, places: tuple[str, ...], colours: UnitColours) -> None:
        """`places`: ids in the order of their numbers."""
        super().__init__()
        self._colours = colours
        self.list = ModeList(id="mode-list")
        self.footer = FooterLine(id="footer")
        self.list.modes = _changeable(registry, places)

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.header
        yield self.list
        yield self.footer

    def on_mount(self) -> None:
        """Ask which modes are the user's own."""
        self._ask_whose()

    def adopt(self, registry: ServiceRegistry, places: tuple[str, ...]) -> None:
        """The catalog has changed."""
        self.list.modes = _changeable(registry, places)
        self._ask_whose()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is not valid now is neither offered nor done."""
        del parameters
        mode = self.list.selected
        if action == "open":
            return mode is not None
        if action == "delete":
            return mode is not None and mode.id in self.list.own
        return True

    def on_mode_list_opened(self) -> None:
        """By a click."""
        self.action_open()

    def action_open(self) -> None:
        """Change this mode, or make a new one."""
        mode = self.list.selected
        own = mode is None or mode.id in self.list.own
        self.app.push_screen(ModeEditor(self._colours, mode, own=own))

    def action_new(self) -> None:
        """Of what runs now."""
        self.app.push_screen(ModeEditor(self._colours))

    def action_delete(self) -> None:
        """After a yes."""
        mode = self.list.selected
        if mode is not None:
            sentence = f"Mode {mode.id} is deleted with its file {mode.source}. What runs goes on."
            self.app.push_screen(
                QuestionScreen(f"Delete {mode.id}", sentence, "delete it"),
                lambda agreed: self._delete(mode.id) if agreed else None,
            )

    def action_leave(self) -> None:
        """Back to the dashboard."""
        self.dismiss()

    def _delete(self, mode_id: str) -> None:
        self.post_message(errand("delete", lambda commands: commands.delete_mode(mode_id), self._deleted))

    def _deleted(self, found: ModeSaved | GpumodError) -> None:
        if isinstance(found, GpumodError):
            reason = f"{found} ({found.hint})" if found.hint else str(found)
            self.app.notify(reason, title="not deleted", severity="error", markup=False)
            return
        self.post_message(CatalogChanged(found.registry))
        back = f"; {found.mode.id} is now the one of {found.shadows.source or 'gpumod itself'}" if found.shadows else ""
        self.app.notify(f"{found.path}{back}", title=f"mode {found.mode.id} deleted", markup=False)

    def _ask_whose(self) -> None:
        self.post_message(errand("modes", lambda commands: commands.own_modes(), self._show_whose))

    def _show_whose(self, found: frozenset[str] | GpumodError) -> None:
        if not isinstance(found, GpumodError):
            self.list.own = found


def _changeable(registry: ServiceRegistry, places: tuple[str, ...]) -> tuple[tuple[int, Mode], ...]:
    return tuple((number, mode) for number, mode in numbered(registry, places) if mode.id != BLANK)
