"""What a switch will do, and whether it fits. Pure: it does not act and does not log."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.admission.commitments import UNIT_ITSELF, Open, largest_first, name_open
from gpumod_tui.core.admission.decide import relief
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import BLANK, ActiveState, DriverKind, GpuSample, ModelStatus
from gpumod_tui.core.observation import Sighting, Survey
from gpumod_tui.core.servers.llamacpp import full_router
from gpumod_tui.core.switch.results import Blocker, GpuArithmetic, SwitchPlan
from gpumod_tui.core.text import GIB, format_mib
from gpumod_tui.core.units.guard import is_guards, may_share_port, port_fault, strangers
from gpumod_tui.core.vram.need import Need, UnknownNeed, gpu_indices
from gpumod_tui.core.vram.sleep import STILL_BYTES, most_asleep

HOST_BYTES_PER_SERVICE: Final = GIB
"""Least host memory that a server takes beside its mapped weights: CUDA's libraries, context and staging buffers."""
_IDLE: Final = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)


@dataclass(frozen=True, slots=True)
class Target:
    """What is to run afterwards."""

    label: str
    """Mode id, or a phrase such as `service start x`."""
    services: tuple[str, ...]
    stop: frozenset[str] | None = None
    """What stops; None: every managed unit outside `services`."""
    only: frozenset[str] | None = None
    """The part of `services` that is brought up and proved; the rest just goes on. None: all of it."""
    restart: frozenset[str] = frozenset()
    """Stopped first even if ready."""
    sleep: frozenset[str] = frozenset()
    """Part of `services` that is put to sleep."""
    wake_only: frozenset[str] = frozenset()
    """Must run already: they are woken, never started."""
    load_models: bool = True
    is_mode: bool = True
    """Whether `label` is a mode that is recorded as reached."""

    @property
    def brought_up(self) -> tuple[str, ...]:
        """Services that must be ready in the end."""
        return tuple(name for name in self.services if self.only is None or name in self.only)


@dataclass(frozen=True, slots=True)
class _Sorted:
    stop: tuple[str, ...]
    keep: tuple[str, ...]
    restart: tuple[str, ...]
    start: tuple[str, ...]
    wake: tuple[str, ...] = ()
    sleep: tuple[str, ...] = ()
    asleep: tuple[str, ...] = ()


def plan_switch(registry: ServiceRegistry, survey: Survey, target: Target, *, margin_bytes: int) -> SwitchPlan:
    """Stop every managed unit outside the target, or put it to sleep; keep what is ready, wake what sleeps, restart
    what is not ready, start the rest."""
    plan = _plan(registry, survey, target, margin_bytes, may_sleep=target.is_mode and target.label != BLANK)
    idle = (*plan.sleep, *plan.asleep)
    if not plan.blockers or not idle or target.sleep:
        return plan
    harder = _plan(registry, survey, target, margin_bytes, may_sleep=False)
    if harder.blockers:
        return plan
    why = f"{', '.join(idle)}: stopped rather than asleep, since {target.label} does not fit beside what sleep leaves"
    return replace(harder, warnings=(*harder.warnings, why))


def _plan(
    registry: ServiceRegistry, survey: Survey, target: Target, margin_bytes: int, *, may_sleep: bool
) -> SwitchPlan:
    chosen = _sort(survey, target, may_sleep=may_sleep)
    gpus = survey.reading.gpus if survey.reading else ()
    allocations, blockers = _allocations(survey, chosen, target)
    blockers += _missing(survey, chosen)
    blockers += _stale(survey, chosen, target)
    blockers += _sleepless(survey, chosen, target)
    blockers += _ports(registry, survey, chosen)
    blockers += _full(survey, chosen, target)
    arithmetic = _arithmetic(survey, chosen, allocations, margin_bytes)
    blockers += _memory(survey, chosen, arithmetic, registry, target)
    blockers += _host_memory(survey, chosen)
    return SwitchPlan(
        target=target.label,
        services=target.services,
        stop=chosen.stop,
        keep=chosen.keep,
        restart=chosen.restart,
        start=_waves(registry, chosen.start, gpus),
        arithmetic=arithmetic,
        sleep=chosen.sleep,
        wake=chosen.wake,
        asleep=chosen.asleep,
        leaves=MappingProxyType({name: _leaves(survey.units[name]) for name in chosen.sleep}),
        blockers=tuple(blockers),
        warnings=tuple(
            warning
            for name, model, need in allocations
            for warning in (
                need.warning,
                f"{model or name}: nobody declared its need; {need.basis}" if need.is_estimate else "",
            )
            if warning
        )
        + tuple(sentence for name in chosen.start for sentence in survey.units[name].unsafe)
        + tuple(
            f"{survey.units[name].state.unit} is stopped, though gpumod did not install it"
            for name in chosen.stop
            if not survey.units[name].is_ours
        ),
        needs=_by_service(allocations),
        promises=tuple((f"{name}.service", model, need.by_gpu) for name, model, need in allocations),
    )


