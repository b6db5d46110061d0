"""The command palette: every action that is valid now, found by typing."""

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.geometry import Size

from gpumod_tui.ui.entry import Entry
from gpumod_tui.ui.screens.dialog import Dialog
from gpumod_tui.ui.widgets.command_list import CommandList


class CommandScreen(Dialog[Entry | None]):
    """Ends with what was chosen, or None. Keys that are not bound here are typed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "previous", id="commands.up"),
        Binding("down", "move(1)", "next", id="commands.down"),
        Binding("pageup", "move(-10)", "page up", id="commands.page_up"),
        Binding("pagedown", "move(10)", "page down", id="commands.page_down"),
        Binding("enter", "take", "do it", id="commands.take"),
        Binding("escape,ctrl+p", "leave", "leave", id="commands.leave"),
    ]
    KEYS = (("commands.take", "do it"), ("commands.leave", "leave"))

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._list = CommandList(entries)
        super().__init__(self._list)

    def on_key(self, event: Key) -> None:
        """Typed."""
        if event.key == "backspace":
            self._list.type("\b")
        elif event.character is not None and event.is_printable:
            self._list.type(event.character)
        else:
            return
        event.stop()
        event.prevent_default()

    @property
    def found(self) -> tuple[Entry, ...]:
        """What matches."""
        return self._list.found

    @property
    def typed(self) -> str:
        """What is looked for."""
        return self._list.needle

    def on_command_list_taken(self, message: CommandList.Taken) -> None:
        """By enter or a click."""
        self.dismiss(message.entry)

    def action_move(self, by: int) -> None:
        """Another one."""
        self._list.move(by)

    def action_take(self) -> None:
        """This one."""
        self._list.take()

    def action_leave(self) -> None:
        """None."""
        self.dismiss(None)

    def wanted(self, screen: Size) -> Size:
        """Three quarters of the screen's height at most: what is behind tells what is done."""
        return Size(90, min(self._list.wanted_height, max(9, screen.height * 3 // 4) - 1))
