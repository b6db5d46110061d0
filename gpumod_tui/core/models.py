"""The values that flow through gpumod; all frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from gpumod_tui.core.admission.commitments import Refusal

BLANK: Final = "blank"
"""The built-in, empty mode."""

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})


class DriverKind(StrEnum):
    """The kind of server that a service runs."""

    LLAMACPP = "llamacpp"
    VLLM = "vllm"
    FASTAPI = "fastapi"
    COMMAND = "command"


class OnLeave(StrEnum):
    """What happens to a service when a mode without it is switched to."""

    STOP = "stop"
    SLEEP = "sleep"


@dataclass(frozen=True, slots=True)
class Service:
    """A definition of an inference server, as a preset gives it."""

    id: str
    name: str
    driver: DriverKind
    port: int | None = None
    vram_bytes: int | None = None
    """Declared need over all its GPUs, CUDA context included; None: not declared. 0 is a real zero (no GPU)."""
    gpus: tuple[int | str, ...] = (0,)
    """NVML indices or UUIDs; the need is spread over them by `gpu_shares`."""
    gpu_shares: tuple[int, ...] = ()
    """Declared bytes on each of `gpus`, in their order; they add up to `vram_bytes`. Empty: equally spread."""
    model_id: str | None = None
    """Name that the server answers to: a Hugging Face repository, a path, or a GGUF's id."""
    default_model: str | None = None
    """Router only: the model that a switch loads. A llamacpp service without `model_path` is a router."""
    models_dir: Path | None = None
    model_path: Path | None = None
    health_endpoint: str = "/health"
    startup_timeout_s: float = 120.0
    stop_timeout_s: float = 30.0
    depends_on: tuple[str, ...] = ()
    on_leave: OnLeave = OnLeave.STOP
    sleep_mode: str = "none"
    """What the server can: none, l1, l2 or router."""
    context_size: int | None = None
    api_key_file: Path | None = None
    unit_vars: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    env: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    source: Path | None = None
    """The preset file; None: built in or made in a test."""

    @property
    def unit(self) -> str:
        """Its systemd unit."""
        return f"{self.id}.service"

    @property
    def is_router(self) -> bool:
        """Whether it is a llama-server that loads models on request."""
        return self.driver is DriverKind.LLAMACPP and self.model_path is None

    @property
    def can_sleep(self) -> bool:
        """A vLLM that gives its memory back on request and takes it again when it wakes."""
        asked = self.on_leave is OnLeave.SLEEP or bool(self.unit_vars.get("enable_sleep_mode"))
        return self.driver is DriverKind.VLLM and asked

    @property
    def is_guarded(self) -> bool:
        """A request to it can make VRAM grow: it listens on a unix socket only, and the guard holds its port."""
        return self.port is not None and (self.is_router or self.can_sleep)

    @property
    def sleeps_when_left(self) -> bool:
        """Whether a switch to a mode without it puts it to sleep: nobody may wake it past the guard."""
        return self.on_leave is OnLeave.SLEEP and self.is_guarded

    @property
    def sleep_level(self) -> int:
        """1: its weights go to host memory; 2: they are dropped, and loaded anew by the wake."""
        level = self.unit_vars.get("sleep_level")
        return int(level) if level is not None else 2 if self.sleep_mode == "l2" else 1


@dataclass(frozen=True, slots=True)
class Mode:
    """A named set of services."""

    id: str
    name: str
    services: tuple[str, ...]
    description: str = ""
    source: Path | None = None


class GpuProcess(msgspec.Struct, frozen=True):
    """A process that holds memory of one GPU. `used_bytes` None: NVML does not tell."""

    pid: int
    used_bytes: int | None


