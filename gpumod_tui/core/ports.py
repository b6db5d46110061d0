"""What core needs of the world. Adapters satisfy these without inheriting; mypy proves the fit in wiring."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gpumod_tui.core.models import (
    GpuReading,
    Listener,
    LogLine,
    LogPage,
    LogPlace,
    Mode,
    ModelState,
    Probe,
    ProcessInfo,
    Service,
    UnitState,
)
from gpumod_tui.core.units.login import LoginMode
from gpumod_tui.core.vram.estimate.model_file import ModelFile, ModelHeader
from gpumod_tui.core.vram.peaks import PeakKey


class Closeable(Protocol):
    """Something that runs until it is closed; close() is idempotent and joins what it started."""

    def close(self) -> None:
        """End it."""


class Clock(Protocol):
    """Time, from outside, so that tests run in none."""

    def monotonic(self) -> float:
        """Seconds that only grow."""

    def time(self) -> float:
        """Unix time, seconds."""

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Sleep until the event is set (True) or the time is up (False)."""


class Gpus(Protocol):
    """NVML."""

    def read(self, *, processes: bool) -> GpuReading:
        """All GPUs now, with process lists if asked; processes are read first, free memory after.

        A GPU that fails alone has `error` set. Raises: GpuUnavailable when NVML as a whole cannot be read.
        """


class Units(Protocol):
    """systemd's user manager. No method waits for a job to end; `states` shows `job_pending`."""

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """One entry per asked unit, `load_state="not-found"` where systemd has none. Raises: SystemdUnavailable."""

    def managed(self) -> tuple[str, ...]:
        """Service units that systemd has loaded in gpumod.slice, sorted. Raises: SystemdUnavailable."""

    def start(self, unit: str) -> None:
        """Queue a start. Raises: UnitMissing, UnitRefused, SystemdUnavailable."""

    def stop(self, unit: str) -> None:
        """Queue a stop (nothing happens if it is down). Raises: UnitRefused, SystemdUnavailable."""

    def kill(self, unit: str, signal: int) -> None:
        """Send a signal to every process of its cgroup; none there is no error."""

    def reset_failed(self, unit: str) -> None:
        """Clear a failed state and the start limit; not failed is no error."""

    def reload(self) -> None:
        """Make the manager read unit files again."""

    def enable(self, unit: str) -> bool:
        """Start it with the user manager from now on; whether it was not so before. `reload` makes it count.

        Raises: UnitMissing, UnitRefused, SystemdUnavailable.
        """

    def disable(self, unit: str) -> bool:
        """Take `enable` back; whether there was anything to take back. Raises: UnitRefused, SystemdUnavailable."""

    def file_states(self, units: Iterable[str]) -> Mapping[str, str]:
        """UnitFileState of each that has a file. Apart from `states`: it takes longer, and switches need none.

        Raises: SystemdUnavailable.
        """

    def show(self, unit: str) -> Mapping[str, str]:
        """What systemd has of it, for people to read, by systemd's names; empty: no such unit.

        Raises: SystemdUnavailable.
        """

    def on_change(self, callback: Callable[[], None]) -> Closeable:
        """Call back, from some thread, soon after any unit changed. Where there are no signals it never does."""


class LoginModes(Protocol):
    """The user unit that switches to a mode at login."""

    def read(self) -> LoginMode:
        """How it stands. Raises: SystemdUnavailable."""

    def write(self, mode: str) -> LoginMode:
        """From now on that mode; how it stands then. Raises: UnitRefused, StateUnavailable, SystemdUnavailable."""

    def clear(self) -> bool:
        """From now on none; whether there was one. Raises: UnitRefused, StateUnavailable, SystemdUnavailable."""


class Processes(Protocol):
    """/proc and the cgroup hierarchy."""

    def unit_of(self, pid: int) -> str | None:
        """The unit of our user manager whose cgroup holds the process; None: none, or it is gone.

        Raises: SystemdUnavailable where the manager's own cgroup is unknown.
        """

    def describe(self, pid: int) -> ProcessInfo | None:
        """None: it is gone."""

    def in_cgroup(self, control_group: str) -> tuple[int, ...]:
        """Pids in the cgroup and all below it; empty when the cgroup is gone or is the empty string.

        Raises: SystemdUnavailable where no hierarchy can be looked into.
        """

    def arguments(self, pid: int) -> tuple[str, ...]:
        """Its command line; empty: it is gone, or a zombie."""

    def variable(self, pid: int, name: str) -> str | None:
        """A variable that the process was started with; None: not set, or unknown."""

    def start_time(self, pid: int) -> int | None:
        """Clock ticks since boot: with the pid it names a process for ever. None: it is gone, or a zombie."""

    def signal(self, pid: int, start_time: int, number: int) -> bool:
        """Send a signal to the process of that pid and start time and to no other; False: it is gone.

        Raises: NotPermitted.
        """

    def listeners(self, port: int) -> tuple[Listener, ...]:
        """Who listens on the TCP port, on any address."""

    def host_available_bytes(self) -> int | None:
        """MemAvailable; None: unknown."""


