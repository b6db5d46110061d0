"""The highest VRAM ever measured, on disk (port `Peaks`).

Every process notes what it measures; who has seen more than the file knows takes the lock, reads the file again, and
replaces it whole. What cannot be written is kept in memory and tried again with the next measurement.
"""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from gpumod_tui.adapters.files.atomic import private_folder, write_whole
from gpumod_tui.adapters.files.locks import held
from gpumod_tui.core.text import MIB
from gpumod_tui.core.vram.peaks import PeakKey

GROWTH_BYTES: Final = MIB
"""A peak that grew by less is not worth a write."""
MOST_KEYS: Final = 500
_STALE_S: Final = 86400.0
"""A key still in use is marked so once a day, so that it outlives those that are not."""
_LOCK_S: Final = 2.0
_ABSURD_BYTES: Final = 1 << 60
_VERSION: Final = 1


class _Entry(msgspec.Struct):
    by_gpu: dict[int, int]
    at: float
    """Unix time of the newest growth or use, seconds."""


class _File(msgspec.Struct):
    version: int
    peaks: dict[str, _Entry]


class PeaksFile:
    """The port Peaks."""

    def __init__(self, state: Path, runtime: Path) -> None:
        self._file = state / "peaks.json"
        self._lock_file = runtime / "peaks.lock"
        self._guard = threading.Lock()
        self._seen: tuple[int, ...] | None = None
        self._known: dict[str, _Entry] = {}
        self._unwritten: dict[str, _Entry] = {}
        self.problem = ""
        """Why the file could not be read or written; empty: it can."""

    def highest(self, key: PeakKey) -> Mapping[int, int] | None:
        """Bytes by GPU index; None: never measured."""
        with self._guard:
            self._refresh()
            return _larger(self._known.get(str(key)), self._unwritten.get(str(key)))

    def note(self, key: PeakKey, by_gpu: Mapping[int, int]) -> None:
        """Take a measurement."""
        measured = {gpu: size for gpu, size in by_gpu.items() if 0 < size < _ABSURD_BYTES}
        name = str(key)
        with self._guard:
            self._refresh()
            known = self._known.get(name)
            before = _larger(known, self._unwritten.get(name)) or {}
            grew = any(size >= before.get(gpu, 0) + GROWTH_BYTES for gpu, size in measured.items())
            now = time.time()
            if grew or (known is not None and abs(now - known.at) > _STALE_S):
                merged = {gpu: max(before.get(gpu, 0), measured.get(gpu, 0)) for gpu in {*before, *measured}}
                self._unwritten[name] = _Entry(merged, now)
            if self._unwritten:
                self._write()

    def _write(self) -> None:
        try:
            with held(self._lock_file, _LOCK_S):
                private_folder(self._file.parent)
                self._seen = None
                self._refresh(locked=True)
                peaks = dict(self._known)
                for name, entry in self._unwritten.items():
                    peaks[name] = _Entry(_larger(peaks.get(name), entry) or {}, entry.at)
                newest = sorted(peaks.items(), key=lambda item: item[1].at)[-MOST_KEYS:]
                write_whole(self._file, msgspec.json.encode(_File(_VERSION, dict(newest))), mode=0o600)
        except OSError as error:
            self.problem = f"{self._file}: learned peaks cannot be written: {error.strerror or error}"
            # Without an end to it a disk that stays full would fill the memory.
            while len(self._unwritten) > MOST_KEYS:
                self._unwritten.pop(next(iter(self._unwritten)))
            return
        self._unwritten.clear()
        self._refresh()

    def _refresh(self, *, locked: bool = False) -> None:
        """Read the file anew where it is another one than before."""
        try:
            status = self._file.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen == self._seen:
                return
            data = self._file.read_bytes()
        except FileNotFoundError:
            self._known, self._seen = {}, None
            return
        except OSError as error:
            self.problem = f"{self._file}: learned peaks cannot be read: {error.strerror}"
            return
        found = _decode(data)
        if isinstance(found, str):
            self._known, self._seen = {}, seen
            self.problem = f"{self._file}: {found}; learned peaks start anew"
            if locked:
                aside = self._file.with_name(f"{self._file.name}.damaged")
                self._file.replace(aside)
                self.problem += f", the file is kept as {aside.name}"
            else:
                self._set_aside()
            return
        self._known, self._seen = found, seen

    def _set_aside(self) -> None:
        """Under the lock, and only if it is still damaged: another process may have replaced it by now."""
        try:
            with held(self._lock_file, _LOCK_S):
                self._seen = None
                self._refresh(locked=True)
        except OSError as error:
            self.problem += f", and the file cannot be set aside: {error.strerror or error}"


def _decode(data: bytes) -> dict[str, _Entry] | str:
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return f"damaged ({error})"
    if found.version != _VERSION:
        return f"of version {found.version}, not {_VERSION}"
    sizes = (size for entry in found.peaks.values() for size in entry.by_gpu.values())
    return found.peaks if all(0 <= size < _ABSURD_BYTES for size in sizes) else "damaged (a size that no GPU has)"


def _larger(one: _Entry | None, other: _Entry | None) -> dict[int, int] | None:
    """Of both, GPU by GPU."""
    if one is None or other is None:
        found = one or other
        return None if found is None else dict(found.by_gpu)
    return {gpu: max(one.by_gpu.get(gpu, 0), other.by_gpu.get(gpu, 0)) for gpu in {*one.by_gpu, *other.by_gpu}}
