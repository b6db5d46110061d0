"""Unit files of the user manager: whose they are, what they lack, and how they are written."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

from gpumod_tui.adapters.files.atomic import write_whole
from gpumod_tui.adapters.models.files import model_paths, shards
from gpumod_tui.core.models import DriverKind, Service, UnitState
from gpumod_tui.core.units.guard import GUARD_UNITS
from gpumod_tui.core.units.login import LOGIN_UNIT
from gpumod_tui.core.units.unit_file import STAMP, Stamp, read_stamp, unsafe_settings

_HEAD_BYTES: Final = 4096
_PROGRAM: Final = re.compile(r"^Program=(.*)$", re.MULTILINE)


class FileState(StrEnum):
    """How an installed unit file stands to what would be installed now."""

    MISSING = "missing"
    CURRENT = "current"
    OUTDATED = "outdated"
    """Ours, and another text would be written now."""
    EDITED = "hand-edited"
    FOREIGN = "foreign"
    """Not gpumod's, also where it lies in another folder of the user manager."""
    UNKNOWN = "installed"
    """Ours; what would be written now cannot be said."""


class InstalledUnits:
    """The port UnitFiles, and all that `template` does with files."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environ = os.environ if environ is None else environ

    def stamped(self) -> tuple[str, ...]:
        """Names of installed unit files that carry gpumod's stamp, also when their preset is broken or gone."""
        try:
            names = sorted(entry.name for entry in os.scandir(self._folder) if entry.name.endswith(".service"))
        except OSError:
            return ()
        return tuple(
            name
            for name in names
            # Neither the guard nor a switch at login is a service that a switch might stop.
            if name not in (*GUARD_UNITS, LOGIN_UNIT)
            and STAMP in (_regular_text(self._folder / name, _HEAD_BYTES) or "")
        )

    def path(self, unit: Service | str) -> Path:
        """Where the unit file of a service, or of a name, lies or would lie."""
        return self._folder / _name(unit)

    def text(self, unit: Service | str) -> str | None:
        """The installed text; None: there is no regular file."""
        return _regular_text(self.path(unit))

    def installed(self, unit: Service | str, wanted: str | None) -> FileState:
        """How the file stands to the wanted text; `wanted` None: it cannot be said what is wanted."""
        path = self.path(unit)
        if not path.exists() and not path.is_symlink():
            elsewhere = any((folder / path.name).exists() for folder in self._folders() if folder != self._folder)
            return FileState.FOREIGN if elsewhere else FileState.MISSING
        text = self.text(unit)
        stamp = Stamp.FOREIGN if text is None else read_stamp(text)
        if stamp is Stamp.FOREIGN:
            return FileState.FOREIGN
        if stamp is Stamp.EDITED:
            return FileState.EDITED
        if wanted is None:
            return FileState.UNKNOWN
        return FileState.CURRENT if text == wanted else FileState.OUTDATED

    def write(self, unit: Service | str, text: str) -> None:
        """Replace the unit file, whole or not at all. Raises: OSError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.path(unit), text)

    def remove(self, unit: Service | str) -> None:
        """Raises: OSError; none for a file that is not there."""
        self.path(unit).unlink(missing_ok=True)

    def unsafe_drop_ins(self, unit: Service | str) -> tuple[str, ...]:
        """Sentences on drop-ins, of the unit or of all of its kind, that undo safety; in the order of their folders."""
        stem, _, kind = _name(unit).rpartition(".")
        names = [f"{stem}.{kind}.d", f"{kind}.d"]
        words = stem.split("-")
        names += [f"{'-'.join(words[:count])}-.{kind}.d" for count in range(1, len(words))]
        found = []
        for folder in self._folders():
            for name in names:
                for path in sorted((folder / name).glob("*.conf")):
                    settings = unsafe_settings(_text(path) or "")
                    found += [f"{path} sets {', '.join(settings)}"] if settings else []
        return tuple(found)

    def unsafe(self, service: Service) -> tuple[str, ...]:
        """Hand edits and drop-ins that undo safety."""
        edited = (
            (f"{self.path(service)} was edited by hand",) if self.installed(service, None) is FileState.EDITED else ()
        )
        return edited + self.unsafe_drop_ins(service)

    def is_open_to_others(self, key_file: Path | None) -> bool:
        """Whether people other than its owner can read it."""
        try:
            return key_file is not None and bool(key_file.stat().st_mode & 0o077)
        except OSError:
            return False

    def missing_files(self, service: Service, state: UnitState) -> tuple[str, ...]:
        """Sentences on what the service needs and is not there (binary, model file, key file); empty: all there."""
        found = list(self._missing_program(service, state))
        folder = service.unit_vars.get("working_dir")
        for path, what in (
            (service.api_key_file, "key file"),
            (Path(folder) if folder else None, "working folder"),
        ):
            if path is not None and not os.access(path, os.R_OK):
                found.append(f"{what} {path} is not there or cannot be read")
        found += _missing_models(service)
        return tuple(found)

    def _missing_program(self, service: Service, state: UnitState) -> Iterator[str]:
        """The program as the unit file names it: behind a shell that reads a key, systemd shows the shell."""
        program = self._named_program(service) or state.exec_path
        if program is not None and not (Path(program).is_file() and os.access(program, os.X_OK)):
            yield f"program {program} is not there or cannot be run"

    def _named_program(self, service: Service) -> str | None:
        named = _PROGRAM.search(self.text(service) or "")
        return named[1].replace("%%", "%") if named else None

    def version(self, service: Service) -> str:
        """Size and time of the program's file, which stand for the server's version (port `Programs`).

        A wrapper, as vLLM's is, is written anew by an upgrade and so changes too. Empty: it is not known.
        """
        program = self._named_program(service)
        try:
            status = os.stat(program) if program else None  # noqa: PTH116 - a text, and often nothing is there
        except (OSError, ValueError):
            return ""
        return f"{status.st_size}-{status.st_mtime_ns}" if status else ""

    def file_bytes(self, service: Service) -> int | None:
        """Size of its model file(s), for an estimate where nothing is declared; None: unknown."""
        found = model_paths(service)
        try:
            return sum(path.stat().st_size for path in found.parts) if found else None
        except OSError:
            return None

    def _folders(self) -> tuple[Path, ...]:
        """Where the user manager looks, as systemd.unit(5) lists it; the first wins."""
        home = Path(self._environ.get("HOME") or Path.home())
        runtime = Path(self._environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}") / "systemd"
        config = self._environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
        data = [
            self._environ.get("XDG_DATA_HOME") or str(home / ".local/share"),
            *self._environ.get("XDG_DATA_DIRS", "/usr/local/share:/usr/share").split(":"),
        ]
        every = (
            self._folder.parent / "user.control",
            *(runtime / name for name in ("user.control", "transient", "generator.early")),
            self._folder,
            *(Path(name) / "systemd/user" for name in config if name),
            Path("/etc/systemd/user"),
            runtime / "user",
            Path("/run/systemd/user"),
            runtime / "generator",
            *(Path(name) / "systemd/user" for name in data if name),
            Path("/usr/local/lib/systemd/user"),
            Path("/usr/lib/systemd/user"),
            runtime / "generator.late",
        )
        return tuple(dict.fromkeys(every))


def _name(unit: Service | str) -> str:
    return unit if isinstance(unit, str) else unit.unit


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _regular_text(path: Path, most_bytes: int = -1) -> str | None:
    """Text of a regular file. A link is nobody's to replace: it may be a mask, or a file kept elsewhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return file.read(most_bytes).decode(errors="replace")
    except OSError:
        return None


def _missing_models(service: Service) -> Iterable[str]:
    if service.model_path is not None and service.driver is not DriverKind.LLAMACPP:
        if not service.model_path.exists():
            yield f"model {service.model_path} is not there"
    elif service.model_path is not None:
        absent = [path for path in shards(service.model_path) if not os.access(path, os.R_OK)]
        if absent:
            yield f"model file {absent[0]} is not there or cannot be read"
    elif service.is_router and service.models_dir is not None:
        if not service.models_dir.is_dir():
            yield f"folder of models {service.models_dir} is not there"
        elif service.default_model is not None and model_paths(service) is None:
            yield f"model {service.default_model} is not in {service.models_dir}"
