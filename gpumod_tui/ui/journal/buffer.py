"""The lines that the journal pane holds: a live end that goes on by itself, and a piece of what came before it.

Both are bounded in lines and characters, whatever the journal does.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from gpumod_tui.core.models import LogLine, LogPage, LogPlace
from gpumod_tui.ui.journal.entry import Choice, Entry, remark
from gpumod_tui.ui.journal.sanitize import coloured
from gpumod_tui.ui.journal.search import Pattern

LIVE_LINES: Final = 5000
LIVE_CHARS: Final = 4_000_000
OLDER_LINES: Final = 10_000
OLDER_CHARS: Final = 8_000_000
GAP: Final = "what follows up to the newest lines is not loaded yet"
_STEP: Final = 1 << 40
"""Between the numbers of two lines: what is read again where some were let go may be more than those were."""
_NEXT: Final = 2
"""Between two lines that are read again: there is room for a remark."""
_ELSEWHERE: Final = _STEP << 20
"""Between the numbers of the live lines and those of a piece from another time."""


@dataclass(slots=True)
class _Ring:
    """Entries in order, and whether they are too many."""

    most_lines: int
    most_chars: int
    entries: deque[Entry] = field(default_factory=deque)
    chars: int = 0

    @property
    def is_over(self) -> bool:
        return len(self.entries) > self.most_lines or (self.chars > self.most_chars and len(self.entries) > 1)

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.chars += len(entry.line.message)

    def appendleft(self, entry: Entry) -> None:
        self.entries.appendleft(entry)
        self.chars += len(entry.line.message)

    def pop(self) -> Entry:
        entry = self.entries.pop()
        self.chars -= len(entry.line.message)
        return entry

    def popleft(self) -> Entry:
        entry = self.entries.popleft()
        self.chars -= len(entry.line.message)
        return entry

    def clear(self) -> None:
        self.entries.clear()
        self.chars = 0


class LogBook:
    """Takes lines from the journal's end and pages from before it; tells which are to be shown."""

    def __init__(self) -> None:
        self.choice = Choice()
        self.search: Pattern | None = None
        self.begun = False
        """The journal holds nothing before the oldest entry."""
        self.gap = False
        """What comes after the older piece is not held up to the live end."""
        self._live = _Ring(LIVE_LINES, LIVE_CHARS)
        self._older = _Ring(OLDER_LINES, OLDER_CHARS)
        self._next = 0
        self._edge: LogPlace | None = None
        """Where the last page back ended; None: at the oldest entry."""
        self._forth: LogPlace | None = None
        """The same of the last page forth."""
        self._undecided: deque[Entry] = deque()
        """Those that patterns have not been tried on yet."""
        self._shown: list[Entry] | None = None
        self._matches: list[Entry] | None = None

    # -- what is held --------------------------------------------------------------------------------------------

    def take(self, lines: Iterable[LogLine], *, looking_back: bool, after_loss: bool = False) -> None:
        """New lines at the live end. `looking_back`: rather make a gap than lose what is older; `after_loss`: lines
        before these never came, and can only be read from the journal."""
        if after_loss:
            self._part(looking_back=looking_back)
        for line in lines:
            self._live.append(self._entry(self._next, line))
            self._next += _STEP
            while self._live.is_over:
                self._retire(self._live.popleft(), looking_back=looking_back)
        while len(self._undecided) > LIVE_LINES + OLDER_LINES:
            self._undecided.popleft()
        self._shown = None

    def add_before(self, page: LogPage) -> None:
        """A page that ends where the oldest entry begins."""
        number = self._first_number
        for line in reversed(page.lines):
            number -= _STEP
            self._older.appendleft(self._entry(number, line, first=True))
        while self._older.is_over:
            self._older.pop()
            self.gap, self._forth = True, None
        self.begun, self._edge = page.edge is None, page.edge
        self._shown = None

    def add_after(self, page: LogPage) -> None:
        """A page that begins where the older piece ends."""
        if not self.gap:
            return
        older = self._older.entries
        number = older[-1].number + _NEXT if older else self._live_number - _ELSEWHERE
        self._extend(page.lines, number)
        self._forth = page.edge
        if page.edge is None:
            self.gap = False
        while self._older.is_over:
            self._older.popleft()
            self.begun, self._edge = False, None
        self._shown = None

    def begin_at(self, before: LogPage, after: LogPage) -> None:
        """Another older piece: two pages that meet at some moment."""
        self._older.clear()
        self.gap, self.begun, self._edge = True, False, None
        self._extend(before.lines, self._live_number - _ELSEWHERE)
        self.add_after(after)
        if self._older.entries:
            self.begun, self._edge = before.edge is None, before.edge
        self._shown = None

    def choose(self, choice: Choice) -> None:
        """Ask for other lines. What is older was read for units and level: with those it goes."""
        if (choice.units, choice.priority) != (self.choice.units, self.choice.priority):
            self._older.clear()
            self.gap = self.begun = False
            self._edge = None
        self.choice = choice
        self._decide_again()

    def close_gap(self) -> None:
        """Let go of an older piece that does not reach up to the live end."""
        if self.gap:
            self._older.clear()
            self.gap = self.begun = False
            self._edge = None
            self._shown = None

    def look_for(self, pattern: Pattern | None) -> None:
        """Search the lines that are shown."""
        self.search = pattern
        self._decide_again()

    def place_before(self, now: float) -> LogPlace:
        """Where the page before the oldest entry ends; `now` where there is none."""
        if self._edge is not None:
            return self._edge
        first = next(self._all(), None)
        return first.place if first is not None else LogPlace(now)

    @property
    def place_after(self) -> LogPlace | None:
        """Where the page after the older piece begins; None: there is no gap."""
        if not self.gap or self._forth is not None:
            return self._forth if self.gap else None
        return self._older.entries[-1].place if self._older.entries else None

    def holds(self, at: float) -> bool:
        """Whether all that was written at that moment and a little later is held."""
        older, live = self._older.entries, self._live.entries
        if older and older[0].line.at <= at <= older[-1].line.at:
            return True
        if not self.gap and self.begun:
            return True
        first = next(iter(live) if self.gap else self._all(), None)
        return first is not None and first.line.at <= at

    @property
    def held(self) -> int:
        """Lines, shown or not."""
        return len(self._live.entries) + len(self._older.entries)

    @property
    def chars(self) -> int:
        """Of all lines that are held."""
        return self._live.chars + self._older.chars

    # -- what is shown -------------------------------------------------------------------------------------------

    @property
    def shown(self) -> list[Entry]:
        """The entries that are asked for, in order, with a remark where some between them are not held."""
        if self._shown is None:
            self._shown = [entry for entry in self._older.entries if entry.hit]
            if self.gap:
                at = self._older.entries[-1].line.at if self._older.entries else 0.0
                self._shown.append(remark(self._live_number - 2, at, GAP))
            self._shown += [entry for entry in self._live.entries if entry.hit]
            self._matches = None
        return self._shown

    @property
    def matches(self) -> list[Entry]:
        """Those of them that the search finds."""
        if self._matches is None or self._shown is None:
            self._matches = [entry for entry in self.shown if entry.found]
        return self._matches

    def newer_than(self, number: int) -> int:
        """How many lines are shown behind that number."""
        behind = len(self.shown) - bisect_right(self.shown, number, key=lambda entry: entry.number)
        return behind - (self.gap and self._live_number - 2 > number)

    def index_at(self, at: float) -> int:
        """The first that is shown of that moment or later."""
        return bisect_left(self.shown, at, key=lambda entry: entry.line.at)

    @property
    def newest_number(self) -> int:
        """Of the last line that was taken."""
        return self._next - _STEP

    @property
    def is_deciding(self) -> bool:
        """Patterns have still to be tried on some lines."""
        return bool(self._undecided)

    def decide(self, may_go_on: Callable[[], bool]) -> None:
        """Try the patterns, the newest line first, until all are done or there is no time left."""
        pattern, search = self.choice.pattern, self.search
        while self._undecided and may_go_on():
            entry = self._undecided.pop()
            entry.hit = pattern is None or pattern.matches(entry.text)
            entry.found = entry.hit and search is not None and search.matches(entry.text)
            self._shown = None

    # -- parts ---------------------------------------------------------------------------------------------------

    def _all(self) -> Iterator[Entry]:
        return chain(self._older.entries, self._live.entries)

    @property
    def _live_number(self) -> int:
        return self._live.entries[0].number if self._live.entries else self._next

    @property
    def _first_number(self) -> int:
        return self._older.entries[0].number if self._older.entries else self._live_number

    def _entry(self, number: int, line: LogLine, *, first: bool = False) -> Entry:
        text, spans = coloured(line.message)
        entry = Entry(number, line, text, spans)
        self._decide_on(entry, first=first)
        return entry

    def _decide_on(self, entry: Entry, *, first: bool = False) -> None:
        entry.hit = entry.found = False
        if not self.choice.takes(entry.line):
            return
        if self.choice.pattern is None and self.search is None:
            entry.hit = True
        elif first:
            self._undecided.appendleft(entry)
        else:
            self._undecided.append(entry)

    def _decide_again(self) -> None:
        self._undecided.clear()
        for entry in self._all():
            self._decide_on(entry)
        self._shown = None

    def _extend(self, lines: tuple[LogLine, ...], number: int) -> None:
        """Lines behind the older piece, up to the live ones."""
        live = self._live.entries[0].line if self._live.entries else None
        for line in lines:
            if live is not None and (line.at > live.at or (line.cursor and line.cursor == live.cursor)):
                self.gap = False
                return
            self._older.append(self._entry(number, line))
            number += _NEXT

    def _part(self, *, looking_back: bool) -> None:
        """What was held up to now does not reach up to what comes."""
        if looking_back:
            while self._live.entries:
                self._retire(self._live.popleft(), looking_back=True)
            self.gap = True
        else:
            self._live.clear()
            self._older.clear()
            self.gap = self.begun = False
            self._edge = None
        self._forth = None

    def _retire(self, entry: Entry, *, looking_back: bool) -> None:
        if self.gap or not self.choice.takes(entry.line):
            return
        self._older.append(entry)
        while self._older.is_over:
            if looking_back:
                self._older.pop()
                self.gap, self._forth = True, None
                return
            self._older.popleft()
            self.begun, self._edge = False, None
