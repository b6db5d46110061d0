"""Exceptions that nobody expected, in threads that go on all the same: told like those that end one."""

import threading
from typing import Final

_MOST: Final = 20
"""Different ones that are told: a text that never repeats would fill whatever shows it."""


class Unexpected:
    """Hands exceptions to `threading.excepthook`, each once: a loop meets the same several times a second."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, error: Exception) -> None:
        """To be called in the thread that met it."""
        words = repr(error)
        if words in self._told or len(self._told) >= _MOST:
            return
        self._told.add(words)
        about = (type(error), error, error.__traceback__, threading.current_thread())
        threading.excepthook(threading.ExceptHookArgs(about))
