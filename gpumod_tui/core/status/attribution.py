"""Who holds the GPUs' memory, and the views of services that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec

from gpumod_tui.core.models import (
    ActiveState,
    GpuReading,
    Health,
    Holder,
    ModelState,
    Probe,
    ProcessInfo,
    Service,
    ServiceView,
    UnitState,
)

if TYPE_CHECKING:
    from gpumod_tui.core.catalog.registry import ServiceRegistry
    from gpumod_tui.core.ports import Processes


class Held(msgspec.Struct, frozen=True):
    """What NVML's process lists say, by unit."""

    by_unit: Mapping[str, Mapping[int, int | None]] = msgspec.field(default_factory=lambda: MappingProxyType({}))
    """Bytes by unit and GPU index; None: it holds some and NVML does not tell how much."""
    orphans: tuple[Holder, ...] = ()
    """Processes of no managed unit, the largest first."""
    known: bool = False
    """False: no process list could be read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said when it was last asked."""

    probe: Probe
    models: tuple[ModelState, ...] = ()


def find_holders(processes: Processes, reading: GpuReading | None) -> tuple[Holder, ...]:
    """Everybody who holds memory of a GPU, by cgroup and never by name, the largest first."""
    found = []
    for sample in reading.gpus if reading else ():
        for process in sample.processes or ():
            about = processes.describe(process.pid)
            holder = Holder(process.pid, sample.index, process.used_bytes)
            found.append(holder if about is None else _known(holder, about))
    return tuple(sorted(found, key=lambda holder: -(holder.used_bytes or 0)))


def _known(holder: Holder, about: ProcessInfo) -> Holder:
    return Holder(
        holder.pid,
        holder.gpu,
        holder.used_bytes,
        about.command,
        about.state,
        about.unit,
        about.user,
        about.elsewhere,
    )


def held_by(unit: str, holders: Iterable[Holder]) -> dict[int, int | None]:
    """Bytes of one unit by GPU index; None: it holds some, NVML does not tell how much."""
    held: dict[int, int | None] = {}
    for holder in holders:
        if holder.unit == unit:
            add_held(held, holder)
    return held


def add_held(held: dict[int, int | None], holder: Holder) -> None:
    """Add up; one unknown part makes the sum unknown."""
    before = held.get(holder.gpu, 0)
    held[holder.gpu] = None if before is None or holder.used_bytes is None else before + holder.used_bytes


def attribute(reading: GpuReading | None, processes: Processes, managed: Iterable[str]) -> Held:
    """Lay every GPU process to its unit."""
    ours = frozenset(managed)
    holders = find_holders(processes, reading)
    by_unit: dict[str, dict[int, int | None]] = {}
    for holder in holders:
        if holder.unit is not None and holder.unit in ours:
            add_held(by_unit.setdefault(holder.unit, {}), holder)
    known = any(sample.processes is not None for sample in (reading.gpus if reading else ()))
    return Held(MappingProxyType(by_unit), tuple(holder for holder in holders if holder.unit not in ours), known)


def is_asked(service: Service | None, state: UnitState) -> bool:
    """Whether a server can be expected to answer."""
    return service is not None and service.port is not None and state.active_state is ActiveState.ACTIVE


def service_views(
    registry: ServiceRegistry, states: Mapping[str, UnitState], held: Held, answers: Mapping[str, Answer] | None
) -> tuple[ServiceView, ...]:
    """The catalog in its order, then managed units that are not in it, by name. `answers` None: nobody asks."""
    catalog = [service.unit for service in registry.services.values()]
    others = sorted(unit for unit in states if unit not in set(catalog))
    return tuple(_view(registry, unit, states[unit], held, answers) for unit in [*catalog, *others] if unit in states)


def _view(
    registry: ServiceRegistry, unit: str, state: UnitState, held: Held, answers: Mapping[str, Answer] | None
) -> ServiceView:
    service_id = unit.removesuffix(".service")
    service = registry.services.get(service_id)
    answer = None if state.is_down or answers is None else answers.get(unit)
    if answer is None and answers is not None and is_asked(service, state):
        # A server that was just started must not read as ready until it has said so.
        answer = Answer(Probe(Health.DOWN, "not asked yet"))
    # Without a process nothing is held, whatever an older process list says.
    gone = state.is_down and not state.control_group
    by_gpu = {} if gone else held.by_unit.get(unit, {})
    told = {gpu: amount for gpu, amount in by_gpu.items() if amount is not None}
    unknown = len(told) < len(by_gpu) or not (held.known or not state.control_group)
    return ServiceView(
        id=service_id,
        service=service,
        state=state,
        probe=answer.probe if answer else None,
        models=answer.models if answer else (),
        vram_bytes=None if unknown else sum(told.values()),
        vram_by_gpu=MappingProxyType(told),
    )
