"""The port Facts: what only the doctor wants to know, from files below a root and from systemctl."""

import os
import pwd
import re
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from gpumod_tui.adapters.files.paths import Places
from gpumod_tui.adapters.proc.sockets import open_sockets
from gpumod_tui.adapters.systemd.systemctl import CALL_S, PROPERTIES, assignments, loaded_units, shown
from gpumod_tui.core.doctor.facts import Folder, LedgerLook, LoadedUnit, OpenSockets
from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.core.text import number_of

_MODULE_VERSION: Final = re.compile(r"Kernel Module\b.*?\s(\d{3,}\.\d+(?:\.\d+)*)\s")
_LOCK_LINE: Final = re.compile(r"^lock:\s.*\bWRITE\b", re.MULTILINE)


class BoxFacts:
    """`root` is another one in tests; `places` is asked when a folder is."""

    def __init__(self, places: Callable[[], Places], root: Path = Path("/")) -> None:
        self._places = places
        self._root = root

    def open_sockets(self, pids: Iterable[int]) -> OpenSockets:
        """Listening TCP sockets and open UDP sockets of processes, in our own network namespace."""
        return open_sockets(self._root / "proc", pids)

    def loaded_units(self, units: Sequence[str]) -> dict[str, LoadedUnit]:
        """One entry per asked unit. Raises: SystemdUnavailable."""
        if not units:
            return {}
        return loaded_units(units, shown("--all", f"--property={','.join(PROPERTIES)}", "--", *units))

    def manager_environment(self) -> Mapping[str, str]:
        """What the user manager gives to every unit. Raises: SystemdUnavailable."""
        text = shown("--property=Environment").strip().removeprefix("Environment=")
        found = assignments(text)
        if found is None:
            raise SystemdUnavailable("the user manager's environment cannot be read", hint="systemctl --user show")
        return found

    def nvidia_module_version(self) -> str | None:
        """Of the NVIDIA driver's kernel module that runs; None: it does not tell."""
        try:
            text = (self._root / "proc/driver/nvidia/version").read_text(errors="replace")
        except OSError:
            return None
        found = _MODULE_VERSION.search(text)
        return found[1] if found else None

    def lingers(self) -> bool | None:
        """Whether the user's units live on without a login; None: there is no logind."""
        if (self._root / "var/lib/systemd/linger" / self.user()).exists():
            return True
        return False if (self._root / "run/systemd/users").is_dir() else None

    def user(self) -> str:
        """The name of the user whose units these are."""
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            return str(os.getuid())

    def has_persistent_journal(self) -> bool:
        """Whether journald keeps journals on disk, and so one for each user."""
        return (self._root / "var/log/journal").is_dir()

    def runtime_folder(self) -> Folder:
        """Raises: StateUnavailable."""
        return _folder(self._places().runtime)

    def state_folder(self) -> Folder:
        """Raises: StateUnavailable."""
        return _folder(self._places().state)

    def ledger(self) -> LedgerLook:
        """Raises: StateUnavailable."""
        from gpumod_tui.adapters.files.ledger import peek, set_aside

        runtime = self._places().runtime
        entries, problem = peek(runtime)
        return LedgerLook(problem, entries, self._holder_of(runtime / "ledger.lock"), set_aside(runtime))

    def command_of(self, pid: int) -> str:
        """A name for people; `?`: it is gone."""
        try:
            return (self._root / "proc" / str(pid) / "comm").read_text(errors="replace").strip()
        except OSError:
            return "?"

    def is_program(self, path: str) -> bool:
        """Whether it is there and may be run."""
        return Path(path).is_file() and os.access(path, os.X_OK)

    def own_version(self) -> str | None:
        """Of the gpumod that runs now; None: it is not installed, but run from its sources."""
        from importlib import metadata

        try:
            return metadata.version("gpumod-tui")
        except metadata.PackageNotFoundError:
            return None

    def version_told_by(self, command: Sequence[str]) -> str | None:
        """What `COMMAND --version` prints, its last word; None: it fails or hangs."""
        try:
            done = subprocess.run(
                [*command, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=CALL_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        words = done.stdout.decode(errors="replace").split()
        return words[-1] if not done.returncode and words else None

    def _holder_of(self, lock: Path) -> int | None:
        """A lock of an open file description names no pid: its owner's fdinfo does. Other users' cannot be read."""
        try:
            wanted = lock.stat()
            processes = list((self._root / "proc").iterdir())
        except OSError:
            return None
        for process in processes:
            pid = number_of(process.name)
            if pid is None:
                continue
            try:
                for entry in os.scandir(process / "fd"):
                    status = entry.stat()
                    if (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino):
                        info = (process / "fdinfo" / entry.name).read_text(errors="replace")
                        if _LOCK_LINE.search(info):
                            return pid
            except OSError:
                continue
        return None


def _folder(path: Path) -> Folder:
    try:
        status = path.stat()
    except FileNotFoundError:
        above = next(parent for parent in path.parents if parent.exists())
        return Folder(path, is_writable=os.access(above, os.W_OK | os.X_OK))
    except OSError:
        return Folder(path, is_writable=False)
    writable = stat.S_ISDIR(status.st_mode) and os.access(path, os.W_OK | os.X_OK) and os.statvfs(path).f_bavail > 0
    return Folder(path, True, status.st_uid == os.getuid(), stat.S_IMODE(status.st_mode), writable)
