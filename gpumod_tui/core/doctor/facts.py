"""What only the doctor wants to know of the machine: values, and the port that an adapter satisfies."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class OpenSocket:
    """A socket of a process that anybody who reaches its address can talk to."""

    pid: int
    protocol: str
    """`tcp`: it listens; `udp`: it is bound and takes from everybody."""
    address: str
    """As text, IPv4 or IPv6; `0.0.0.0` and `::` are all addresses of the host."""
    port: int


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Sockets of some processes."""

    sockets: tuple[OpenSocket, ...] = ()
    unreadable: tuple[int, ...] = ()
    """Pids whose descriptors cannot be read: nothing is known of their sockets."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One ExecCondition= of a unit."""

    path: str
    command: str
    """With its arguments, as one text."""
    ignores_failure: bool = False
    """Written with `-`: its refusal is not heard."""


@dataclass(frozen=True, slots=True)
class LoadedUnit:
    """A unit as systemd has it loaded, which may be another text than its file's."""

    unit: str
    load_state: str = "not-found"
    conditions: tuple[Condition, ...] = ()
    environment: Mapping[str, str] | None = None
    """Of Environment=, not of files; None: unknown."""
    drop_ins: tuple[str, ...] = ()
    needs_reload: bool = False
    """Its files have changed since systemd read them."""
    listens: tuple[str, ...] = ()
    """Of a socket unit: what it listens on, as systemd writes it, `127.0.0.1:7070`."""


@dataclass(frozen=True, slots=True)
class InstalledUnit:
    """The unit file of a service, or one of the guard's."""

    service_id: str
    """Empty: it is the guard's."""
    unit: str
    path: str
    state: str
    """As `template list` shows it: missing, current, outdated, hand-edited, foreign, installed."""
    text: str = ""
    problem: str = ""
    """Why it cannot be said what would be installed now."""
    unsafe_drop_ins: tuple[str, ...] = ()
    """Sentences."""
    missing: tuple[str, ...] = ()
    """Sentences on what the service needs and is not there."""
    open_key_file: Path | None = None
    """A file with its API key that others can read; None: none."""

    @property
    def is_there(self) -> bool:
        """Whether there is a file of that name."""
        return self.state != "missing"


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of gpumod's."""

    path: Path
    exists: bool = False
    is_ours: bool = True
    mode: int = 0o700
    is_writable: bool = True
    """With room left. Of one that is not there: whether it could be made."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A ledger that could not be read."""

    path: Path
    at: float
    """When it was set aside, Unix time, seconds."""


@dataclass(frozen=True, slots=True)
class LedgerLook:
    """The ledger's file, looked at without its lock and left as it is."""

    problem: str = ""
    """Why it cannot be read; empty: it can, or there is none yet."""
    entries: int = 0
    held_by: int | None = None
    """Pid that holds its lock now; None: nobody, as far as can be seen."""
    set_aside: tuple[SetAside, ...] = ()


class Facts(Protocol):
    """The machine, as far as no other port tells it."""

    def open_sockets(self, pids: Iterable[int]) -> OpenSockets:
        """Listening TCP sockets and open UDP sockets of processes, in our own network namespace."""

    def loaded_units(self, units: Sequence[str]) -> dict[str, LoadedUnit]:
        """One entry per asked unit. Raises: SystemdUnavailable."""

    def manager_environment(self) -> Mapping[str, str]:
        """What the user manager gives to every unit. Raises: SystemdUnavailable."""

    def nvidia_module_version(self) -> str | None:
        """Of the NVIDIA driver's kernel module that runs; None: it does not tell."""

    def lingers(self) -> bool | None:
        """Whether the user's units live on without a login; None: there is no logind."""

    def user(self) -> str:
        """The name of the user whose units these are."""

    def has_persistent_journal(self) -> bool:
        """Whether journald keeps journals on disk, and so one for each user."""

    def runtime_folder(self) -> Folder:
        """Raises: StateUnavailable."""

    def state_folder(self) -> Folder:
        """Raises: StateUnavailable."""

    def ledger(self) -> LedgerLook:
        """Raises: StateUnavailable."""

    def command_of(self, pid: int) -> str:
        """A name for people; `?`: it is gone."""

    def is_program(self, path: str) -> bool:
        """Whether it is there and may be run."""

    def own_version(self) -> str | None:
        """Of the gpumod that runs now; None: it is not installed, but run from its sources."""

    def version_told_by(self, command: Sequence[str]) -> str | None:
        """What `COMMAND --version` prints, its last word; None: it fails or hangs."""


class Severity(StrEnum):
    """How bad it is, the worst first."""

    ERROR = "error"
    """What gpumod promises does not hold, or gpumod cannot work."""
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """The group it belongs to."""
    severity: Severity
    what: str
    why: str = ""
    """What follows from it; empty: nothing does."""
    todo: str = ""
    """What to do, a command where there is one; empty only where nothing has to be done."""


def error(check: str, what: str, why: str, todo: str) -> Finding:
    """Something that must be put right."""
    return Finding(check, Severity.ERROR, what, why, todo)


def warning(check: str, what: str, why: str, todo: str) -> Finding:
    """Something that may be meant so."""
    return Finding(check, Severity.WARNING, what, why, todo)


def fine(check: str, what: str) -> Finding:
    """Something that is as it should be."""
    return Finding(check, Severity.OK, what)
