"""/proc and the cgroup hierarchy: which unit holds a process, and who listens on a port."""

import errno
import functools
import os
import pwd
import re
import signal
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from gpumod_tui.adapters.proc.sockets import address_of
from gpumod_tui.core.errors import NotPermitted, SystemdUnavailable
from gpumod_tui.core.models import Listener, ProcessInfo
from gpumod_tui.core.text import number_of


def host_memory(path: Path = Path("/proc/meminfo")) -> dict[str, int]:
    """Fields of meminfo in bytes (`MemTotal`, `MemAvailable`…); empty where it cannot be read."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    fields: dict[str, int] = {}
    for line in text.splitlines():
        words = line.replace(":", " ").split()
        amount_kib = number_of(words[1]) if len(words) == 3 and words[2] == "kB" else None
        if amount_kib is not None:
            fields[words[0]] = amount_kib * 1024
    return fields


_LISTEN = "0A"
_COMMAND_CHARS = 40
_TICKS = os.sysconf("SC_CLK_TCK")
_AGAIN_S = 5.0
"""A user manager that cannot be asked may cost seconds, and is not asked for every process."""
_UNITS = (".service", ".scope")
_OCTAL = re.compile(r"\\([0-7]{3})")
_INTERPRETER = re.compile(r"(python|pypy)[\d.]*|node|bash|dash|sh|uv|env")
_ABSENT = (FileNotFoundError, ProcessLookupError, NotADirectoryError)


def _unknown_manager() -> str:
    raise SystemdUnavailable("nobody tells the user manager's cgroup")


class ProcFs:
    """The port Processes over /proc.

    A process is of one of our units only where its cgroup lies below our own user manager's: units of other users, of
    the system and of containers may bear the same names.
    """

    def __init__(self, proc: Path = Path("/proc"), manager: Callable[[], str] = _unknown_manager) -> None:
        """`proc` is another root in tests. `manager` tells the cgroup of our user manager, and raises
        SystemdUnavailable where that is unknown: no process is of any unit then."""
        self._proc = proc
        self._ask_manager = manager
        self._known_manager: str | None = None
        self._fault: tuple[float, SystemdUnavailable] | None = None
        """Why it was unknown when it was last asked, and when that was."""

    def unit_of(self, pid: int) -> str | None:
        """The unit of our user manager whose cgroup holds the process; None: none, or it is gone.

        Raises: SystemdUnavailable where the manager's own cgroup is unknown.
        """
        return unit_in_path(self._cgroup_of(pid), self._manager)

    @property
    def _manager(self) -> str:
        if self._known_manager is not None:
            return self._known_manager
        if self._fault is not None and time.monotonic() - self._fault[0] < _AGAIN_S:
            raise self._fault[1]
        try:
            self._known_manager = self._ask_manager()
        except SystemdUnavailable as error:
            self._fault = time.monotonic(), error
            raise
        return self._known_manager

    def _cgroup_of(self, pid: int) -> str:
        """Its path in the v2 hierarchy; empty: it has none there, or is gone."""
        try:
            text = (self._proc / str(pid) / "cgroup").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
        path = next((line[3:] for line in text.splitlines() if line.startswith("0::")), "")
        return path.removesuffix(" (deleted)")

    def _place(self, pid: int) -> tuple[str | None, str]:
        """Its unit, or the unit of somebody else that it is in; empty: of nobody that is known."""
        path = self._cgroup_of(pid)
        try:
            unit = unit_in_path(path, self._manager)
        except SystemdUnavailable:
            unit = None
        return unit, "" if unit else innermost_unit(path)

    def describe(self, pid: int) -> ProcessInfo | None:
        """None: it is gone."""
        folder = self._proc / str(pid)
        try:
            # The name in parentheses may itself hold spaces and parentheses: the last one ends it.
            name, _, rest = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
            arguments = _arguments(folder)
            uid = folder.stat().st_uid
        except OSError:
            return None
        command = short_command(arguments) or name.partition("(")[2]
        words = rest.split()
        unit, elsewhere = self._place(pid)
        return ProcessInfo(
            pid=pid,
            command=command[:_COMMAND_CHARS],
            user=_user_name(uid),
            state=words[0] if words else "?",
            unit=unit,
            started_at=self._booted_at + int(words[19]) / _TICKS if len(words) > 19 and self._booted_at else None,
            is_ours=uid == os.getuid(),
            elsewhere=elsewhere,
        )

    @functools.cached_property
    def _booted_at(self) -> float:
        """Unix time, seconds; 0: unknown."""
        try:
            text = (self._proc / "stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return 0.0
        line = next((line for line in text.splitlines() if line.startswith("btime ")), "btime 0")
        return float(line.split()[1])

    def in_cgroup(self, control_group: str) -> tuple[int, ...]:
        """Pids in the cgroup and all below it; empty when the cgroup is gone or is the empty string.

        The kernel leaves zombies out: a dead process that its parent has not waited for holds no memory.
        Raises: SystemdUnavailable where no hierarchy can be looked into: that proves nothing empty.
        """
        if not control_group.strip("/"):
            return ()
        mount = self._unified_mount()
        if mount is None:
            raise SystemdUnavailable(
                f"the processes of {control_group} cannot be seen: no cgroup v2 hierarchy is mounted",
                hint="boot with systemd.unified_cgroup_hierarchy=1",
            )
        root, point = mount
        below = control_group.removeprefix(root.rstrip("/")).strip("/")
        return tuple(sorted(_pids_below(point / below)))

    def arguments(self, pid: int) -> tuple[str, ...]:
        """Its command line; empty: it is gone, or a zombie."""
        try:
            return tuple(_arguments(self._proc / str(pid)))
        except OSError:
            return ()

    def variable(self, pid: int, name: str) -> str | None:
        """A variable that the process was started with; None: not set, or unknown."""
        try:
            entries = (self._proc / str(pid) / "environ").read_bytes().split(b"\0")
        except OSError:
            return None
        start = f"{name}=".encode()
        return next(
            (entry[len(start) :].decode(errors="replace") for entry in entries if entry.startswith(start)), None
        )

    def start_time(self, pid: int) -> int | None:
        """Field 22 of its stat file; None: it is gone, or a zombie, which holds nothing any more."""
        try:
            stat = (self._proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        words = stat.rpartition(")")[2].split()
        return None if len(words) < 20 or words[0] in "ZX" else int(words[19])

    def signal(self, pid: int, start_time: int, number: int) -> bool:
        """Send a signal to the process of that pid and start time and to no other; False: it is gone.

        Raises: NotPermitted.
        """
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        except OSError as error:
            raise NotPermitted(f"pid {pid} cannot be signalled: {error.strerror}") from error
        try:
            # Only now: the descriptor stays with the process, so its pid cannot become another's in between.
            if self.start_time(pid) != start_time:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        except PermissionError as error:
            raise NotPermitted(f"pid {pid} belongs to another user") from error
        finally:
            os.close(descriptor)
        return True

    def listeners(self, port: int) -> tuple[Listener, ...]:
        """Who listens on the TCP port, on any address."""
        sockets = {inode: (uid, where) for name in ("tcp", "tcp6") for inode, uid, where in self._listening(name, port)}
        if not sockets:
            return ()
        holders = self._holders_of(set(sockets))
        if not holders:
            ours = {uid for uid, _ in sockets.values()} == {str(os.getuid())}
            return (
                Listener(port, None, None, is_ours=ours, addresses=_sorted(where for _, where in sockets.values())),
            )
        found = []
        for pid, inodes in sorted(holders.items()):
            info = self.describe(pid)
            addresses = _sorted(sockets[inode][1] for inode in inodes)
            found.append(
                Listener(port, pid, info.unit, info.command, elsewhere=info.elsewhere, addresses=addresses)
                if info
                else Listener(port, pid, None, addresses=addresses)
            )
        return tuple(found)

    def host_available_bytes(self) -> int | None:
        """MemAvailable; None: unknown."""
        return host_memory(self._proc / "meminfo").get("MemAvailable")

    def _listening(self, name: str, port: int) -> Iterator[tuple[str, str, str]]:
        """Inode, owner's uid and address of each socket."""
        try:
            lines = (self._proc / "net" / name).read_text(encoding="ascii", errors="replace").splitlines()[1:]
        except OSError:
            return
        ending = f":{port:04X}"
        for line in lines:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTEN and words[1].endswith(ending):
                yield words[9], words[7], address_of(words[1].rpartition(":")[0])

    def _holders_of(self, inodes: set[str]) -> dict[int, set[str]]:
        """Which of the sockets each pid holds; without those of other users, whose descriptors cannot be read."""
        wanted = {f"socket:[{inode}]": inode for inode in inodes}
        held = {}
        for folder in self._proc.iterdir():
            pid = number_of(folder.name)
            if pid is not None and (found := _held(folder / "fd", wanted)):
                held[pid] = found
        return held

    def _unified_mount(self) -> tuple[str, Path] | None:
        """The cgroup that the v2 mount shows as its root, and the mount point; None: no v2 hierarchy.

        Read anew each time: it costs little, and a value cached before a namespace was entered would be wrong.
        """
        try:
            text = (self._proc / "self" / "mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None
        found: tuple[str, Path] | None = None
        for line in text.splitlines():
            before, _, after = line.partition(" - ")
            words = before.split()
            if not after.startswith("cgroup2 ") or len(words) < 5:
                continue
            root = _unescaped(words[3])
            # Of several the newest hides the others, and one from outside this cgroup namespace (`/..`) shows a tree
            # in which systemd's paths do not exist: there every unit would look empty.
            if found is None or root == "/" or found[0] != "/":
                found = root, Path(_unescaped(words[4]))
        return found


def unit_in_path(path: str, manager: str) -> str | None:
    """The unit of a cgroup path: what comes first below the cgroup of `manager` and its slices; None: it is elsewhere.

    A unit may have delegated cgroups below it whose names end in .service too (containers, nested managers): the
    process belongs to the outermost.
    """
    if not path.startswith(f"{manager.rstrip('/')}/"):
        return None
    below = path[len(manager.rstrip("/")) :].split("/")
    first = next((part for part in below if part and not part.endswith(".slice")), "")
    return _unescaped_name(first) if first.endswith(_UNITS) else None


def innermost_unit(path: str) -> str:
    """Of any manager's units the one that is closest to the process; empty: none."""
    return next((_unescaped_name(part) for part in reversed(path.split("/")) if part.endswith(_UNITS)), "")


def _unescaped_name(part: str) -> str:
    """systemd puts `_` before a name that the kernel could take for its own: `io.service` is `_io.service`."""
    return part.removeprefix("_")


def short_command(arguments: list[str]) -> str:
    """A name for people: the program, and for an interpreter what it runs; empty without arguments."""
    if not arguments or not arguments[0]:
        return ""
    name = _file_name(arguments[0])
    if not _INTERPRETER.fullmatch(name):
        return name
    rest = arguments[1:]
    if rest[:1] == ["-m"] and len(rest) > 1:
        return f"{name} -m {rest[1]}"
    script = next((argument for argument in rest if not argument.startswith("-")), None)
    return f"{name} {_file_name(script)}" if script else name


def _file_name(argument: str) -> str:
    """`/usr/bin/llama-server` → `llama-server`; a rewritten title such as `VLLM::EngineCore` stays as it is."""
    first = argument.split(" ", 1)[0]
    return first.rsplit("/", 1)[-1] or first


def _arguments(folder: Path) -> list[str]:
    raw = (folder / "cmdline").read_bytes()
    return raw.rstrip(b"\0").decode(errors="replace").split("\0") if raw else []


def _pids_below(folder: Path) -> set[int]:
    try:
        pids = {int(word) for word in (folder / "cgroup.procs").read_text(encoding="ascii").split()}
        below = [entry.path for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except _ABSENT:
        return set()
    except OSError as error:
        # Removed while it was read; or a threaded cgroup, whose processes its parent lists.
        if error.errno in (errno.ENODEV, errno.EOPNOTSUPP):
            return set()
        raise
    # 0 stands for a process outside our pid namespace: nothing to signal, but not nothing.
    return pids.union(*(_pids_below(Path(path)) for path in below))


def _held(folder: Path, wanted: Mapping[str, str]) -> set[str]:
    """Inodes of the wanted sockets that are among its descriptors."""
    found: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                inode = wanted.get(_link(entry.path))
                if inode is not None:
                    found.add(inode)
                    if len(found) == len(wanted):
                        break
    except OSError:
        return found
    return found


def _sorted(addresses: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(addresses)))


def _link(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116 - a Path for every descriptor of the host would triple the cost
        return os.readlink(path) if stat.S_ISSOCK(status.st_mode) else ""  # noqa: PTH115
    except OSError:
        return ""


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8)), text)


@functools.lru_cache(maxsize=64)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