_Allocation = tuple[str, str, Need]
"""(service, model or empty for the unit's own processes, need)"""


def _allocations(survey: Survey, chosen: _Sorted, target: Target) -> tuple[list[_Allocation], list[Blocker]]:
    """Everything that the switch is going to put into VRAM; a blocker for each need that is unknown."""
    found: list[_Allocation] = []
    blockers: list[Blocker] = []
    for name in (*chosen.keep, *chosen.wake, *chosen.start):
        unit = survey.units[name]
        model = unit.service.default_model if unit.service else None
        asked = [(UNIT_ITSELF, unit.own_need)] if name in chosen.start else []
        if name in chosen.wake:
            asked = [(UNIT_ITSELF, _rest_of(unit))]
        loads = name in chosen.start or (name in target.brought_up and unit.wants_load)
        if loads and target.load_models and model is not None:
            under_way = survey.promised.get((unit.state.unit, model)) if name in chosen.keep else None
            # A load that somebody else has begun holds a part already; only the rest is still to come.
            asked.append((model, unit.model_need if under_way is None else Need(under_way, "a load under way")))
        for what, need in asked:
            if isinstance(need, Need):
                found.append((name, what, need))
            elif need is not None and survey.reading is not None:
                # Without a reading every GPU is unknown; the one blocker for that says the true reason.
                blockers.append(Blocker(need.reason, need.hint))
    return found, blockers


def _rest_of(unit: Sighting) -> Need | UnknownNeed | None:
    """What a unit that sleeps takes when it wakes, beside what it holds."""
    need = unit.own_need
    if not isinstance(need, Need):
        return need
    by_gpu = {gpu: max(0, amount - (unit.held.get(gpu) or 0)) for gpu, amount in need.by_gpu.items()}
    return replace(need, by_gpu=by_gpu)


def _by_service(allocations: list[_Allocation]) -> Mapping[str, Mapping[int, int]]:
    found: dict[str, dict[int, int]] = {}
    for name, _, need in allocations:
        held = found.setdefault(name, {})
        for gpu, amount in need.by_gpu.items():
            held[gpu] = held.get(gpu, 0) + amount
    return MappingProxyType({name: MappingProxyType(held) for name, held in found.items()})


def _can_sleep_now(unit: Sighting, survey: Survey) -> bool:
    """Whether it can be proved asleep, and nobody but guard and manager could wake it.

    One that sleeps already is put to sleep once more: it may be promised more than it holds, or be about to wake.
    """
    if unit.service is None or not unit.service.is_guarded or unit.unsafe or not unit.is_ours:
        return False
    if not unit.is_ready and not unit.asleep:
        return False
    if survey.reading is None or survey.ledger_error is not None or None in unit.held.values():
        return False
    if any(sample.processes is None for sample in survey.reading.gpus):
        return False
    running = {model.id for model in unit.models if model.status in (ModelStatus.LOADED, ModelStatus.SLEEPING)}
    # A load on its way would be missed.
    return not unit.service.is_router or _models_promised(unit, survey) <= running


def _models_promised(unit: Sighting, survey: Survey) -> set[str]:
    return {model for of, model in survey.promised if of == unit.state.unit and model != UNIT_ITSELF}


def _rests(unit: Sighting, survey: Survey) -> bool:
    """Whether it is asleep and promised no more than it holds; one that is promised more may be about to wake."""
    if unit.service is None or unit.unsafe or survey.ledger_error is not None:
        return False
    if unit.service.is_router:
        idle = all(model.status in _IDLE for model in unit.models)
        return unit.is_ready and idle and not _models_promised(unit, survey)
    still_open = survey.promised.get((unit.state.unit, UNIT_ITSELF))
    return unit.asleep and still_open is not None and max(still_open.values(), default=0) <= STILL_BYTES


def _leaves(unit: Sighting) -> Mapping[int, int]:
    return most_asleep(unit.service, unit.held, asleep=unit.asleep)


