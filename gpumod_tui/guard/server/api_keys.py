"""API keys of a service, checked before a request may make anything happen."""

import hmac
import time
from pathlib import Path
from typing import Final

_FRESH_S: Final = 2.0


class Keys:
    """The keys of a file, one a line; read anew every few seconds at most."""

    def __init__(self, file: Path | None) -> None:
        """`file` None: the server asks for no key."""
        self._file = file
        self._read_at = float("-inf")
        self._keys: tuple[str, ...] = ()

    def first(self) -> str:
        """The one that the guard itself uses; empty: none."""
        keys = self._all()
        return keys[0] if keys else ""

    def accept(self, key: str) -> bool:
        """Whether a client with this key may ask. A file that cannot be read lets nobody in."""
        if self._file is None:
            return True
        return any(hmac.compare_digest(key.encode("utf-8", "replace"), one.encode()) for one in self._all())

    def _all(self) -> tuple[str, ...]:
        if self._file is None:
            return ()
        now = time.monotonic()
        if now - self._read_at > _FRESH_S:
            self._read_at = now
            try:
                self._keys = tuple(self._file.read_text(encoding="ascii").split())
            except (OSError, ValueError):
                self._keys = ()
        return self._keys
