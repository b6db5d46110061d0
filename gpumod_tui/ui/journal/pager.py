"""Where the operator is in the journal, and which pages of it are wanted next."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

from gpumod_tui.core.models import LogLine, LogPage, LogPlace
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.journal.buffer import GAP, LogBook
from gpumod_tui.ui.journal.entry import Choice, Entry, LogRequest, remark
from gpumod_tui.ui.journal.search import Pattern
from gpumod_tui.ui.journal.viewport import LogWindow, Place

SLICE_S: Final = 0.025
"""For patterns, before keys are looked at again."""
_TRIES: Final = 10
"""Pages that one wish may take, when little in them is what was asked for."""
_END: Final = 4e9
"""Later than any line."""


class LogReader:
    """The lines held, the rows of them on screen, and the way from there to where the operator wants to be.

    `rows_of`: how many rows an entry takes; `ask` gets requests for pages, whose answers `take_pages` takes; `say`
    gets sentences; `back_key`: what is pressed now for an earlier match, empty: nothing is.
    """

    def __init__(
        self,
        rows_of: Callable[[Entry], int],
        ask: Callable[[LogRequest], object],
        say: Callable[[str], None],
        back_key: Callable[[], str],
    ) -> None:
        self.book = LogBook()
        self.current: Entry | None = None
        """The match that was gone to."""
        self.room = 0
        """Rows for lines."""
        self.page_fault = ""
        """Why older lines cannot be read."""
        self.stopped_at = -1
        """Number of the newest line when it last stood still."""
        self._window = LogWindow()
        self._rows_of = rows_of
        self._ask = ask
        self._say = say
        self._back_key = back_key
        self._asked: LogRequest | None = None
        self._tries = 0
        self._owed = 0
        """Rows that were scrolled up while they were not there."""
        self._goal: float | None = None
        """The moment to go to when its lines are there."""
        self._finds = False
        """The newest match at or above what is on screen is wanted."""
        self._finds_earlier = False
        """A match before all that is held is wanted."""
        self._entries: list[Entry] = []
        self._entries_of: tuple[list[Entry], str] | None = None

    # -- what is on screen ---------------------------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """The newest line is on screen, and stays there."""
        return self._window.follows

    @property
    def is_reading(self) -> bool:
        """Pages have been asked for."""
        return self._asked is not None

    @property
    def entries(self) -> list[Entry]:
        """What is shown, with a remark above the first where there is something to say about what is before it."""
        shown = self.book.shown
        words = ""
        if self.page_fault:
            words = f"older lines cannot be read: {self.page_fault}"
        elif self._asked is not None and self._asked.back is not None:
            words = "older lines are being read…"
        elif self.book.begun:
            words = "the journal begins here"
        if self._entries_of is None or self._entries_of[0] is not shown or self._entries_of[1] != words:
            self._entries_of = (shown, words)
            first = shown[:1] if words else []
            self._entries = [*(remark(one.number - 1, one.line.at, words) for one in first), *_with_days(shown)]
        return self._entries

    @property
    def visible(self) -> list[Place]:
        """Index of the entry and row of it, from top to bottom."""
        return self._window.visible(self.entries, self.room, self._rows_of)

    @property
    def on_screen(self) -> list[Entry]:
        """The lines of which something is visible."""
        entries = self.entries
        return [entries[index] for index in sorted({index for index, _ in self.visible}) if not entries[index].is_mark]

    @property
    def below(self) -> int:
        """How many of those that are shown lie below the screen."""
        visible = self.visible
        return len(self.entries) - 1 - visible[-1][0] if visible else 0

    # -- lines in ------------------------------------------------------------------------------------------------

    def take(self, lines: Iterable[LogLine], *, after_loss: bool = False, is_anew: bool = False) -> None:
        """New lines of the journal's end; `after_loss`: some before them never came; `is_anew`: they stand in the place
        of those that were held."""
        parts = after_loss or (is_anew and self.book.held > 0)
        if parts and self.follows:
            # A page that is under way ends where what was held began.
            self._asked = None
            if is_anew:
                self._wish()
        self.book.take(lines, looking_back=not self.follows, after_loss=parts)
        if self.follows:
            self.stopped_at = self.book.newest_number
        self.decide()

    def take_pages(self, request: LogRequest, back: LogPage | None, forth: LogPage | None, fault: str) -> None:
        """The answer to a request; one that is not waited for any more is passed over."""
        if request is not self._asked:
            return
        self._asked, self.page_fault = None, fault
        if fault:
            self._goal = None
            self._tries = self._owed = 0
            self._finds_earlier = False
            self._say(f"Older lines cannot be read: {fault}")
        elif back is not None and forth is not None:
            self.book.begin_at(back, forth)
        elif back is not None:
            self.book.add_before(back)
        elif forth is not None:
            self.book.add_after(forth)
        self.decide()

    def decide(self) -> None:
        """Try patterns for a while; `book.is_deciding` tells whether to call again. Then go where it was meant to."""
        until = time.monotonic() + SLICE_S
        self.book.decide(lambda: time.monotonic() < until)
        if not self.book.is_deciding and self._asked is None:
            self._go_on()

    # -- wishes --------------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Go to the newest line and stay there."""
        self._window.follow()
        self._goal = None
        self._owed = 0
        self.book.close_gap()

    def stop(self) -> None:
        """Stay at what is on screen."""
        self._window.stop(self.entries, self.room, self._rows_of)

    def scroll(self, by: int) -> None:
        """Look back (negative) or forth by rows; back at the end it follows again."""
        self._wish()
        missing = self._window.scroll(by, self.entries, self.room, self._rows_of)
        self._owed = 0 if self.book.begun else missing
        self.decide()

    def go_to_oldest(self) -> None:
        """As far back as lines are held."""
        if self.entries:
            self._wish()
            self._window.go_to(0, self.entries, 0, self._rows_of)
        self.decide()

    def go_to_moment(self, at: float) -> None:
        """The first line of then or later comes to the top."""
        if not self.book.held:
            return
        self._wish()
        self._goal = at
        if not self.book.holds(at):
            self._request(back=LogPlace(at), forth=LogPlace(at))
        self.decide()

    def choose(self, choice: Choice) -> None:
        """Show other lines; with other units or levels what is older has to be read again."""
        before, self._goal = self.book.choice, None
        if (before.units, before.priority) != (choice.units, choice.priority):
            self._asked = None
        self.book.choose(choice)
        self._wish()
        self.decide()

    def find(self, pattern: Pattern | None) -> None:
        """Go to the newest match at or above what is on screen; None: look for nothing."""
        self.book.look_for(pattern)
        self.current = None
        self._finds, self._finds_earlier = pattern is not None, False
        self.decide()

    def next_match(self, by: int) -> None:
        """Go to the next or previous one; before the first, further back in the journal."""
        found = self.book.matches
        place = found.index(self.current) if self.current in found else (-1 if by > 0 else len(found))
        place += by
        if place < 0 and not self.book.begun:
            self._wish()
            self._finds_earlier = True
            self.decide()
        elif not found:
            self._say_nothing_found()
        else:
            if not 0 <= place < len(found):
                self._say("The search goes on at the other end")
            self._show(found[place % len(found)])

    # -- parts ---------------------------------------------------------------------------------------------------

    def _wish(self) -> None:
        self._tries, self._owed, self.page_fault = _TRIES, 0, ""

    def _go_on(self) -> None:
        """All that is held is decided on and no page is under way: go further, or ask for the next page."""
        if self._goal is not None:
            self._arrive(self._goal)
        if self._finds:
            self._find()
        if self._finds_earlier:
            self._find_earlier()
        if self._owed:
            missing = self._window.scroll(-self._owed, self.entries, self.room, self._rows_of)
            self._owed = 0 if self.book.begun else missing
        # Before the first line is here nobody knows where what is older ends.
        if self._tries > 0 and self.book.held:
            self._read_on()

    def _read_on(self) -> None:
        visible, entries = self.visible, self.entries
        at_gap = any(entries[index].text == GAP and entries[index].is_mark for index, _ in visible)
        place = self.book.place_after if at_gap else None
        if place is not None:
            self._tries -= 1
            self._request(forth=place)
            return
        near_top = not self.follows and bool(visible) and visible[0][0] <= self.room
        wanted = len(visible) < self.room or near_top or self._owed > 0 or self._finds_earlier
        if wanted and not self.book.begun:
            self._tries -= 1
            self._request(back=self.book.place_before(_END))

    def _arrive(self, at: float) -> None:
        self._goal = None
        shown, entries = self.book.shown, self.entries
        place = self.book.index_at(at)
        if place < len(shown):
            place = bisect_left(entries, shown[place].number, key=lambda entry: entry.number)
            self._window.go_to(place, entries, 0, self._rows_of)
        else:
            self._window.follow()

    def _find(self) -> None:
        self._finds = False
        found, on_screen = self.book.matches, self.on_screen
        if not found:
            self._say_nothing_found()
            return
        last = on_screen[-1].number if on_screen else found[-1].number
        above = [entry for entry in found if entry.number <= last]
        self._show(above[-1] if above else found[0])

    def _find_earlier(self) -> None:
        found = self.book.matches
        before = [entry for entry in found if self.current is None or entry.number < self.current.number]
        if before:
            self._finds_earlier = False
            self._show(before[-1])
        elif self.book.begun or self._tries <= 0:
            self._finds_earlier = False
            key = self._back_key()
            far = f"{key} looks further back" if key else "older ones are not loaded"
            far = "the journal begins there" if self.book.begun else far
            self._say(f"No earlier match among {self.book.held} lines: {far}")

    def _show(self, entry: Entry) -> None:
        self.current = entry
        entries = self.entries
        if any(entries[index] is entry for index, _ in self.visible):
            self.stop()
        else:
            self._window.go_to(entries.index(entry), entries, self.room // 2, self._rows_of)

    def _say_nothing_found(self) -> None:
        key = self._back_key()
        rest = f"; older ones are not loaded{f', {key} looks there' if key else ''}"
        self._say(f"No match among {self.book.held} lines{'' if self.book.begun else rest}")

    def _request(self, *, back: LogPlace | None = None, forth: LogPlace | None = None) -> None:
        choice = self.book.choice
        self._asked = LogRequest(choice.units, choice.priority, back, forth)
        self._ask(self._asked)


def _with_days(shown: list[Entry]) -> list[Entry]:
    """With a remark before the first line of each day but the first."""
    done: list[Entry] = []
    start = 0
    while start < len(shown):
        begins = fmt.next_day(shown[start].line.at)
        end = len(shown)
        if begins is not None:
            end = bisect_left(shown, begins, lo=start + 1, key=lambda entry: entry.line.at)
        done += shown[start:end]
        if end < len(shown) and not shown[end].is_mark:
            first = shown[end]
            done.append(remark(first.number - 1, first.line.at, fmt.day(first.line.at)))
        start = end
    return done