def _sleepless(survey: Survey, chosen: _Sorted, target: Target) -> list[Blocker]:
    """Why what is asked to sleep, or to wake, cannot."""
    blockers = []
    for name in sorted(target.sleep - {*chosen.sleep}):
        unit = survey.units[name]
        if unit.is_down:
            blockers.append(Blocker(f"{name} does not run", f"gpumod service start {name}"))
        elif unit.service is None or not unit.service.is_guarded:
            blockers.append(
                Blocker(f"{name} cannot sleep", "routers can, and a vLLM with unit_vars.enable_sleep_mode: true")
            )
        elif not _rests(unit, survey):
            why = "it is not ready" if not unit.is_ready and not unit.asleep else ""
            why = why or "; ".join(unit.unsafe)
            why = why or "a load is on its way, or what it holds is not to be measured"
            blockers.append(Blocker(f"{name} cannot be put to sleep now: {why}", f"gpumod service status {name}"))
    blockers += [
        Blocker(f"{name} does not run, so it cannot be woken", f"gpumod service start {name}")
        for name in sorted(target.wake_only.intersection(chosen.start))
    ]
    return blockers


def _sort(survey: Survey, target: Target, *, may_sleep: bool) -> _Sorted:
    wanted = frozenset(target.services)
    going = frozenset(survey.units) - wanted if target.stop is None else target.stop
    stop, sleep, asleep = [], [], []
    for name, unit in survey.units.items():
        if name not in going or unit.is_down:
            continue
        sleeps = may_sleep and unit.service is not None and unit.service.sleeps_when_left
        if sleeps and _rests(unit, survey):
            asleep.append(name)
        elif sleeps and _can_sleep_now(unit, survey):
            sleep.append(name)
        else:
            stop.append(name)
    keep, restart, start, wake = [], [], [], []
    for name in target.services:
        unit = survey.units[name]
        bystander = name not in target.brought_up
        if name in target.sleep and not _rests(unit, survey) and _can_sleep_now(unit, survey):
            sleep.append(name)
            continue
        if unit.asleep and not bystander and name not in target.restart:
            wake.append(name)
            continue
        if bystander or (name not in target.restart and (unit.is_ready or unit.is_loading)):
            keep.append(name)
            continue
        start.append(name)
        if not unit.is_down or unit.state.active_state is ActiveState.FAILED:
            restart.append(name)
    return _Sorted(tuple(stop), tuple(keep), tuple(restart), tuple(start), tuple(wake), tuple(sleep), tuple(asleep))


def _missing(survey: Survey, chosen: _Sorted) -> list[Blocker]:
    blockers = []
    for name in chosen.start:
        unit = survey.units[name]
        if unit.state.load_state == "not-found":
            blockers.append(
                Blocker(f"unit {unit.state.unit} is not installed", f"gpumod template install {name} --yes")
            )
            continue
        if unit.state.load_state != "loaded":
            hint = f"systemctl --user unmask {unit.state.unit}" if unit.state.load_state == "masked" else ""
            hint = hint or f"systemctl --user status {unit.state.unit}; gpumod template install {name} --yes"
            blockers.append(Blocker(f"unit {unit.state.unit} cannot be loaded: {unit.state.load_state}", hint))
            continue
        if not unit.is_ours:
            text = f"unit {unit.state.unit} is not gpumod's: somebody else installed one of that name"
            blockers.append(
                Blocker(text, f"give the service another id, or gpumod template install {name} --yes --force")
            )
        blockers += [Blocker(f"{name}: {sentence}", "") for sentence in unit.missing]
    return blockers


def _stale(survey: Survey, chosen: _Sorted, target: Target) -> list[Blocker]:
    """What would take other memory than its preset says: units to be started, servers to be woken or to load."""
    found = [(name, survey.units[name].stale_unit) for name in chosen.start]
    found += [(name, survey.units[name].stale_process) for name in (*chosen.wake, *_loading(survey, chosen, target))]
    return [Blocker(f"{name}: {stale.reason}", stale.hint) for name, stale in found if stale is not None]


