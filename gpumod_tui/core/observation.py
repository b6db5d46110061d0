"""One look at the box, as a plan needs it. It acts on nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpumod_tui.core.errors import ServerError, StateUnavailable
from gpumod_tui.core.models import (
    ActiveState,
    GpuReading,
    Health,
    Holder,
    Listener,
    ModelState,
    ModelStatus,
    Probe,
    Service,
    UnitState,
)
from gpumod_tui.core.status.attribution import find_holders, held_by
from gpumod_tui.core.units.guard import GUARD_SOCKET
from gpumod_tui.core.units.managed import our_units, read_gpus, service_id
from gpumod_tui.core.vram.drift import Stale, of_process, of_unit

if TYPE_CHECKING:
    from gpumod_tui.core.engine import Engine
    from gpumod_tui.core.vram.need import Need, UnknownNeed

PROBE_THREADS = 8


@dataclass(frozen=True, slots=True)
class Sighting:
    """One managed unit and what is known of it."""

    id: str
    service: Service | None
    """None: its preset is gone or broken."""
    state: UnitState
    pids: tuple[int, ...]
    """In its cgroup."""
    held: Mapping[int, int | None]
    """Bytes by GPU index; None: it holds some, NVML does not tell how much. No entry: nothing there."""
    probe: Probe | None = None
    models: tuple[ModelState, ...] = ()
    missing: tuple[str, ...] = ()
    """What it needs to start and is not there, in sentences."""
    own_need: Need | UnknownNeed | None = None
    """Of the unit's own processes; None: it is no target."""
    model_need: Need | UnknownNeed | None = None
    """Of a router's default model; None: it is no target, or no router with one."""
    listeners: tuple[Listener, ...] = ()
    """On its port, whoever they are."""
    is_ours: bool = True
    """In gpumod.slice, with our stamp, or not installed; a stranger's unit may bear a service's name."""
    unsafe: tuple[str, ...] = ()
    """What of its installed unit undoes gpumod's safety, in sentences; asked of targets and of what may sleep."""
    asleep: bool = False
    """It answers, and sleeps until it is woken; a router never does."""
    stale_unit: Stale | None = None
    """Why its unit file is not what its preset says, as far as memory goes; None: it is, or it is no target."""
    stale_process: Stale | None = None
    """The same of what runs of it: of a router, of the models that it would load."""

    @property
    def is_down(self) -> bool:
        """Nothing of it runs."""
        return self.state.is_down and not self.pids

    @property
    def is_ready(self) -> bool:
        """Active and answering."""
        if self.state.active_state is not ActiveState.ACTIVE or self.state.job_pending or self.asleep:
            return False
        return self.probe is None or self.probe.health is Health.READY

    @property
    def is_loading(self) -> bool:
        """On its way to ready: nothing is gained by starting it anew."""
        return (
            self.state.active_state in (ActiveState.ACTIVE, ActiveState.ACTIVATING)
            and self.state.sub_state != "auto-restart"
            and self.probe is not None
            and self.probe.health is Health.LOADING
        )

    @property
    def wants_load(self) -> bool:
        """A router whose default model is not in memory."""
        if self.service is None or not self.service.is_router or self.service.default_model is None:
            return False
        return not any(
            model.id == self.service.default_model and model.status is ModelStatus.LOADED for model in self.models
        )


@dataclass(frozen=True, slots=True)
class Survey:
    """The box at the moment of planning."""

    units: Mapping[str, Sighting]
    """By service id: the catalog's asked services and everything that is managed."""
    reading: GpuReading | None
    gpu_error: str | None
    holders: tuple[Holder, ...]
    """All processes that NVML shows."""
    host_available_bytes: int | None
    promised: Mapping[tuple[str, str], Mapping[int, int]]
    """What each (unit, model) may still take, in bytes by GPU, as the ledger has it; model empty: the unit itself."""
    guard: UnitState
    """What holds the ports of guarded services."""
    ledger_error: str | None = None
    """Why the ledger cannot be used; None: it can."""
    settling: bool = False
    """Whether something of `promised` may be void: a router has to say once more that it is not there."""


