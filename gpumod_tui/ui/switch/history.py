"""The history of switches: a list, and one of it closely."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Click

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.switch.records import SwitchHistory, SwitchRecord
from gpumod_tui.ui.background import errand
from gpumod_tui.ui.common.dialog import FullScreen
from gpumod_tui.ui.common.rows import Row
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.keys.footer import FooterLine
from gpumod_tui.ui.switch.history_rows import line, page
from gpumod_tui.ui.switch.progress import of_record
from gpumod_tui.ui.switch.steps import as_text
from gpumod_tui.ui.theme.styles import BAD, CURSOR, DIM, WARN


class SwitchesScreen(FullScreen[None]):
    """What it shows was true when it was opened; `h` looks again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "details", id="history.open"),
        Binding("up", "move(-1)", "up", id="history.up", show=False),
        Binding("down", "move(1)", "down", id="history.down", show=False),
        Binding("pageup", "page(-1)", "page up", id="history.page_up", show=False),
        Binding("pagedown,space", "page(1)", "page down", id="history.page_down", show=False),
        Binding("home", "move(-1000)", "begin", id="history.first", show=False),
        Binding("end", "move(1000)", "end", id="history.last", show=False),
        Binding("y", "copy", "copy", id="history.copy"),
        Binding("h", "look", "look again", id="history.look"),
        Binding("escape", "back", "back", id="history.back"),
        Binding("q", "leave", "close", id="history.leave"),
    ]
    DEFAULT_CSS = "SwitchesScreen > Sheet { height: 1fr; }"

    def __init__(self) -> None:
        super().__init__()
        self._history: SwitchHistory | None = None
        """None: nobody has answered yet."""
        self._fault = ""
        self._cursor = 0
        self._opened: SwitchRecord | None = None
        self._list_top = 0
        self._sheet = Sheet("Switches")
        self._footer = FooterLine()

    def compose(self) -> ComposeResult:
        """The list or one of it, and the keys."""
        yield self.header
        yield self._sheet
        yield self._footer

    def on_mount(self) -> None:
        """Look for the first time."""
        self._show()
        self.action_look()

    def on_resize(self) -> None:
        """Words break elsewhere."""
        self.call_after_refresh(self._show)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """There must be something under the cursor."""
        if action == "open":
            return self._chosen is not None and self._opened is None
        return action != "copy" or self._chosen is not None

    def on_click(self, event: Click) -> None:
        """A click in the list shows that switch closely."""
        place = event.screen_y - self._sheet.region.y - 1 + self._sheet.top
        if self._opened is None and event.widget is self._sheet and self._sheet.top <= place < len(self._switches):
            self._cursor = place
            self.action_open()

    def action_look(self) -> None:
        """The history now."""
        self.post_message(errand("history", lambda commands: commands.history(), self._take))

    def action_open(self) -> None:
        """All that is known of one."""
        self._list_top, self._opened = self._sheet.top, self._chosen
        self._sheet.top = 0
        self._show()

    def action_back(self) -> None:
        """To the list, and from there to the dashboard."""
        if self._opened is None:
            self.dismiss()
            return
        self._opened = None
        self._show()
        self._sheet.go_to(self._list_top)

    def action_leave(self) -> None:
        """To the dashboard."""
        self.dismiss()

    def action_move(self, by: int) -> None:
        """The cursor, or the page of one."""
        if self._opened is not None:
            self._sheet.go_to(self._sheet.top + by)
            return
        self._cursor = max(0, min(self._cursor + by, len(self._switches) - 1))
        self._show()
        if self._cursor < self._sheet.top:
            self._sheet.go_to(self._cursor)
        elif self._cursor >= self._sheet.top + self._sheet.page:
            self._sheet.go_to(self._cursor - self._sheet.page + 1)

    def action_page(self, by: int) -> None:
        """A screenful."""
        self.action_move(by * self._sheet.page)

    def action_copy(self) -> None:
        """All that is known of it, to the terminal's clipboard."""
        if self._chosen is not None:
            self.app.copy_to_clipboard(as_text(of_record(self._chosen)))
            self.notify("copied, where the terminal takes it (OSC 52)")

    @property
    def _switches(self) -> tuple[SwitchRecord, ...]:
        return self._history.switches if self._history is not None else ()

    @property
    def _chosen(self) -> SwitchRecord | None:
        if self._opened is not None:
            return self._opened
        return self._switches[self._cursor] if self._cursor < len(self._switches) else None

    def _take(self, found: SwitchHistory | GpumodError) -> None:
        if not self.is_attached:
            return
        if isinstance(found, GpumodError):
            self._fault = str(found)
        else:
            self._fault = found.problem
            chosen = self._chosen
            self._history = found
            places = [place for place, one in enumerate(found.switches) if chosen is not None and one.id == chosen.id]
            self._cursor = places[0] if places else 0
        self._show()

    def _show(self) -> None:
        width = self.size.width
        if self._opened is not None:
            self._sheet.show(page(self._opened, width))
        else:
            notes: list[Row] = [[(f" ! {self._fault}", BAD if self._history is None else WARN)]] if self._fault else []
            if self._history is None and not self._fault:
                notes = [[(" looking…", DIM)]]
            elif not self._switches and not self._fault:
                notes = [[(" no switch has ended yet", DIM)]]
            rows = [line(one, width) for one in self._switches]
            if rows:
                under = rows[self._cursor]
                rows[self._cursor] = [("▸" + under[0][0][1:], under[0][1] + CURSOR)]
                rows[self._cursor] += [(text, style + CURSOR) for text, style in under[1:]]
            # Below, so that the cursor's row is the sheet's.
            self._sheet.show([*rows, *notes])
        self.refresh_bindings()