def _ports(registry: ServiceRegistry, survey: Survey, chosen: _Sorted) -> list[Blocker]:
    blockers = []
    ending = {survey.units[name].state.unit for name in (*chosen.stop, *chosen.restart)}
    owners: dict[int, str] = {}
    for name in (*chosen.keep, *chosen.wake, *chosen.start):
        service = registry.service(name)
        port = service.port
        if port is None:
            continue
        owner = owners.setdefault(port, name)
        if owner != name and not may_share_port(registry.service(owner), service):
            blockers.append(Blocker(f"{owner} and {name} want the same port {port}", "give one another port"))
        if name not in chosen.start:
            continue
        listeners = survey.units[name].listeners
        fault = port_fault(port, survey.guard, listeners) if service.is_guarded else None
        if fault is not None and not strangers(listeners):
            blockers.append(Blocker(f"{name}: {fault[0]}", fault[1]))
        for listener in listeners:
            if listener.unit in ending or (service.is_guarded and is_guards(listener)):
                continue
            blockers.append(
                Blocker(
                    f"port {port} of {name} is taken by {listener}",
                    f"stop it, or give {name} another port",
                )
            )
    return blockers


def _loading(survey: Survey, chosen: _Sorted, target: Target) -> list[str]:
    """Kept routers whose default models are to be loaded."""
    if not target.load_models:
        return []
    return [name for name in chosen.keep if name in target.brought_up and survey.units[name].wants_load]


def _full(survey: Survey, chosen: _Sorted, target: Target) -> list[Blocker]:
    """Kept routers that hold as many models as they may, and not their default one."""
    found = []
    for name in _loading(survey, chosen, target):
        unit = survey.units[name]
        if unit.service is None or unit.service.default_model is None:
            continue
        full = full_router(unit.service, unit.models, unit.service.default_model)
        if full is not None:
            found.append(Blocker(full.reason, full.hint))
    return found


def _held(unit: Sighting, gpu: int) -> int | None:
    """Bytes on one GPU, None: unknown."""
    return unit.held.get(gpu, 0)


def _arithmetic(
    survey: Survey, chosen: _Sorted, allocations: list[_Allocation], margin_bytes: int
) -> tuple[GpuArithmetic, ...]:
    rows = []
    ours = {(f"{name}.service", model) for name, model, _ in allocations}
    going = {f"{name}.service" for name in (*chosen.stop, *chosen.restart)}
    for sample in survey.reading.gpus if survey.reading else ():
        gpu = sample.index
        need = sum(need.by_gpu.get(gpu, 0) for _, _, need in allocations)
        growth = kept_growth(survey.promised, gpu, going | {f"{name}.service" for name in chosen.sleep}, ours)
        ending = [survey.units[name] for name in (*chosen.stop, *chosen.restart)]
        stopping = _stopping(ending, sample)
        if stopping is not None:
            sleeping = [survey.units[name] for name in chosen.sleep]
            stopping += sum((unit.held.get(gpu) or 0) - _leaves(unit).get(gpu, 0) for unit in sleeping)
        bound = None
        if stopping is None and sample.total_bytes is not None:
            staying = sum(
                holder.used_bytes or 0 for holder in survey.holders if holder.gpu == gpu and holder.unit not in going
            )
            bound = sample.total_bytes - (sample.reserved_bytes or 0) - staying
        rows.append(
            GpuArithmetic(
                gpu,
                sample.total_bytes,
                sample.free_bytes,
                stopping,
                sum(one.bytes for one in growth),
                need,
                margin_bytes,
                bound,
                growth,
            )
        )
    return tuple(rows)


def kept_growth(
    promised: Mapping[tuple[str, str], Mapping[int, int]],
    gpu: int,
    going: Collection[str],
    ours: Collection[tuple[str, str]],
) -> tuple[Open, ...]:
    """What that stays may still take on one GPU: promises, less those of what goes and of the switch itself."""
    return largest_first(
        {
            (unit, model): by_gpu.get(gpu, 0)
            for (unit, model), by_gpu in promised.items()
            if unit not in going and (unit, model) not in ours
        }
    )


def _stopping(ending: list[Sighting], sample: GpuSample) -> int | None:
    """What the ending units hold on a GPU; None where NVML does not tell."""
    if not any(unit.pids for unit in ending):
        return 0
    if sample.processes is None:
        return None
    total = 0
    for unit in ending:
        held = _held(unit, sample.index)
        if held is None:
            return None
        total += held
    return total


