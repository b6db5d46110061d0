"""The box as admission sees it: who is up and holds what, and what will be free once some of it has gone."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from gpumod_tui.core.attribution import add_held, find_holders
from gpumod_tui.core.box import our_units, read_gpus, service_id
from gpumod_tui.core.commitments import NAMELESS, Asker, LedgerState, LiveModel, LiveUnit
from gpumod_tui.core.host import Host
from gpumod_tui.core.models import ActiveState, GpuReading, Holder, UnitState

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
    going = [entry for entry in state.commitments if entry.unit == unit and entry.model in models]
    router = look.live.get(unit)
    ending = [one for one in router.models if one.model in models] if router else []
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
    service = host.registry.services.get(service_id(unit))
    serving: dict[int, str] = {}
    pid = state.main_pid or next(iter(host.processes.in_cgroup(state.control_group)), None)
    holding = {holder.pid for holder in holders if holder.unit == unit and not holder.is_gone}
    if service is None or service.is_router:
        there = host.processes.in_cgroup(state.control_group)
        # Others have ended since NVML listed them.
        holding.intersection_update(there)
        for pid in there:
            if pid == state.main_pid:
                continue
            arguments = host.processes.arguments(pid)
            # The kernel drops the arguments of a process that ends before its memory of the GPU: counted as the
            # router's own, what a model held would be the router's need from then on.
            model = model_of(arguments) if arguments else NAMELESS
            if model is not None:
                serving[pid] = model
    own: dict[int, int | None] = {}
    by_pid: dict[int, dict[int, int | None]] = {}
    for holder in holders:
        if holder.pid in serving:
            add_held(by_pid.setdefault(holder.pid, {}), holder)
        elif holder.pid in holding:
            add_held(own, holder)
    models = []
    for pid, model in serving.items():
        start = host.processes.start_time(pid)
        if start is not None:
            models.append(LiveModel(model, Asker(pid, start), by_pid.get(pid, {})))
    return LiveUnit(
        unit,
        state.invocation_id,
        admitted=state.sub_state not in _UNASKED,
        measured=own,
        models=tuple(models),
        stopping=state.active_state is ActiveState.DEACTIVATING,
        pid=pid,
    )
