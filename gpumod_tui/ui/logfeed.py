"""The journal's live end: followed in a thread, and begun again when there are units that it did not know of."""

import threading
from collections.abc import Callable
from typing import Final

from gpumod_tui.core.ports import Closeable
from gpumod_tui.ui.commands import JournalFollow
from gpumod_tui.ui.linebuffer import LineBuffer

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
