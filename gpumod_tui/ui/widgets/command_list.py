"""What can be done, found by typing."""

from collections.abc import Sequence

from textual import events
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui.entry import Entry
from gpumod_tui.ui.format import harmless
from gpumod_tui.ui.palette import ACCENT, CURSOR, DIM, KEY, STRONG, TEXT
from gpumod_tui.ui.rows import Row, clip, rule, spread, strip
from gpumod_tui.ui.widgets.painted import Pane

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
