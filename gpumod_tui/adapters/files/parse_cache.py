"""What was parsed from files, kept for as long as the files do not change."""

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import msgspec

from gpumod_tui.adapters.files.atomic import private_folder, write_whole

T = TypeVar("T")
_PACKAGE: Final = str(Path(__file__).parents[2])


class _Kept(msgspec.Struct, Generic[T], array_like=True):
    key: str
    value: T


def fingerprint(paths: Iterable[Path], more: Iterable[object] = ()) -> str:
    """Changes with any of the files (path, size, times, inode), with `more`, and with any file of gpumod's own code."""
    parts = [code_state(), *map(repr, more)]
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, once a preset
            parts.append(f"{path}\t{status.st_mtime_ns}\t{status.st_ctime_ns}\t{status.st_size}\t{status.st_ino}")
        except OSError as error:
            parts.append(f"{path}\t{error.errno}")
    return ascii("\n".join(parts))


@functools.cache
def code_state(package: str = _PACKAGE) -> str:
    """The name, size, time and inode of each module of the package.

    Any of them may hold a rule for presets. An installation changes their inodes, an edited checkout their times.
    Read once: it stands for the code that runs, not for what replaced it since.
    """
    parts, folders = [], [package]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.name.endswith(".py"):
                        status = entry.stat()
                        parts.append(f"{entry.path} {status.st_mtime_ns} {status.st_size} {status.st_ino}")
                    elif entry.is_dir(follow_symlinks=False) and not entry.name.startswith(("_", ".")):
                        folders.append(entry.path)
        except OSError as error:
            parts.append(f"{error.filename} {error.errno}")
    return "\n".join(sorted(parts))


def kept(
    file: Path,
    key: str,
    kind: type[T],
    *,
    dec_hook: Callable[[type, Any], Any] | None = None,
) -> T | None:
    """The value kept under this key; None: nothing, something else, or damaged."""
    try:
        found = msgspec.msgpack.decode(file.read_bytes(), type=_Kept[kind], dec_hook=dec_hook)  # type: ignore[valid-type]
    except (OSError, msgspec.MsgspecError, ValueError, TypeError):
        return None
    return found.value if found.key == key else None


def keep(file: Path, key: str, value: object, *, enc_hook: Callable[[Any], Any] | None = None) -> None:
    """Keep a value. What cannot be kept (no rights, a path that is no text) costs time on the next start."""
    try:
        private_folder(file.parent)
        write_whole(file, msgspec.msgpack.encode(_Kept(key, value), enc_hook=enc_hook), mode=0o600)
    except (OSError, UnicodeEncodeError):
        return