def look(host: Engine, targets: Iterable[str]) -> Survey:
    """Survey the box; `targets` are the services whose files and ports matter. Raises: SystemdUnavailable."""
    # It takes longer to import than one unit takes to be asked, and who only wants names needs none.
    from concurrent.futures import ThreadPoolExecutor

    reading, gpu_error = read_gpus(host, processes=True)
    holders = find_holders(host.processes, reading)
    ours = our_units(host)
    catalog = (service.unit for service in host.registry.services.values())
    states = host.units.states([*sorted(ours.union(catalog)), GUARD_SOCKET])
    guard = states.pop(GUARD_SOCKET)
    wanted = frozenset(targets)
    with ThreadPoolExecutor(PROBE_THREADS, thread_name_prefix="gpumod-probe") as pool:
        found = pool.map(lambda unit: _sight(host, unit, states[unit], holders, wanted, reading, ours), states)
        units = {sighting.id: sighting for sighting in found}
    promised: Mapping[tuple[str, str], Mapping[int, int]] = {}
    ledger_error = None
    settling = False
    try:
        promised, settling = host.admission.ask_what_is_open()
    except StateUnavailable as error:
        ledger_error = str(error)
    available = host.processes.host_available_bytes()
    return Survey(units, reading, gpu_error, holders, available, promised, guard, ledger_error, settling)


def _sight(
    host: Engine,
    unit: str,
    state: UnitState,
    holders: tuple[Holder, ...],
    wanted: frozenset[str],
    reading: GpuReading | None,
    ours: frozenset[str],
) -> Sighting:
    service = host.registry.services.get(service_id(unit))
    pids = host.processes.in_cgroup(state.control_group)
    probe: Probe | None = None
    models: tuple[ModelState, ...] = ()
    listeners: tuple[Listener, ...] = ()
    asleep = False
    running = state.active_state is ActiveState.ACTIVE
    if service is not None and service.port is not None and (running or service.id in wanted):
        listeners = host.processes.listeners(service.port)
    if running and service is not None and service.port is not None:
        driver = host.drivers(service)
        probe = driver.probe(service)
        stranger = stranger_on_port(service, listeners)
        if stranger is not None:
            probe = Probe(Health.DOWN, stranger)
        if service.is_router and probe.health is Health.READY:
            try:
                models = driver.models(service)
            except ServerError as error:
                probe = Probe(Health.DOWN, str(error))
        elif service.is_guarded and probe.health is Health.READY:
            try:
                told = driver.is_sleeping(service)
            except ServerError as error:
                probe = Probe(Health.DOWN, str(error))
            else:
                asleep = bool(told)
                if told is None:
                    probe = Probe(Health.DOWN, "it does not tell whether it sleeps")
    is_ours = unit in ours or state.load_state == "not-found"
    held = held_by(unit, holders)
    seen = Sighting(service_id(unit), service, state, pids, held, probe, models, listeners=listeners, is_ours=is_ours)
    seen = replace(seen, asleep=asleep)
    if service is None or service.id not in wanted:
        return replace(seen, unsafe=host.unit_files.unsafe(service)) if service and service.is_guarded else seen
    loads = service.is_router and service.default_model is not None
    return replace(
        seen,
        missing=host.unit_files.missing_files(service, state),
        own_need=host.needs.unit_need(service, reading),
        model_need=host.needs.model_need(service, service.default_model or "", reading) if loads else None,
        unsafe=host.unit_files.unsafe(service),
        stale_unit=of_unit(service, reading.gpus if reading else (), host.unit_files.text(unit)),
        stale_process=_stale_process(host, service, state.main_pid, reading) if running else None,
    )


def _stale_process(host: Engine, service: Service, pid: int | None, reading: GpuReading | None) -> Stale | None:
    if pid is None:
        return None
    arguments = host.processes.arguments(pid) if service.is_router else None
    gpus = reading.gpus if reading else ()
    return of_process(service, gpus, lambda name: host.processes.variable(pid, name), arguments)


def stranger_on_port(service: Service, listeners: tuple[Listener, ...]) -> str | None:
    """Who answers in a service's place; None: it does itself, or nobody does.

    An answer proves nothing while somebody else is the one who listens. A guarded service answers on its own socket.
    """
    if service.is_guarded or not listeners or any(one.unit == service.unit for one in listeners):
        return None
    who = ", ".join(map(str, listeners))
    return f"port {service.port} of {service.id} is held by {who}"
