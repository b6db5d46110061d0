"""The command palette: every action that is valid now, found by typing."""

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.geometry import Size
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.common.format import harmless
from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, clip, rule, spread, strip
from gpumod_tui.ui.palette.commands import Entry
from gpumod_tui.ui.theme.styles import ACCENT, CURSOR, DIM, KEY, STRONG, TEXT

_LONGEST = 60
"""Characters of what is typed."""


class CommandList(Pane):
    """A line to type in, and below it what matches."""

    needle: var[str] = var("")
    cursor: var[int] = var(0)

    class Taken(Message):
        """This one."""

        def __init__(self, entry: Entry) -> None:
            super().__init__()
            self.entry = entry

    def __init__(self, entries: Sequence[Entry]) -> None:
        super().__init__()
        self._entries = tuple(entries)
        self._top = 0

    @property
    def found(self) -> tuple[Entry, ...]:
        """What matches, in the order of the list."""
        return tuple(entry for entry in self._entries if entry.matches(self.needle))

    @property
    def wanted_height(self) -> int:
        """Rows that show everything."""
        return 2 + len(self._entries)

    def move(self, by: int) -> None:
        """No further than the ends."""
        self.cursor = max(0, min(self.cursor + by, len(self.found) - 1))

    def take(self) -> None:
        """The one under the cursor, if anything matches."""
        if self.found:
            self.post_message(self.Taken(self.found[self.cursor]))

    def type(self, text: str) -> None:
        """At the end of what is typed; a backspace takes the last one away."""
        self.needle = self.needle[:-1] if text == "\b" else (self.needle + text)[:_LONGEST]

    def wheel(self, lines: int) -> None:
        """One further."""
        self.move(1 if lines > 0 else -1)

    def on_click(self, event: events.Click) -> None:
        """What stands in that row."""
        place = event.y - 2 + self._top
        if event.y >= 2 and place < len(self.found):
            self.cursor = place
            self.take()

    def on_paste(self, event: events.Paste) -> None:
        """As if typed."""
        self.type(harmless(event.text.partition("\n")[0]))
        event.stop()

    def watch_needle(self) -> None:
        """Others match."""
        self.cursor = 0
        self.repaint()

    def watch_cursor(self) -> None:
        """Another one."""
        self.repaint()

    def rows(self, width: int, height: int) -> list[Strip]:
        """Heading, what is typed, and a page of what matches."""
        found, room = self.found, max(1, height - 2)
        self._top = top = max(0, min(self.cursor - room + 1, len(found) - room))
        count: Row = [(f"{len(found)} of {len(self._entries)}", DIM)]
        typed: Row = [(" > ", KEY), (self.needle, STRONG), ("▏", ACCENT)]
        if not self.needle:
            typed.append((" type to find", DIM))
        done = [strip(rule([("Commands", STRONG)], count, width), width), strip(typed, width)]
        if not found:
            return [*done, strip([("   nothing that is valid now matches", DIM)], width)]
        for place, entry in enumerate(found[top : top + room], top):
            chosen = place == self.cursor
            right: Row = [(f" {entry.key} ", KEY)]
            words: Row = [("▸ " if chosen else "  ", ACCENT)]
            words.append((clip(entry.words, width - 3 - len(right[0][0])), STRONG if chosen else TEXT))
            done.append(strip(spread(words, right, width), width, under=CURSOR if chosen else None))
        return done


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