class Xid(msgspec.Struct, frozen=True):
    """An error that the NVIDIA driver reported of one GPU."""

    number: int
    at: float
    """Unix time at which it was seen, seconds."""


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment. Every field but index may be None: the GPU or its driver does not tell it."""

    index: int
    uuid: str | None = None
    name: str | None = None
    total_bytes: int | None = None
    free_bytes: int | None = None
    """The only figure that decisions are made on."""
    used_bytes: int | None = None
    """Without `reserved_bytes`."""
    reserved_bytes: int | None = None
    utilization_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    """In words, e.g. `power cap`; empty: none."""
    processes: tuple[GpuProcess, ...] | None = None
    """None: not asked for, or NVML does not tell."""
    unified: bool = False
    """The GPU has no memory of its own; total and free are the host's."""
    mig: tuple[int, int] | None = None
    """Of a MIG instance: the index of its GPU, and its number there. None: a whole GPU."""
    xids: tuple[Xid, ...] | None = None
    """Reported since this process began to watch, oldest first; None: not known, which is not none."""
    ecc_errors: int | None = None
    """Errors of its memory that could not be corrected, since the NVIDIA driver was loaded."""
    error: str | None = None
    """Why this GPU cannot be used at all (lost, needs a reset); None: it can."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """All GPUs at one moment."""

    at: float
    """Unix time, seconds."""
    driver_version: str | None
    gpus: tuple[GpuSample, ...]


class ActiveState(StrEnum):
    """systemd's ActiveState; values it may add later are UNKNOWN."""

    ACTIVE = "active"
    RELOADING = "reloading"
    INACTIVE = "inactive"
    FAILED = "failed"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, _value: object) -> "ActiveState":
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class UnitState:
    """What systemd says of one unit."""

    unit: str
    load_state: str = "loaded"
    """loaded, not-found, bad-setting, error, masked."""
    active_state: ActiveState = ActiveState.INACTIVE
    sub_state: str = "dead"
    result: str = "success"
    """success, exit-code, signal, timeout, start-limit-hit, oom-kill, exec-condition, resources…"""
    main_pid: int | None = None
    exit_status: int | None = None
    """Of the last main process (exit code or signal number); None: none ended yet."""
    restarts: int = 0
    """NRestarts: automatic restarts since the last start by request."""
    job_pending: bool = False
    """A start or stop job is queued or running."""
    control_group: str = ""
    """Below the unified hierarchy's root; empty: no process was ever started or all are gone."""
    since: float | None = None
    """Unix time of the last change of ActiveState, seconds."""
    invocation_id: str = ""
    exec_path: str | None = None
    """The program of ExecStart."""
    fragment_path: str | None = None
    slice: str = ""
    memory_bytes: int | None = None
    cpu_usage_ns: int | None = None
    file_state: str = ""
    """UnitFileState: enabled, disabled, static, masked…; empty: not asked for, or there is no file."""

    @property
    def is_down(self) -> bool:
        """Nothing runs and nothing is about to run."""
        return self.active_state in (ActiveState.INACTIVE, ActiveState.FAILED) and not self.job_pending


class ModelStatus(StrEnum):
    """A router's word for what one of its models does; a word it may add later is UNKNOWN."""

    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    SLEEPING = "sleeping"
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, _value: object) -> "ModelStatus":
        return cls.UNKNOWN


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model of a router or single-model server."""

    id: str
    status: ModelStatus
    exit_code: int | None = None
    """Of its last child, where that failed or was unloaded."""
    progress: float | None = None
    """0..1 of the load's current stage; None: not known."""
    stage: str | None = None
    path: Path | None = None


class Health(StrEnum):
    """What a server's health endpoint tells."""

    READY = "ready"
    LOADING = "loading"
    """It answers, but not yet to requests."""
    DOWN = "down"
    """Connection refused or no answer in time."""
    DEAD = "dead"
    """It answers that it cannot recover by itself."""


class Probe(msgspec.Struct, frozen=True):
    """One look at a server."""

    health: Health
    detail: str = ""


class ProcessInfo(msgspec.Struct, frozen=True):
    """A process as /proc shows it."""

    pid: int
    command: str
    user: str
    state: str
    """One letter as in ps: R, S, D, Z…"""
    unit: str | None
    """The unit of our user manager whose cgroup it is in; None: none."""
    started_at: float | None = None
    """Unix time, seconds; None: unknown."""
    is_ours: bool = True
    """Whether it runs as this user, who may then signal it."""
    elsewhere: str = ""
    """A unit of another manager (the system's, another user's, a container's) that it is in; names are not unique."""


def whereabouts(elsewhere: str, user: str = "") -> str:
    """Where a process is that is in no unit of ours, for people: `docker.service of root, not ours`, `no unit`."""
    return f"{elsewhere}{f' of {user}' if user else ''}, not ours" if elsewhere else "no unit"


class Holder(msgspec.Struct, frozen=True):
    """Who holds memory of a GPU."""

    pid: int
    gpu: int
    used_bytes: int | None
    command: str = "?"
    state: str = "?"
    """One letter as in ps; `?`: /proc has no such process any more."""
    unit: str | None = None
    """Of our own user manager."""
    user: str = "?"
    elsewhere: str = ""
    """As of `ProcessInfo`."""

    @property
    def is_gone(self) -> bool:
        """Dead: NVML may go on listing it until its memory is back."""
        return self.state in ("?", "Z", "X")

    def __str__(self) -> str:
        where = self.unit or whereabouts(self.elsewhere, self.user)
        size = "N/A" if self.used_bytes is None else f"{self.used_bytes / 1024**2:.0f} MiB"
        kernel = ", D state: waiting in the kernel" if self.state == "D" else ", has ended" if self.is_gone else ""
        return f"{self.command} pid {self.pid} ({where}{kernel}) {size}"


