"""Locks between processes: an open file description's lock, which ends with the process and not a moment earlier."""

import fcntl
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from gpumod_tui.adapters.files.atomic import private_folder

_FLOCK: Final = struct.Struct("hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid."""
_REQUEST: Final = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_POLL_S: Final = 0.002


def try_lock(lock: Path) -> int | None:
    """A descriptor that holds the lock until it is closed; None: somebody else holds it. Raises: OSError."""
    private_folder(lock.parent)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _REQUEST)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(lock: Path) -> bool:
    """Whether somebody holds the lock; asked without taking it, which would make somebody else fail to. Raises:
    OSError."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _REQUEST)
    finally:
        os.close(descriptor)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


@contextmanager
def held(lock: Path, timeout_s: float) -> Iterator[Callable[[], bool]]:
    """Hold the lock; given is whether it still counts: a file that was deleted keeps nobody out.

    Raises: OSError, of which TimeoutError when others hold it for longer than `timeout_s`.
    """
    end = time.monotonic() + timeout_s
    while True:
        descriptor = try_lock(lock)
        if descriptor is not None and _is_at(descriptor, lock):
            break
        if descriptor is not None:
            os.close(descriptor)
        if time.monotonic() > end:
            raise TimeoutError(f"{lock} is held by another process")
        time.sleep(_POLL_S)
    try:
        yield lambda: _is_at(descriptor, lock)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, lock: Path) -> bool:
    try:
        there = lock.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
