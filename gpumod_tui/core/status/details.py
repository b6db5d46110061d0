"""One unit, one router's models or one process looked at closely. It acts on nothing; every call may block."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from gpumod_tui.core.errors import GpumodError, UnknownName
from gpumod_tui.core.models import LogLine, ModelStatus, Service, UnitState, whereabouts
from gpumod_tui.core.status.attribution import find_holders
from gpumod_tui.core.text import format_gib
from gpumod_tui.core.units.managed import managed_units, read_gpus
from gpumod_tui.core.units.unit_file import STAMP
from gpumod_tui.core.vram.need import Need, UnknownNeed

if TYPE_CHECKING:
    from gpumod_tui.core.engine import Engine

JOURNAL_LINES: Final = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """One model of a router, as somebody who loads or unloads one wants to see it."""

    id: str
    status: ModelStatus
    need_bytes: int | None
    """Over all GPUs; None: unknown."""
    basis: str
    """Where the need comes from, or why it is unknown."""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process, with its whole command line."""

    pid: int
    start_time: int | None
    """Clock ticks since boot; None: it has ended."""
    user: str
    command: str
    arguments: str
    """The whole command line; empty: it has none."""
    state: str
    unit: str | None
    """What it is in, for people; None: no unit."""
    used_bytes: int | None
    """VRAM over all GPUs; None: NVML does not tell; 0: none."""
    gpus: tuple[int, ...]
    started_at: float | None
    is_ours: bool
    """Whether this user may signal it."""


@dataclass(frozen=True, slots=True)
class UnitDetails:
    """Everything there is to know of one unit."""

    service_id: str
    service: Service | None
    state: UnitState
    properties: Mapping[str, str]
    """By systemd's names; empty: systemd has no such unit."""
    text: str | None
    """The unit file as it lies there; None: there is none of gpumod's."""
    diff: tuple[str, ...]
    """From the installed file to what its preset gives now; empty: no difference, or `diff_note` says why."""
    diff_note: str
    needed_by: tuple[str, ...]
    """Services that depend on it."""
    needs: tuple[str, ...]
    """Sentences on its VRAM need: what is declared, learned, estimated."""
    processes: tuple[ProcessView, ...]
    journal: tuple[LogLine, ...]
    """The newest lines, oldest first."""
    faults: tuple[str, ...]
    """What could not be found out, and why."""


def model_choices(host: Engine, service_id: str) -> tuple[ModelChoice, ...]:
    """A router's models, those in memory first. Raises: UnknownName, ServerError."""
    service = host.registry.service(service_id)
    models = host.drivers(service).models(service)
    reading, _ = read_gpus(host, processes=False)
    found = []
    for model in models:
        need = host.needs.model_need(service, model.id, reading)
        found.append(
            ModelChoice(
                model.id,
                model.status,
                need.total_bytes if isinstance(need, Need) else None,
                need.basis if isinstance(need, Need) else need.reason,
                model.exit_code,
            )
        )
    down = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)
    return tuple(sorted(found, key=lambda one: (one.status in down, one.id)))


def process_view(host: Engine, pid: int) -> ProcessView | None:
    """None: it has ended."""
    return _processes(host, (pid,))[0] if host.processes.describe(pid) is not None else None


def unit_details(host: Engine, service_id: str) -> UnitDetails:
    """What cannot be found out is in `faults`. Raises: UnknownName, SystemdUnavailable."""
    unit = f"{service_id}.service"
    service = host.registry.services.get(service_id)
    if service is None and unit not in managed_units(host):
        raise UnknownName(f"no service or managed unit {service_id!r}")
    state = host.units.states([unit])[unit]
    faults: list[str] = []
    nothing: Mapping[str, str] = {}
    none: tuple[int, ...] = ()
    silence: tuple[LogLine, ...] = ()
    properties = _tried(faults, lambda: host.units.show(unit), nothing)
    pids = _tried(faults, lambda: host.processes.in_cgroup(state.control_group), none)
    journal = _tried(faults, lambda: host.journal.tail(unit, JOURNAL_LINES), silence)
    text = host.unit_files.text(unit)
    diff, note = _diff(host, service, text)
    return UnitDetails(
        service_id=service_id,
        service=service,
        state=state,
        properties=properties,
        text=text,
        diff=diff,
        diff_note=note,
        needed_by=tuple(one.id for one in host.registry.services.values() if service_id in one.depends_on),
        needs=_needs(host, service),
        processes=_processes(host, pids),
        journal=journal,
        faults=tuple(faults),
    )


def _tried(faults: list[str], ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except GpumodError as error:
        faults.append(str(error))
        return otherwise


def _diff(host: Engine, service: Service | None, text: str | None) -> tuple[tuple[str, ...], str]:
    """The lines, and a sentence where there are none."""
    if service is None:
        return (), "its preset is broken or gone, so nothing would be written"
    if text is None:
        return (), f"gpumod has installed no unit file: gpumod template install {service.id}"
    reading, _ = read_gpus(host, processes=False)
    try:
        wanted = host.render_unit(service, reading)
    except GpumodError as error:
        return (), f"what its preset gives cannot be said: {error}"
    if wanted == text:
        return (), "the installed file is what its preset gives"
    lines = difflib.unified_diff(_unstamped(text), _unstamped(wanted), "installed", "preset", lineterm="", n=1)
    # Without the names of the two files, which the screen tells.
    return tuple(lines)[2:], f"gpumod template install {service.id} would change this"


def _unstamped(text: str) -> list[str]:
    """Without the line that differs whenever anything does."""
    return [line for line in text.splitlines() if not line.startswith(STAMP)]


def _needs(host: Engine, service: Service | None) -> tuple[str, ...]:
    if service is None:
        return ()
    reading, _ = read_gpus(host, processes=False)
    asked: list[tuple[str, Need | UnknownNeed]] = [("the unit itself", host.needs.unit_need(service, reading))]
    if service.is_router and service.default_model is not None:
        asked.append((service.default_model, host.needs.model_need(service, service.default_model, reading)))
    return tuple(f"{what}: {_need_words(need)}" for what, need in asked)


def _need_words(need: Need | UnknownNeed) -> str:
    if isinstance(need, UnknownNeed):
        return f"unknown: {need.reason}"
    peak = need.measured_peak_bytes
    # The basis tells the peak where there is one.
    never = "; it was never measured" if peak is None else ""
    return f"{format_gib(need.total_bytes)} ({need.basis}{never})"


def _processes(host: Engine, pids: tuple[int, ...]) -> tuple[ProcessView, ...]:
    reading, _ = read_gpus(host, processes=True)
    holders = find_holders(host.processes, reading)
    found = []
    for pid in pids:
        about = host.processes.describe(pid)
        if about is None:
            continue
        held = [holder for holder in holders if holder.pid == pid]
        amounts = [holder.used_bytes for holder in held]
        used = None if None in amounts else sum(amount for amount in amounts if amount is not None)
        found.append(
            ProcessView(
                pid,
                host.processes.start_time(pid),
                about.user,
                about.command,
                " ".join(host.processes.arguments(pid)),
                about.state,
                about.unit or (whereabouts(about.elsewhere, about.user) if about.elsewhere else None),
                used,
                tuple(holder.gpu for holder in held),
                about.started_at,
                about.is_ours,
            )
        )
    return tuple(sorted(found, key=lambda one: (-(one.used_bytes or 0), one.pid)))