class Listener(msgspec.Struct, frozen=True):
    """Who listens on a TCP port. `pid` and `unit` None: a process that cannot be looked into."""

    port: int
    pid: int | None
    unit: str | None
    command: str | None = None
    is_ours: bool = False
    """Of a process that cannot be looked into: whether this user opened the socket."""
    elsewhere: str = ""
    """As of `ProcessInfo`."""
    addresses: tuple[str, ...] = ()
    """That it listens on, sorted; `0.0.0.0` and `::` are all of the host. Empty: not known."""

    def __str__(self) -> str:
        """For people: `nginx pid 99 (no unit)`."""
        if self.pid is None:
            return "a process that cannot be looked into" if self.is_ours else "a process of another user"
        return f"{self.command or 'a process'} pid {self.pid} ({self.unit or whereabouts(self.elsewhere)})"


class LogLine(msgspec.Struct, frozen=True):
    """One record of the journal."""

    at: float
    """Unix time, seconds."""
    unit: str
    message: str
    priority: int = 6
    """0 emerg … 3 err, 4 warning, 5 notice, 6 info, 7 debug."""
    pid: int | None = None
    identifier: str = ""
    cursor: str = ""
    """journald's name for the record; empty: it has none that is known."""


class LogPlace(msgspec.Struct, frozen=True):
    """A place in the journal: a record, or, where `cursor` is empty, a moment."""

    at: float
    """Unix time, seconds."""
    cursor: str = ""


class LogPage(msgspec.Struct, frozen=True):
    """A piece of the journal."""

    lines: tuple[LogLine, ...]
    """Oldest first."""
    edge: LogPlace | None
    """Where the next page in the same direction begins; None: the journal holds nothing further there."""


@dataclass(frozen=True, slots=True)
class ServiceView:
    """One service of the catalog (or a managed unit without one) at one moment."""

    id: str
    service: Service | None
    """None: the preset is gone or broken."""
    state: UnitState
    probe: Probe | None
    """None: not probed (the unit is down, or it has no port)."""
    models: tuple[ModelState, ...] = ()
    vram_bytes: int | None = None
    """Held by its cgroup over all GPUs; None: unknown; 0: measured as nothing."""
    vram_by_gpu: Mapping[int, int] = field(default_factory=dict)
    cpu_percent: float | None = None
    """Of one core, over about the last second; None: not measured (yet)."""

    @property
    def is_ready(self) -> bool:
        """Active and answering; a service without a port is ready when it is active."""
        if self.state.active_state is not ActiveState.ACTIVE or self.is_asleep:
            return False
        return self.probe is None or self.probe.health is Health.READY

    @property
    def is_asleep(self) -> bool:
        """A server that sleeps until it is woken; a router never does, whatever its models do."""
        if self.service is None or not self.service.can_sleep:
            return False
        return any(model.status is ModelStatus.SLEEPING for model in self.models)


class ModeTruth(StrEnum):
    """How the box stands to the last recorded mode."""

    REACHED = "reached"
    PARTIAL = "partial"
    """Services of the mode are missing or not ready, or a router's default model is not loaded."""
    DRIFTED = "drifted"
    """More runs than the mode holds."""
    UNKNOWN = "unknown"
    """No mode was recorded, or the last switch failed or was interrupted."""


class ModeView(msgspec.Struct, frozen=True):
    """The recorded mode held against systemd."""

    mode: str | None
    truth: ModeTruth
    note: str = ""
    """What is missing, what is too much, or how the last switch ended."""
    since: float | None = None
    """Unix time it was reached, seconds."""
    changed_at: float | None = None
    """Partial or drifted: Unix time of the newest change that made it so, as far as systemd tells."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The box at one moment."""

    at: float
    """Unix time, seconds."""
    gpus: GpuReading | None
    """None: NVML cannot be read; `gpu_error` says why."""
    gpu_error: str | None
    services: tuple[ServiceView, ...]
    mode: ModeView
    orphans: tuple[Holder, ...] = ()
    """GPU processes outside all managed units."""
    units_error: str | None = None
    """Why systemd cannot be asked; None: it can."""
    refusals: tuple["Refusal", ...] = ()
    """The newest refused admissions, oldest first."""

    def service(self, service_id: str) -> ServiceView | None:
        """The view of one service, None if it is neither in the catalog nor managed."""
        return next((view for view in self.services if view.id == service_id), None)
