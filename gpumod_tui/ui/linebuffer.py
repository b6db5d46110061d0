"""Where the journal's thread meets the screen: a bounded queue that counts what it loses."""

import threading
from collections import deque
from typing import Final

from gpumod_tui.core.models import LogLine
from gpumod_tui.ui.logentry import Batch

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
