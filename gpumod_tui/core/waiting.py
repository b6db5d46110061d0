"""Waits that have a limit, can be cancelled and take their clock from outside."""

import threading
from collections.abc import Callable
from typing import TypeVar

from gpumod_tui.core.ports import Clock

T = TypeVar("T")


class Cancelled(Exception):
    """Somebody asked the switch to cancel."""


class TimeUp(Exception):
    """The limit of the whole switch has passed, not that of one wait."""


class Waiter:
    """One switch's patience: an overall deadline, a cancel request, and a wake-up for when something changed."""

    def __init__(self, clock: Clock, *, cancelled: Callable[[], bool], timeout_s: float | None) -> None:
        self.clock = clock
        self.wake = threading.Event()
        self._cancelled = cancelled
        self._deadline = None if timeout_s is None else clock.monotonic() + timeout_s

    def checkpoint(self) -> None:
        """Raises: Cancelled, when that was asked for."""
        if self._cancelled():
            raise Cancelled

    def beat(self) -> None:
        """For a wait that is somebody else's. Raises: Cancelled, TimeUp."""
        self.checkpoint()
        if self._deadline is not None and self.clock.monotonic() >= self._deadline:
            raise TimeUp

    def until(
        self, check: Callable[[], T | None], *, limit_s: float, interval_s: float, cancellable: bool = True
    ) -> T | None:
        """What `check` returns once it is not None; None when the limit has passed. Raises: Cancelled, TimeUp."""
        end = self.clock.monotonic() + limit_s
        while True:
            if cancellable:
                self.checkpoint()
            value = check()
            if value is not None:
                return value
            now = self.clock.monotonic()
            if cancellable and self._deadline is not None and now >= self._deadline:
                raise TimeUp
            if now >= end:
                return None
            self.clock.wait(self.wake, min(interval_s, end - now))
            self.wake.clear()
