"""A host in memory behind the ports of the real `AdmissionController`: units, models, processes, memory that is slow
to be released.

Sizes are small numbers of bytes. Nothing happens by itself: a test moves the box, and whatever `meddle` holds happens
between two calls of a port, where a process may also be killed (`fuse`).
"""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from gpumod_tui.adapters.files.ledger import FileLedger
from gpumod_tui.core.admission.commitments import UNIT_ITSELF, Asker
from gpumod_tui.core.admission.controller import AdmissionController
from gpumod_tui.core.admission.decide import Granted
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import GpuUnavailable, ServerError
from gpumod_tui.core.host import Host, Settings
from gpumod_tui.core.models import (
    ActiveState,
    DriverKind,
    GpuProcess,
    GpuReading,
    GpuSample,
    ModelState,
    ModelStatus,
    ProcessInfo,
    Service,
    UnitState,
)
from gpumod_tui.core.servers.memory_settings import VARIABLE
from gpumod_tui.core.vram.drift import VISIBLE
from gpumod_tui.core.vram.need import Need, UnknownNeed
from gpumod_tui.core.vram.requirements import VramRequirements

TOTAL: Final = 24
RESERVED: Final = 1
MARGIN: Final = 1
ROOM: Final = TOTAL - RESERVED - MARGIN
"""What may be promised on one GPU."""
GPUS: Final = (0, 1)
ROUTER: Final = "r.service"
SLEEPER: Final = "a.service"
"""A unit that can sleep as a whole."""
DEFAULT: Final = "m"
NEEDS: Final[Mapping[tuple[str, str], Mapping[int, int]]] = {
    ("a.service", ""): {0: 10},
    ("b.service", ""): {0: 13},
    ("c.service", ""): {0: 8, 1: 8},
    (ROUTER, ""): {1: 0},
    (ROUTER, DEFAULT): {1: 9},
    (ROUTER, "o"): {1: 15},
}
UNITS: Final = ("a.service", "b.service", "c.service", ROUTER)


class Killed(BaseException):
    """The process that was calling is no more."""


@dataclass(slots=True)
class Process:
    """Something that holds memory, and may take up to its need."""

    pid: int
    unit: str | None
    need: dict[int, int]
    held: dict[int, int] = field(default_factory=dict)
    model: str = ""
    asleep: bool = False
    state: str = "S"
    """As the kernel tells it; `D`: it ends, and the driver takes its time with its memory."""
    stuck: bool = False
    """It was to end and has not: it keeps what it holds, takes no more and answers nobody."""
    orders: list[str] = field(default_factory=list)
    """`sleep` and `wake` that have reached its socket and not its attention."""

    def could_hold(self, gpu: int) -> int:
        held = self.held.get(gpu, 0)
        return held if self.asleep or self.stuck else max(held, self.need.get(gpu, 0))


@dataclass(slots=True)
class Unit:
    """A service unit with our ExecCondition."""

    name: str
    active: ActiveState = ActiveState.INACTIVE
    sub: str = "dead"
    invocation: str = ""
    job: bool = False
    main_pid: int | None = None
    asking: int | None = None
    """Pid of its ExecCondition."""
    answer: str = ""
    """What that said, before systemd has acted on it: `yes`, `no`, `killed`."""

    @property
    def is_down(self) -> bool:
        return self.is_dead and not self.job

    @property
    def is_dead(self) -> bool:
        return self.active in (ActiveState.INACTIVE, ActiveState.FAILED)


@dataclass(slots=True)
class Load:
    """A model's load that the router has been asked for, before its process is there."""

    model: str
    invocation: str
    """Of the router."""


