"""One snapshot of the box, and the pieces that it is made of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import (
    ActiveState,
    GpuReading,
    Health,
    ModeTruth,
    ModeView,
    Probe,
    Service,
    Snapshot,
    UnitState,
)
from gpumod_tui.core.status.attribution import Answer, Held, attribute, is_asked, service_views
from gpumod_tui.core.status.mode_status import Recorded, mode_view
from gpumod_tui.core.units.managed import managed_units, read_gpus

if TYPE_CHECKING:
    from gpumod_tui.core.admission.commitments import Refusal
    from gpumod_tui.core.catalog.registry import ServiceRegistry
    from gpumod_tui.core.engine import Engine

PROBE_LIMIT_S: Final = 3.0

RecordedSource = Callable[[], Recorded]
"""The last reached mode, from disk. May raise GpumodError."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The newest of everything; a snapshot is made of it."""

    reading: GpuReading | None = None
    gpu_error: str | None = "not read yet"
    held: Held = field(default_factory=Held)
    states: Mapping[str, UnitState] | None = None
    units_error: str | None = "not read yet"
    recorded: Recorded = field(default_factory=lambda: Recorded(note="not read yet"))
    answers: Mapping[str, Answer] | None = None
    cpu: Mapping[str, float] = field(default_factory=dict)
    """Percent of one core by unit."""
    refusals: tuple[Refusal, ...] = ()


def take_snapshot(host: Engine, recorded: RecordedSource, *, probe: bool = True) -> Snapshot:
    """One look at everything now; with `probe`, active servers are asked in parallel, `PROBE_LIMIT_S` at most."""
    # NVML takes its time to begin, and so do systemd's answers: both at once.
    readings: list[tuple[GpuReading | None, str | None]] = []
    reader = threading.Thread(target=lambda: readings.append(read_gpus(host, processes=True)), daemon=True)
    reader.start()
    parts = look_at_units(Parts(), host, recorded)
    reader.join()
    # Without a reading the thread has ended by a bug, whose words are on stderr.
    reading, error = readings[0] if readings else (None, "the GPUs could not be read")
    parts = with_gpus(parts, host, reading, error, processes=True)
    if probe:
        parts = replace(parts, answers=_answers(host, active_servers(host.registry, parts.states or {})))
    return assemble(parts, host)


def _answers(host: Engine, servers: Sequence[Service]) -> Mapping[str, Answer]:
    if not servers:
        return {}
    from gpumod_tui.core.status.probes import Prober

    answers: dict[str, Answer] = {}
    prober = Prober(host.drivers, answers.__setitem__)
    prober.ask(servers)
    # Real time: a hanging server hangs in real time, whatever clock the host has.
    end = time.monotonic() + PROBE_LIMIT_S
    late = prober.join(lambda: end - time.monotonic())
    silent = Answer(Probe(Health.DOWN, f"no answer within {PROBE_LIMIT_S:g} s"))
    return {**answers, **dict.fromkeys(late, silent)}


def with_gpus(parts: Parts, host: Engine, reading: GpuReading | None, error: str | None, *, processes: bool) -> Parts:
    """With a new reading, or why there is none; `processes`: it has the process lists, too."""
    if reading is None:
        return replace(parts, reading=None, gpu_error=error, held=Held())
    held = attribute(reading, host.processes, _managed(host, parts)) if processes else parts.held
    return replace(parts, reading=reading, gpu_error=None, held=held)


def _managed(host: Engine, parts: Parts) -> Collection[str]:
    """Units that are ours; where systemd cannot be asked, as far as files tell."""
    if parts.states is not None:
        return parts.states
    return {*(service.unit for service in host.registry.services.values()), *host.unit_files.stamped()}


def look_at_units(parts: Parts, host: Engine, recorded: RecordedSource) -> Parts:
    """With what systemd and the state folder say."""
    try:
        parts = replace(parts, states=host.units.states(managed_units(host)), units_error=None)
    except GpumodError as error:
        parts = replace(parts, states=None, units_error=error.with_hint)
    try:
        return replace(parts, recorded=recorded())
    except GpumodError as error:
        return replace(parts, recorded=Recorded(note=error.with_hint))


def active_servers(registry: ServiceRegistry, states: Mapping[str, UnitState]) -> Sequence[Service]:
    """Those that can be asked now."""
    return [
        service
        for service in registry.services.values()
        if service.unit in states and is_asked(service, states[service.unit])
    ]


def _unknown_state(unit: str) -> UnitState:
    return UnitState(unit, load_state="unknown", active_state=ActiveState.UNKNOWN, sub_state="unknown")


def assemble(parts: Parts, host: Engine) -> Snapshot:
    """The snapshot that all parts make."""
    states = parts.states
    if states is None:
        # Memory must not vanish from the screen because nobody can say whether its unit is active.
        states = {unit: _unknown_state(unit) for unit in parts.held.by_unit}
    services = tuple(
        replace(view, cpu_percent=parts.cpu.get(view.state.unit))
        for view in service_views(host.registry, states, parts.held, parts.answers)
    )
    if parts.states is None:
        mode = ModeView(parts.recorded.mode, ModeTruth.UNKNOWN, "systemd cannot be asked", parts.recorded.since)
    else:
        mode = mode_view(host.registry, parts.recorded, services)
    return Snapshot(
        at=host.clock.time(),
        gpus=parts.reading,
        gpu_error=parts.gpu_error,
        services=services,
        mode=mode,
        orphans=parts.held.orphans,
        units_error=parts.units_error,
        refusals=parts.refusals,
    )
