"""Clocks for the played host: one that runs (at any speed) and one that a test moves."""

import threading
import time
from typing import Final, Protocol

_YIELD_S: Final = 0.0002
_EPOCH: Final = 1_790_000_000.0


class Played(Protocol):
    """A world whose next moment a `PlayedClock` must not jump over."""

    def next_due(self) -> float | None:
        """Monotonic time of its next event; None: nothing is going to happen."""

    def settle(self) -> None:
        """Let happen what is due."""


class RunningClock:
    """Real time, `speed` times as fast."""

    def __init__(self, speed: float = 1.0, *, ago_s: float = 0.0) -> None:
        """`ago_s`: how long ago it is to begin; `skip` leads to now."""
        self.speed = speed
        self._begin_monotonic = time.monotonic()
        self._begin_time = time.time() - ago_s
        self._skipped_s = 0.0

    def monotonic(self) -> float:
        """Seconds since this clock was made, and those that were skipped."""
        return (time.monotonic() - self._begin_monotonic) * self.speed + self._skipped_s

    def skip(self, seconds: float) -> None:
        """Be so much later."""
        self._skipped_s += seconds

    def time(self) -> float:
        """Unix time, running away from the real one when `speed` is not 1."""
        return self._begin_time + self.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Sleep until the event is set (True) or the time is up (False)."""
        return event.wait(max(0.0, timeout_s) / self.speed)


class PlayedClock:
    """Stands still until somebody waits; a wait takes no real time and lets the attached world happen on the way."""

    def __init__(self) -> None:
        self._now = 0.0
        self._worlds: list[Played] = []
        self._lock = threading.RLock()

    def attach(self, world: Played) -> None:
        """From now on no event of this world is jumped over."""
        self._worlds.append(world)

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        with self._lock:
            return self._now

    def time(self) -> float:
        """Unix time."""
        return _EPOCH + self.monotonic()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Move time until the event is set (True) or the time is up (False)."""
        if event.is_set():
            return True
        # Without a real pause, virtual time limits would run out before other threads had a turn.
        time.sleep(_YIELD_S)
        self._move(max(0.0, timeout_s), event)
        return event.is_set()

    def advance(self, seconds: float) -> None:
        """Move time, letting everything happen in its order."""
        self._move(seconds, None)

    def _move(self, seconds: float, event: threading.Event | None) -> None:
        target = self.monotonic() + seconds
        while event is None or not event.is_set():
            due = min((at for world in self._worlds if (at := world.next_due()) is not None), default=None)
            stop = due is None or due > target
            with self._lock:
                self._now = max(self._now, target if due is None or stop else due)
            for world in self._worlds:
                world.settle()
            if stop:
                return
