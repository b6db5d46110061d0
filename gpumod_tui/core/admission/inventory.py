"""The box as admission sees it: who is up and holds what, and what will be free once some of it has gone."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from gpumod_tui.core.admission.commitments import (
    NAMELESS,
    Asker,
    Commitment,
    LedgerState,
    LiveModel,
    LiveUnit,
    is_stranger,
)
from gpumod_tui.core.host import Host
from gpumod_tui.core.models import ActiveState, GpuReading, Holder, UnitState
from gpumod_tui.core.status.attribution import add_held, find_holders
from gpumod_tui.core.units.managed import our_units, read_gpus, service_id

_DOWN: Final = (ActiveState.INACTIVE, ActiveState.FAILED)
_UNASKED: Final = ("condition", "auto-restart", "auto-restart-queued")
"""States of a unit whose ExecCondition has still to answer."""


@dataclass(frozen=True, slots=True)
class Look:
    """The box under the ledger's lock."""

    live: Mapping[str, LiveUnit]
    reading: GpuReading | None
    gpu_error: str | None
    holders: tuple[Holder, ...]
    unknown: tuple[Commitment, ...] = ()
    """What runs without an entry in the ledger, and nobody can say at this moment what it takes."""
    lost: str = ""
    """Why the ledger was rebuilt at this look; empty: it was not, or nothing ran that it could have known."""


def look_at(host: Host) -> Look:
    """Processes before free memory (the adapter's order): a growing process is counted twice rather than not."""
    states = host.units.states(sorted(our_units(host)))
    reading, gpu_error = read_gpus(host, processes=True)
    holders = find_holders(host.processes, reading)
    live = {
        unit: _live(host, unit, state, holders)
        for unit, state in states.items()
        # A start job that waits for its turn is nothing yet, and what it shows is its last invocation.
        if state.active_state not in _DOWN or host.processes.in_cgroup(state.control_group)
    }
    return Look(live, reading, gpu_error, holders)


def reading_after(look: Look, ending: Collection[str], left: Mapping[int, int]) -> GpuReading | None:
    """The GPUs as they will be once the ending units have given back all they hold but `left`; None: NVML does not
    tell."""
    if look.reading is None:
        return None
    back = {gpu: -amount for gpu, amount in left.items()}
    for holder in look.holders:
        if holder.unit in ending:
            if holder.used_bytes is None:
                return None
            back[holder.gpu] = back.get(holder.gpu, 0) + holder.used_bytes
    if ending and any(sample.processes is None for sample in look.reading.gpus):
        return None
    gpus = tuple(
        sample
        if sample.free_bytes is None
        else replace(sample, free_bytes=sample.free_bytes + back.get(sample.index, 0))
        for sample in look.reading.gpus
    )
    return replace(look.reading, gpus=gpus)


def without_models(look: Look, state: LedgerState, unit: str, models: Collection[str]) -> tuple[Look, LedgerState]:
    """The box once a router has unloaded models: what they hold is free, or what they were promised if nobody tells."""
    theirs = [entry for entry in state.commitments if entry.unit == unit and not is_stranger(entry, look.live)]
    going = [entry for entry in theirs if entry.model in models]
    router = look.live.get(unit)
    ending = [one for one in router.models if one.model in models and not one.outlived] if router else []
    silent = {sample.index for sample in look.reading.gpus if sample.processes is None} if look.reading else set()
    back: dict[int, int] = {}
    for one in ending:
        promised = next((entry.needs for entry in going if entry.model == one.model), {})
        for gpu in {*one.measured, *promised}:
            held = one.measured.get(gpu, None if gpu in silent else 0)
            back[gpu] = back.get(gpu, 0) + (promised.get(gpu, 0) if held is None else held)
    if router is not None:
        stays = tuple(one for one in router.models if one not in ending)
        look = replace(look, live={**look.live, unit: replace(router, models=stays)})
    if look.reading is not None:
        gpus = tuple(
            sample
            if sample.free_bytes is None
            else replace(sample, free_bytes=sample.free_bytes + back.get(sample.index, 0))
            for sample in look.reading.gpus
        )
        look = replace(look, reading=replace(look.reading, gpus=gpus))
    return look, replace(state, commitments=tuple(entry for entry in state.commitments if entry not in going))


def model_of(arguments: tuple[str, ...]) -> str | None:
    """The model that a router's child serves: llama-server starts it with `--alias ID`."""
    for before, after in pairwise(arguments):
        if before == "--alias":
            return after
    return None


def _live(host: Host, unit: str, state: UnitState, holders: tuple[Holder, ...]) -> LiveUnit:
    since = _since(host, state)
    service = host.registry.services.get(service_id(unit))
    serving: dict[int, str] = {}
    holding = {holder.pid for holder in holders if holder.unit == unit and not holder.is_gone}
    if service is None or service.is_router:
        there = host.processes.in_cgroup(state.control_group)
        # Others have ended since NVML listed them.
        holding.intersection_update(there)
        serving = _serving(host, [pid for pid in there if pid != state.main_pid])
    measured: dict[int, int | None] = {}
    left: dict[int, int | None] = {}
    for holder in holders:
        if holder.pid in holding and holder.pid not in serving:
            add_held(left if _is_left(host, holder.pid, since) else measured, holder)
    return LiveUnit(
        unit,
        state.invocation_id,
        admitted=state.sub_state not in _UNASKED,
        measured=measured,
        left=left,
        models=_models(host, serving, since, holders),
        stopping=state.active_state is ActiveState.DEACTIVATING,
        pid=state.main_pid or _youngest(host, state),
    )


def _since(host: Host, state: UnitState) -> float:
    """From which start time on a process of the unit is of its present invocation, in clock ticks since boot.

    The server is the first that stays. Until it is there nothing in the cgroup is of the invocation that begins, but
    for those who ask for admission or prepare; of a unit that is down, or that ends, all that is left is its own.
    """
    if state.main_pid is not None:
        start = host.processes.start_time(state.main_pid)
        return math.inf if start is None else start
    return math.inf if state.active_state is ActiveState.ACTIVATING else 0


def _is_left(host: Host, pid: int, since: float) -> bool:
    """Whether an earlier invocation has left the process behind; one that is gone is nobody's credit."""
    if not since:
        return False
    start = host.processes.start_time(pid)
    return start is None or start < since


def _youngest(host: Host, state: UnitState) -> int | None:
    """The one that came last: what an earlier invocation has left behind may be there, too."""
    pids = host.processes.in_cgroup(state.control_group)
    return max(pids, key=lambda pid: host.processes.start_time(pid) or 0, default=None)


def _serving(host: Host, pids: Iterable[int]) -> dict[int, str]:
    """The model of each process that serves one."""
    found = {}
    for pid in pids:
        arguments = host.processes.arguments(pid)
        # The kernel drops the arguments of a process that ends before its memory of the GPU: counted as the
        # router's own, what a model held would be the router's need from then on.
        model = model_of(arguments) if arguments else NAMELESS
        if model is not None:
            found[pid] = model
    return found


def _models(host: Host, serving: Mapping[int, str], since: float, holders: Iterable[Holder]) -> tuple[LiveModel, ...]:
    by_pid: dict[int, dict[int, int | None]] = {}
    for holder in holders:
        if holder.pid in serving:
            add_held(by_pid.setdefault(holder.pid, {}), holder)
    starts = {pid: host.processes.start_time(pid) for pid in serving}
    return tuple(
        LiveModel(serving[pid], Asker(pid, start), by_pid.get(pid, {}), outlived=start < since)
        for pid, start in starts.items()
        if start is not None
    )