class Box:
    """The machine and the ports."""

    def __init__(self, runtime: Path) -> None:
        self.runtime = runtime
        self.now = 1000.0
        self.set_by = 0.0
        self.processes: dict[int, Process] = {}
        self.alive: set[int] = set()
        """Pids of askers: preflights, guard, manager."""
        self.units_by_name = {name: Unit(name) for name in UNITS}
        self.loads: list[Load] = []
        self.releasing = dict.fromkeys(GPUS, 0)
        self.tells_processes = True
        self.hangs = False
        """The router neither answers nor begins anything."""
        self.nvml_error = ""
        self.failed: set[int] = set()
        """GPUs that NVML cannot read."""
        self.visible: dict[str, str] = {}
        """What the installed unit sets CUDA_VISIBLE_DEVICES to; no entry: nothing."""
        self.installed_for: dict[str, str] = {}
        """The memory settings that the installed unit tells; no entry: it tells none."""
        self.fuse: int | None = None
        """Calls until the caller is killed."""
        self.meddle: dict[int, Callable[[], object]] = {}
        """By call: what happens just before it."""
        self.calls = 0
        self._last_pid = 100
        self._last_invocation = 0
        self.settings = Settings(vram_margin_bytes=MARGIN)
        self.registry = ServiceRegistry(
            {
                name.removesuffix(".service"): Service(
                    name.removesuffix(".service"),
                    name,
                    DriverKind.LLAMACPP if name == ROUTER else DriverKind.FASTAPI,
                    default_model=DEFAULT if name == ROUTER else None,
                )
                for name in UNITS
            }
        )
        self.gpus = self.units = self.unit_files = self.processes_port = self.needs = self.clock = self

    # -- what tests ask ----------------------------------------------------------------------------------------

    def admission(self, pid: int) -> AdmissionController:
        """The real one, as the process `pid` has it."""
        host = _HostOf(self)
        return AdmissionController(
            cast(Host, host), cast(VramRequirements, host.needs), FileLedger(self.runtime), Asker(pid, pid)
        )

    def held(self, gpu: int) -> int:
        return self.releasing[gpu] + sum(process.held.get(gpu, 0) for process in self.processes.values())

    def free(self, gpu: int) -> int:
        return TOTAL - RESERVED - self.held(gpu)

    def could_be_held(self, gpu: int) -> int:
        """When everything that was admitted takes all it may: what over-commits a card, sooner or later."""
        admitted = [NEEDS[unit.name, UNIT_ITSELF] for unit in self.units_by_name.values() if unit.answer == "yes"]
        admitted += [NEEDS[ROUTER, load.model] for load in self.loads]
        return (
            self.releasing[gpu]
            + sum(process.could_hold(gpu) for process in self.processes.values())
            + sum(needs.get(gpu, 0) for needs in admitted)
        )

    def of_unit(self, unit: str) -> list[Process]:
        return [process for process in self.processes.values() if process.unit == unit]

    def serving(self, model: str) -> Process | None:
        found = (process for process in self.processes.values() if process.model == model and not process.stuck)
        return next(found, None)

    def stuck(self) -> list[Process]:
        return [process for process in self.processes.values() if process.stuck]

    def call(self) -> None:
        """Every call of a port, and every step of writing a file, passes here."""
        self.calls += 1
        happening = self.meddle.pop(self.calls, None)
        if happening is not None:
            meddle, self.meddle = self.meddle, {}
            happening()
            self.meddle = meddle
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Killed

    # -- what happens ------------------------------------------------------------------------------------------

    def asker(self) -> int:
        self._last_pid += 1
        self.alive.add(self._last_pid)
        return self._last_pid

    def spawn(self, unit: str | None, need: Mapping[int, int], model: str = "") -> Process:
        self._last_pid += 1
        process = Process(self._last_pid, unit, dict(need), model=model)
        self.processes[process.pid] = process
        return process

    def grow(self, process: Process, amount: int) -> None:
        if not (process.asleep or process.stuck):
            for gpu, need in process.need.items():
                process.held[gpu] = min(need, process.held.get(gpu, 0) + amount)

    def end(self, process: Process) -> None:
        if self.processes.pop(process.pid, None):
            for gpu, amount in process.held.items():
                self.releasing[gpu] += amount

    def sleep(self, process: Process, keep: int) -> None:
        process.asleep = True
        for gpu, amount in process.held.items():
            self.releasing[gpu] += amount - min(keep, amount)
            process.held[gpu] = min(keep, amount)

    def sleeper(self) -> Process | None:
        """What answers on the sleeper's socket: it has loaded, or sleeps."""
        process = next(iter(self.of_unit(SLEEPER)), None)
        if process is None:
            return None
        return process if process.asleep or process.orders or process.held == process.need else None

    def obey(self, keep: int) -> None:
        """The sleeper does what it was told, in that order; asleep it holds `keep`."""
        process = next(iter(self.of_unit(SLEEPER)), None)
        while process is not None and process.orders:
            if process.orders.pop(0) == "wake":
                process.asleep = False
            elif not process.asleep:
                self.sleep(process, keep)

    def release(self, gpu: int, amount: int) -> None:
        self.releasing[gpu] -= min(amount, self.releasing[gpu])

    def queue(self, name: str) -> None:
        """A start job that waits for its turn."""
        unit = self.units_by_name[name]
        if unit.is_down:
            unit.job = True

    def begin(self, name: str) -> None:
        """systemd runs the start job (or the automatic restart): a new invocation, whose ExecCondition begins."""
        unit = self.units_by_name[name]
        if unit.is_dead or unit.sub == "auto-restart":
            self._last_invocation += 1
            self.alive.discard(unit.asking or 0)
            unit.active, unit.sub, unit.job = ActiveState.ACTIVATING, "condition", True
            unit.invocation = f"{self._last_invocation:032x}"
            unit.asking, unit.answer = self.asker(), ""

    def proceed(self, name: str) -> None:
        """systemd acts on what the ExecCondition has answered."""
        unit = self.units_by_name[name]
        if not unit.answer:
            return
        answer, unit.answer, unit.job = unit.answer, "", False
        self.alive.discard(unit.asking or 0)
        if answer == "yes":
            unit.active, unit.sub = ActiveState.ACTIVE, "running"
            unit.main_pid = self.spawn(name, NEEDS[name, UNIT_ITSELF]).pid
        elif answer == "no":
            unit.active, unit.sub = ActiveState.INACTIVE, "dead"
        else:
            unit.active, unit.sub = ActiveState.FAILED, "failed"

    def stop(self, name: str) -> None:
        unit = self.units_by_name[name]
        if unit.sub == "running":
            unit.active, unit.sub, unit.job = ActiveState.DEACTIVATING, "stop-sigterm", True
        elif unit.sub in ("condition", "auto-restart") or (unit.job and unit.is_dead):
            self.alive.discard(unit.asking or 0)
            unit.active, unit.sub, unit.job, unit.answer = ActiveState.INACTIVE, "dead", False, ""

    def die(self, name: str, *, restarts: bool, leaves: Collection[Process] = ()) -> None:
        """All its processes end but for those that it leaves behind, in its cgroup."""
        unit = self.units_by_name[name]
        if unit.sub not in ("running", "stop-sigterm"):
            return
        restarts = restarts and unit.sub == "running"
        for process in self.of_unit(name):
            if process in leaves:
                process.stuck = True
            elif not process.stuck:
                self.end(process)
        if name == ROUTER:
            self.loads.clear()
            self.hangs = False
        unit.active, unit.sub = (ActiveState.ACTIVATING, "auto-restart") if restarts else (ActiveState.INACTIVE, "dead")
        unit.main_pid, unit.job = None, False

    def start_router(self) -> None:
        """The router, admitted and running without a model."""
        self.begin(ROUTER)
        assert self.ask(ROUTER) == "yes"
        self.proceed(ROUTER)

    def load_default(self) -> None:
        """The running router's default model, admitted and loaded."""
        assert isinstance(self.admission(self.asker()).admit(ROUTER, DEFAULT), Granted)
        self.load(DEFAULT, self.units_by_name[ROUTER].invocation)
        self.land()

    def load(self, model: str, invocation: str) -> None:
        """Somebody asks the router for it; the sleeping process of a model is woken instead."""
        serving = self.serving(model)
        if serving is not None:
            serving.asleep = False
        elif self.units_by_name[ROUTER].invocation == invocation and self.units_by_name[ROUTER].sub == "running":
            self.loads.append(Load(model, invocation))

    def land(self) -> None:
        """The router begins the loads that it was asked for."""
        if self.hangs:
            return
        router = self.units_by_name[ROUTER]
        for load in self.loads:
            if router.sub == "running" and router.invocation == load.invocation and self.serving(load.model) is None:
                self.spawn(ROUTER, NEEDS[ROUTER, load.model], load.model)
        self.loads.clear()

    def damage(self, how: str) -> None:
        """The ledger's file is lost, cut, or overwritten."""
        file = self.runtime / "ledger.json"
        if not file.exists():
            return
        if how == "lost":
            file.unlink()
        elif how == "cut":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        else:
            file.write_bytes(b"\xff\x00 no ledger")

    def ask(self, name: str) -> str:
        """The unit's ExecCondition asks for admission, lives or is killed meanwhile; what it says."""
        unit = self.units_by_name[name]
        invocation, pid = unit.invocation, unit.asking
        assert pid is not None
        answer = "killed"
        try:
            answer = "no" if "Refused" in repr(self.admission(pid).admit(name, invocation=invocation)) else "yes"
        except Killed:
            self.alive.discard(pid)
        if unit.invocation == invocation and unit.sub == "condition":
            unit.answer = answer
        return answer

    # -- the ports ---------------------------------------------------------------------------------------------

    def models(self, _service: Service) -> tuple[ModelState, ...]:
        """An answer may be older than a load that came in before the question, and the next one not."""
        self.call()
        if self.hangs or self.units_by_name[ROUTER].sub != "running":
            raise ServerError("no answer in time")
        answer = tuple(
            ModelState(model, ModelStatus.LOADED if self.serving(model) else ModelStatus.UNLOADED)
            for unit, model in NEEDS
            if unit == ROUTER and model
        )
        self.land()
        self.call()
        return answer

    def read(self, *, processes: bool) -> GpuReading:
        self.call()
        if self.nvml_error:
            raise GpuUnavailable(self.nvml_error)
        lists = {gpu: self._listed(gpu) if processes else None for gpu in GPUS}
        self.call()
        return GpuReading(self.now, "1", tuple(self._sample(gpu, lists[gpu]) for gpu in GPUS))

    def _listed(self, gpu: int) -> tuple[GpuProcess, ...]:
        return tuple(
            GpuProcess(process.pid, process.held[gpu] if self.tells_processes else None)
            for process in self.processes.values()
            if process.held.get(gpu)
        )

    def _sample(self, gpu: int, listed: tuple[GpuProcess, ...] | None) -> GpuSample:
        if gpu in self.failed:
            return GpuSample(gpu, uuid=f"GPU-{gpu}", error="fell off the bus")
        return GpuSample(
            gpu,
            uuid=f"GPU-{gpu}",
            total_bytes=TOTAL,
            free_bytes=self.free(gpu),
            used_bytes=self.held(gpu),
            reserved_bytes=RESERVED,
            processes=listed,
        )

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        self.call()
        return {name: self._state(self.units_by_name[name]) for name in units}

    def _state(self, unit: Unit) -> UnitState:
        return UnitState(
            unit.name,
            active_state=unit.active,
            sub_state=unit.sub,
            main_pid=unit.main_pid,
            job_pending=unit.job,
            control_group=unit.name if self.of_unit(unit.name) or unit.sub == "condition" else "",
            invocation_id=unit.invocation,
        )

    def managed(self) -> tuple[str, ...]:
        self.call()
        return UNITS

    def stamped(self) -> tuple[str, ...]:
        return ()

    def unit_of(self, pid: int) -> str | None:
        process = self.processes.get(pid)
        return process.unit if process else None

    def describe(self, pid: int) -> ProcessInfo | None:
        self.call()
        process = self.processes.get(pid)
        return ProcessInfo(pid, "server", "me", process.state, process.unit) if process else None

    def in_cgroup(self, control_group: str) -> tuple[int, ...]:
        self.call()
        unit = self.units_by_name.get(control_group)
        asking = [unit.asking] if unit and unit.asking and unit.sub == "condition" else []
        return (*(process.pid for process in self.of_unit(control_group)), *asking) if control_group else ()

    def arguments(self, pid: int) -> tuple[str, ...]:
        self.call()
        if pid in self.alive:
            return ("gpumod", "preflight")
        process = self.processes.get(pid)
        return ("llama-server", "--alias", process.model) if process and process.model and process.state == "S" else ()

    def variable(self, pid: int, name: str) -> str | None:
        self.call()
        asks = next((unit for unit in self.units_by_name.values() if unit.asking == pid), None)
        process = self.processes.get(pid)
        unit = asks.name if asks else process.unit if process else None
        return {VISIBLE: self.visible, VARIABLE: self.installed_for}.get(name, {}).get(unit or "")

    def start_time(self, pid: int) -> int | None:
        self.call()
        process = self.processes.get(pid)
        return pid if pid in self.alive or (process and process.state != "Z") else None

    def unit_need(self, service: Service, reading: GpuReading | None) -> Need | UnknownNeed:
        return self.model_need(service, UNIT_ITSELF, reading)

    def model_need(
        self, service: Service, model: str, reading: GpuReading | None, *, elsewhere_bytes: int | None = None
    ) -> Need | UnknownNeed:
        if reading is None:
            return UnknownNeed("NVML cannot be read", "")
        return Need(NEEDS[service.unit, model], "declared")

    def unit_key(self, *_: object) -> None:
        """Peaks are another story."""

    def model_key(self, *_: object, args: object = ()) -> None:
        """Peaks are another story."""

    def note(self, *_: object) -> None:
        """Peaks are another story."""

    def time(self) -> float:
        return self.now + self.set_by

    def monotonic(self) -> float:
        return self.now

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.now += timeout_s
        return event.is_set()


class _HostOf:
    """The port `Host`: the box is all of them."""

    def __init__(self, box: Box) -> None:
        self.registry, self.settings = box.registry, box.settings
        self.gpus = self.units = self.unit_files = self.processes = self.needs = self.clock = box
        self.drivers = lambda _service: box


class MortalFiles:
    """Stands in for `_atomic`'s `os` and `Path`: before each step of writing a file its process may be killed, and a
    killed process cleans nothing up."""

    def __init__(self, box: Box) -> None:
        real_os, real_path = os, Path

        class MortalOs:
            def __getattr__(self, name: str) -> object:
                return getattr(real_os, name)

            def fsync(self, descriptor: int) -> None:
                box.call()

        class MortalPath(type(real_path())):  # type: ignore[misc]
            def replace(self, target: Path) -> None:
                box.call()
                real_path(self).replace(target)
                box.call()

            def unlink(self, missing_ok: bool = False) -> None:
                if box.fuse is None or box.fuse >= 0:
                    real_path(self).unlink(missing_ok)

        self.os, self.path = MortalOs(), MortalPath