class Journal(Protocol):
    """journald, the user's part."""

    def tail(self, unit: str, lines: int, *, invocation_id: str = "") -> tuple[LogLine, ...]:
        """The newest lines, oldest first; of one invocation if given. Raises: JournalUnavailable."""

    def follow(
        self,
        units: Iterable[str],
        sink: Callable[[LogLine], None],
        *,
        backlog: int = 200,
        report: Callable[[str], object] = lambda _fault: None,
    ) -> Closeable:
        """Hand every line to `sink`, from one thread, the newest `backlog` lines of all units first.

        `report` is told why the journal cannot be read, with what to do next; empty: it can. Once at the beginning and
        at every change; it is tried again until this is closed.
        """

    def page(
        self, units: Iterable[str], place: LogPlace, lines: int, *, later: bool = False, priority: int = 7
    ) -> LogPage:
        """About `lines` lines before a record or moment (`later`: after that record, from that moment on), without
        the record itself, of at most this `priority` number. May take seconds. Raises: JournalUnavailable."""


class ServerDriver(Protocol):
    """How to talk to one kind of server. Every call has a short limit of its own; none raises on a dead server
    but where it says so."""

    def probe(self, service: Service) -> Probe:
        """One look at its health."""

    def models(self, service: Service) -> tuple[ModelState, ...]:
        """The models it has. Empty for servers without the notion. Raises: ServerError."""

    def load(self, service: Service, model: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Ask for a load; returns when it has begun (or the model is there already). `meanwhile` as for `sleep`.
        Raises: ServerError."""

    def unload(self, service: Service, model: str) -> None:
        """Ask for an unload; returns when it has begun. Raises: ServerError."""

    def sleep(self, service: Service, meanwhile: Callable[[], None]) -> None:
        """Have it give its memory back and live on; a router unloads its models. Its word is no proof that the memory
        is back. Takes up to the service's stop timeout, and calls `meanwhile` some times a second; what that raises
        ends the wait, while the server may go on. Raises: ServerError."""

    def wake(self, service: Service, meanwhile: Callable[[], None]) -> None:
        """Have it take its memory again; takes up to the service's startup timeout, `meanwhile` as above.
        Raises: ServerError."""

    def is_sleeping(self, service: Service) -> bool | None:
        """None: it does not tell. Raises: ServerError where it does not answer or knows no sleep."""

    def follow_models(self, service: Service, sink: Callable[[ModelState], None]) -> Closeable:
        """Hand changes of models and load progress to `sink` from a thread; reconnects until closed."""


Drivers = Callable[[Service], ServerDriver]
"""The driver of a service."""


class UnitFiles(Protocol):
    """Unit files as gpumod installs them."""

    def stamped(self) -> tuple[str, ...]:
        """Names of installed unit files that carry gpumod's stamp, also when their preset is broken or gone."""

    def text(self, unit: str) -> str | None:
        """The installed text; None: there is no regular file where gpumod installs."""

    def missing_files(self, service: Service, state: UnitState) -> tuple[str, ...]:
        """Sentences on what the service needs and is not there (binary, model file, key file); empty: all there."""

    def unsafe(self, service: Service) -> tuple[str, ...]:
        """Sentences on what of its installed unit undoes gpumod's safety (hand edits, drop-ins); empty: nothing."""

    def file_bytes(self, service: Service) -> int | None:
        """Size of its model file(s), for an estimate where nothing is declared; None: unknown."""


RenderUnit = Callable[[Service, GpuReading | None], str]
"""The text of the unit that a service's preset gives now. Raises: GpumodError."""

Environment = Mapping[str, str]


class ModeFiles(Protocol):
    """The user's own mode files, `~/.config/gpumod/presets/`."""

    def is_own(self, mode: Mode) -> bool:
        """Whether its file lies there."""

    def write(self, mode: Mode) -> tuple[Path, Callable[[], None]]:
        """Write the mode's file whole or not at all: where it lies, and what puts back what was there before.

        The file is the mode's `source` if that is own, else a new one. Raises: ModeRefused.
        """

    def remove(self, mode: Mode) -> Path:
        """Delete an own mode's file; which one it was. Raises: ModeRefused."""


class ModelFiles(Protocol):
    """GGUF files, found as a llama-server finds them."""

    def find(self, service: Service, model_id: str | None = None, args: Sequence[str] = ()) -> ModelFile | None:
        """The file(s) of one model of a router, or, without a name, of the service's own model.

        `args`: the command line of the model's process, where the router tells it. None: there are none, or not all.
        """

    def header(self, file: ModelFile) -> ModelHeader:
        """What the headers of all parts and of projector and draft tell. Raises: ModelFileInvalid."""


class Programs(Protocol):
    """The servers' binaries."""

    def version(self, service: Service) -> str:
        """A text that changes when the service's server is replaced by another; empty: unknown."""


class Peaks(Protocol):
    """The highest VRAM ever measured, over whole lives of servers and models."""

    def highest(self, key: PeakKey) -> Mapping[int, int] | None:
        """Bytes by GPU index; None: never measured."""

    def note(self, key: PeakKey, by_gpu: Mapping[int, int]) -> None:
        """Take a measurement; lower ones than before change nothing. A disk that cannot be written raises nothing."""
