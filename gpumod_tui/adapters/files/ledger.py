"""The ledger of commitments: one small file in the runtime folder, shared by all processes of the user.

Whoever changes it holds the lock from reading to writing. The file is replaced whole, so a process that is killed
leaves either the old or the new one, and its lock ends with it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from gpumod_tui.adapters.files.atomic import write_whole
from gpumod_tui.adapters.files.locks import held, try_lock
from gpumod_tui.core.admission.commitments import LedgerState
from gpumod_tui.core.errors import StateUnavailable

if TYPE_CHECKING:
    from gpumod_tui.core.doctor.facts import SetAside


class _File(msgspec.Struct):
    version: int
    state: LedgerState


_VERSION: Final = 1
_DAMAGED: Final = ".damaged"
_STRANGE: Final = ".strange"


class OpenLedger:
    """The ledger while its lock is held."""

    def __init__(self, file: Path, counts: Callable[[], bool]) -> None:
        """`counts`: whether the lock still keeps others out."""
        self._file = file
        self._counts = counts
        self.state = self._read()

    def write(self, state: LedgerState) -> None:
        """Replace the file. Raises: StateUnavailable."""
        if not self._counts():
            raise StateUnavailable(
                f"the lock of {self._file} was deleted while it was held", hint="try again, and leave that folder alone"
            )
        try:
            # Whoever left one of these was killed while it held the lock.
            for left in self._file.parent.glob(f".{self._file.name}.*"):
                left.unlink(missing_ok=True)
            write_whole(self._file, msgspec.json.encode(_File(_VERSION, state)), mode=0o600)
        except OSError as error:
            raise _unavailable(self._file, error) from error
        self.state = state

    def _read(self) -> LedgerState:
        if _is_no_file(self._file):
            # Where a damaged file lies, no folder can take its place.
            self._set_aside(self._file.with_suffix(_STRANGE), "is no file")
        else:
            try:
                data = self._file.read_bytes()
            except FileNotFoundError:
                return LedgerState()
            except OSError as error:
                raise _unavailable(self._file, error) from error
            try:
                found = msgspec.json.decode(data, type=_File)
                if found.version == _VERSION:
                    return found.state
                why = f"is of version {found.version}, not {_VERSION}"
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                why = f"is damaged ({error})"
            self._set_aside(self._file.with_suffix(_DAMAGED), why)
        return self.state

    def _set_aside(self, aside: Path, why: str) -> None:
        """Begin a new one that says so: who opened the old one may not be who rebuilds it."""
        try:
            self._file.replace(aside)
        except OSError as error:
            raise _unavailable(aside, error) from error
        self.write(LedgerState(lost=f"{self._file} {why}, and was set aside as {aside.name}"))


class FileLedger:
    """The port `Ledger` in a folder of the runtime directory."""

    def __init__(self, runtime: Path) -> None:
        self._folder = runtime

    @contextmanager
    def locked(self, timeout_s: float) -> Iterator[OpenLedger]:
        """Hold the ledger. Raises: StateUnavailable, also when others hold it for longer than `timeout_s`."""
        lock = self._folder / "ledger.lock"
        with ExitStack() as stack:
            try:
                counts = stack.enter_context(held(lock, timeout_s))
            except TimeoutError:
                raise StateUnavailable(
                    f"{lock} was held by another process for more than {timeout_s:g} s",
                    hint="see who: fuser -v on that file",
                ) from None
            except OSError as error:
                raise _unavailable(lock, error) from error
            yield OpenLedger(self._folder / "ledger.json", counts)

    def try_turn(self, unit: str) -> "Turn | None":
        """The turn to put a unit to sleep or to wake it, until it is closed or this process ends; None: it is taken.

        Raises: StateUnavailable.
        """
        lock = self._folder / f"{unit}.turn"
        try:
            descriptor = try_lock(lock)
        except OSError as error:
            raise _unavailable(lock, error) from error
        return None if descriptor is None else Turn(descriptor)


class Turn:
    """Keeps everybody else from putting one unit to sleep or waking it."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor`: holds the lock."""
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        """Let others have it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def peek(runtime: Path) -> tuple[int, str]:
    """How many commitments there are, and why that cannot be said (empty: it can); without the lock, and nothing is
    set aside."""
    file = runtime / "ledger.json"
    if _is_no_file(file):
        return 0, f"{file} is no file"
    try:
        found = msgspec.json.decode(file.read_bytes(), type=_File)
    except FileNotFoundError:
        return 0, ""
    except OSError as error:
        return 0, f"{file}: {error.strerror}"
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return 0, f"{file} is damaged ({error})"
    if found.version != _VERSION:
        return 0, f"{file} is of version {found.version}, not {_VERSION}"
    return len(found.state.commitments), ""


def set_aside(runtime: Path) -> "tuple[SetAside, ...]":
    """What lies there of earlier ledgers that could not be read."""
    from gpumod_tui.core.doctor.facts import SetAside

    found = []
    for suffix in (_DAMAGED, _STRANGE):
        path = (runtime / "ledger.json").with_suffix(suffix)
        with suppress(OSError):
            # The moment of its renaming: its content is older.
            found.append(SetAside(path, path.lstat().st_ctime))
    return tuple(found)


def _is_no_file(path: Path) -> bool:
    """Whether something else is there: a pipe would keep its reader waiting for ever."""
    return path.exists() and not path.is_file()


def _unavailable(path: Path, error: OSError) -> StateUnavailable:
    return StateUnavailable(f"{path}: {error.strerror}", hint="correct the folder's owner and mode, or make room")
