"""The switches that ended, in one file of the state folder, written whole by who holds the switch lock."""

from pathlib import Path
from typing import Final

import msgspec

from gpumod_tui.adapters.files.atomic import private_folder, write_whole
from gpumod_tui.core.switch.records import HISTORY_LENGTH, SwitchRecord

_VERSION: Final = 1


class _File(msgspec.Struct):
    version: int
    switches: tuple[SwitchRecord, ...]
    """The newest first."""


class SwitchLog:
    """Bounded; a file that cannot be read as one is kept beside it and the log starts anew."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> tuple[tuple[SwitchRecord, ...], str]:
        """The newest first, and why there are none where that is not because nothing was written."""
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=_File)
        except FileNotFoundError:
            aside = self._aside
            return (), f"the history before is damaged and kept as {aside}" if aside.exists() else ""
        except OSError as error:
            return (), f"{self._file} cannot be read: {error.strerror}"
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
            return (), f"{self._file} is damaged ({error}); the next switch sets it aside and begins a new one"
        if found.version != _VERSION:
            return (), f"{self._file} is of version {found.version}, not {_VERSION}"
        return found.switches, ""

    def add(self, record: SwitchRecord) -> None:
        """Put it in front unless it is there already. Only for who holds the switch lock. Raises: OSError."""
        switches, problem = self.read()
        if any(one.id == record.id for one in switches):
            return
        private_folder(self._file.parent)
        if problem and self._file.exists():
            self._file.replace(self._aside)
        written = _File(_VERSION, (record, *switches)[:HISTORY_LENGTH])
        write_whole(self._file, msgspec.json.encode(written), mode=0o600)

    @property
    def _aside(self) -> Path:
        return self._file.with_name(f"{self._file.name}.damaged")