def _memory(
    survey: Survey,
    chosen: _Sorted,
    arithmetic: tuple[GpuArithmetic, ...],
    registry: ServiceRegistry,
    target: Target,
) -> list[Blocker]:
    coming = (*chosen.start, *_loading(survey, chosen, target))
    on_gpu = [name for name in coming if registry.service(name).vram_bytes != 0]
    if on_gpu and survey.reading is None:
        return [Blocker(f"free VRAM is unknown: {survey.gpu_error}", "nvidia-smi; without NVML nothing is started")]
    if on_gpu and survey.ledger_error is not None:
        return [Blocker(f"what was promised to others is unknown: {survey.ledger_error}", "gpumod doctor")]
    blockers = []
    samples = {sample.index: sample for sample in survey.reading.gpus} if survey.reading else {}
    ending = {survey.units[name].state.unit for name in (*chosen.stop, *chosen.restart)}
    for row in arithmetic:
        short = row.short_bytes
        if short == 0:
            continue
        holders = tuple(holder for holder in survey.holders if holder.gpu == row.gpu and holder.unit not in ending)
        if short is None:
            why = samples[row.gpu].error or "NVML reports no free memory for it"
            blockers.append(Blocker(f"GPU {row.gpu}: free VRAM is unknown: {why}", "nvidia-smi -q", holders))
            continue
        held = "; held by " + ", ".join(map(str, holders)) if holders else ""
        growth = format_mib(row.kept_growth_bytes)
        kept = f" + {growth} that kept services may grow{name_open(row.kept_growth)}" if row.kept_growth_bytes else ""
        shown = [holder.used_bytes for holder in survey.holders if holder.gpu == row.gpu and not holder.is_gone]
        taken = (row.total_bytes or 0) - (samples[row.gpu].reserved_bytes or 0) - (row.free_bytes or 0)
        nobodys = taken - sum(filter(None, shown))
        blockers.append(
            Blocker(
                f"insufficient VRAM on GPU {row.gpu}: needs {format_mib(row.need_bytes)}{kept}"
                f" + margin {format_mib(row.margin_bytes)}, free after stop {format_mib(row.available_bytes)}"
                f" of {format_mib(row.total_bytes)}, short by {format_mib(short)}{held}",
                relief(holders, short),
                holders,
                may_pass=survey.settling or (None not in shown and nobodys >= short),
            )
        )
    return blockers


def _host_memory(survey: Survey, chosen: _Sorted) -> list[Blocker]:
    available = survey.host_available_bytes
    need = HOST_BYTES_PER_SERVICE * len(chosen.start)
    if available is not None and need <= available < need + _offloaded(survey, chosen):
        need = _offloaded(survey, chosen)
        return [
            Blocker(
                f"insufficient host memory: {', '.join(chosen.sleep)} would move up to {format_mib(need)} there to"
                f" sleep, available {format_mib(available)}",
                "sleep_level: 2 drops the weights instead",
            )
        ]
    if available is None or available >= need:
        return []
    return [
        Blocker(
            f"insufficient host memory: {len(chosen.start)} service(s) need {format_mib(need)},"
            f" available {format_mib(available)}",
            "free host memory first: the kernel would kill a server in the middle of its load",
        )
    ]


def _offloaded(survey: Survey, chosen: _Sorted) -> int:
    """At most what servers put into host memory when they sleep: at level 1 their weights."""
    units = (survey.units[name] for name in chosen.sleep)
    return sum(
        sum(filter(None, unit.held.values()))
        for unit in units
        if unit.service is not None and not unit.service.is_router and unit.service.sleep_level == 1
    )


def _waves(
    registry: ServiceRegistry, start: tuple[str, ...], gpus: tuple[GpuSample, ...]
) -> tuple[tuple[str, ...], ...]:
    """Parallel as far as dependencies allow; a vLLM starts alone on its GPUs: it measures them while it starts."""
    level: dict[str, int] = {}
    waves: list[list[str]] = []
    for name in registry.with_dependencies(start):
        service = registry.service(name)
        wave = 1 + max((level[dependency] for dependency in service.depends_on if dependency in level), default=-1)
        if name not in start:
            continue
        while wave < len(waves) and any(_clash(registry, name, other, gpus) for other in waves[wave]):
            wave += 1
        while len(waves) <= wave:
            waves.append([])
        waves[wave].append(name)
        level[name] = wave
    return tuple(tuple(wave) for wave in waves)


def _clash(registry: ServiceRegistry, one: str, other: str, gpus: tuple[GpuSample, ...]) -> bool:
    services = (registry.service(one), registry.service(other))
    if not any(service.driver is DriverKind.VLLM for service in services):
        return False
    if any(service.vram_bytes == 0 for service in services):
        return False
    first, second = (gpu_indices(service, gpus) for service in services)
    if isinstance(first, UnknownNeed) or isinstance(second, UnknownNeed):
        return True
    return bool(set(first) & set(second))
