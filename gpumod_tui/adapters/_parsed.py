"""What was parsed from files, kept for as long as the files do not change."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from gpumod_tui.adapters._atomic import private_folder, write_whole

T = TypeVar("T")


class _Kept(msgspec.Struct, Generic[T], array_like=True):
    key: str
    value: T


def fingerprint(paths: Iterable[Path], more: Iterable[object] = (), code: Iterable[str | None] = ()) -> str:
    """Changes with any of the files (path, size, times, inode), with `more`, and with gpumod's own files in `code`.

    Those stand for its version: an installation changes their inode, an edited checkout their time.
    """
    parts = [*map(repr, more)]
    for path in (*paths, *(Path(name) for name in code if name)):
        try:
            status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, once a preset
            parts.append(f"{path}\t{status.st_mtime_ns}\t{status.st_ctime_ns}\t{status.st_size}\t{status.st_ino}")
        except OSError as error:
            parts.append(f"{path}\t{error.errno}")
    return ascii("\n".join(parts))


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
