"""The journal's live end: followed in a thread, and begun again when there are units that it did not know of."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from gpumod_tui.core.models import LogLine
from gpumod_tui.core.ports import Closeable
from gpumod_tui.ui.backend import JournalFollow
from gpumod_tui.ui.journal.entry import Batch

CAPACITY: Final = 5000
"""Lines: what comes between two looks when 10,000 are written a second."""
CHARS: Final = 4_000_000


class LineBuffer:
    """Filled from any thread, drained by the screen a few times a second."""

    def __init__(self, capacity: int = CAPACITY, chars: int = CHARS) -> None:
        self._lines: deque[LogLine] = deque()
        self._most_lines = capacity
        self._most_chars = chars
        self._chars = 0
        self._lost = 0
        self._is_anew = False
        self._lock = threading.Lock()

    def put(self, line: LogLine) -> None:
        """Add a line; when full the oldest ones are lost, and counted."""
        with self._lock:
            self._lines.append(line)
            self._chars += len(line.message)
            while len(self._lines) > self._most_lines or (self._chars > self._most_chars and len(self._lines) > 1):
                self._chars -= len(self._lines.popleft().message)
                self._lost += 1

    def begin_again(self) -> None:
        """Whoever fills it begins with the newest lines once more: what is waiting will come again."""
        with self._lock:
            self._lines.clear()
            self._chars = 0
            self._is_anew = True

    def drain(self) -> Batch:
        """All since the last drain."""
        with self._lock:
            batch = Batch(tuple(self._lines), self._lost, self._is_anew and bool(self._lines))
            self._lines.clear()
            self._chars = self._lost = 0
            self._is_anew = self._is_anew and not batch.is_anew
        return batch


InThread = Callable[[str, Callable[[], object], str], None]
"""(name, work, where its fault is told)"""
WHERE: Final = "journal"


class LogFeed:
    """Fills `buffer`. To be used from the screen's thread; nothing here blocks it but `close`."""

    def __init__(self, follow: JournalFollow, in_thread: InThread, report: Callable[[str], object]) -> None:
        """`report` is told, in a thread, why the journal cannot be read; empty: it can."""
        self.buffer = LineBuffer()
        self._follow = follow
        self._in_thread = in_thread
        self._report = report
        self._follower: Closeable | None = None
        self._known: frozenset[str] | None = None
        """Names of units that are followed; None: those that there were at the start, whichever they are."""
        self._begins = False
        self._closing = False
        self._lock = threading.Lock()

    def begin(self, units: frozenset[str] = frozenset()) -> None:
        """Follow these and all that are managed."""
        self._begins = True
        self._in_thread(WHERE, lambda: self._begin(units), WHERE)

    def see(self, units: frozenset[str]) -> None:
        """These are all that there are now."""
        if self._begins or self._closing or not units:
            return
        if self._follower is not None and self._known is None:
            self._known = units
        elif self._follower is None or self._known is None or not units <= self._known:
            self._known = units
            self.begin(units)

    def close(self) -> None:
        """End it, and join what it started."""
        with self._lock:
            self._closing = True
        self._end()

    def _begin(self, units: frozenset[str]) -> None:
        try:
            self._end()
            self.buffer.begin_again()
            follower = self._follow(units, self.buffer.put, self._report)
            with self._lock:
                if not self._closing:
                    self._follower = follower
                    return
            follower.close()
        finally:
            self._begins = False

    def _end(self) -> None:
        with self._lock:
            follower, self._follower = self._follower, None
        if follower is not None:
            follower.close()
