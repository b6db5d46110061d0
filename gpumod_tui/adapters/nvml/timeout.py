"""Calls into a library that may never return."""

import queue
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")
_NOTHING: Final = object()


class OverdueError(Exception):
    """The call has not returned in time, or one before it has not returned yet."""


class Patience:
    """Makes calls in one daemon thread, one at a time, and stops waiting after a limit.

    A driver that hangs then costs its caller the limit once; until that call returns, every other fails at once.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], list[Any], threading.Event]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._overdue: threading.Event | None = None

    def call(self, function: Callable[[], T], limit_s: float) -> T:
        """What the function returns or raises. Raises: OverdueError."""
        with self._lock:
            if self._overdue is not None and not self._overdue.is_set():
                raise OverdueError
            self._overdue = None
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            box: list[Any] = [_NOTHING, None]
            done = threading.Event()
            self._calls.put((function, box, done))
            if not done.wait(limit_s):
                self._overdue = done
                raise OverdueError
        result, error = box
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    def _work(self) -> None:
        while True:
            function, box, done = self._calls.get()
            try:
                box[0] = function()
            except BaseException as error:  # noqa: BLE001 handed to the caller, whatever it is
                box[1] = error
            done.set()
