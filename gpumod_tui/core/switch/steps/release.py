"""Wait until the NVIDIA driver has given back what the stopped units held."""

from dataclasses import replace
from typing import Final

from gpumod_tui.core.events import Step
from gpumod_tui.core.models import GpuReading, Holder
from gpumod_tui.core.status.attribution import find_holders
from gpumod_tui.core.switch.plan import kept_growth
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.release import Goal, Released, ReleaseWatch, Stuck
from gpumod_tui.core.switch.steps.context import POLL_S, Run, StepFailed
from gpumod_tui.core.text import format_gib
from gpumod_tui.core.units.managed import read_gpus
from gpumod_tui.core.vram.sleep import GRACE_S, STILL_BYTES, STILL_S

HOLDERS_EVERY_S: Final = 0.5
"""Process lists take a driver-wide lock in NVML for milliseconds."""


def release(run: Run) -> str:
    """For the sum of what comes, by GPU; else until what went is back. Raises: StepFailed, Cancelled."""
    goals = _goals(run)
    # Nothing stops and nothing comes: what a switch before this one stopped may still be on its way back.
    left_over = [] if goals or run.plan.promises else _left_over(run)
    if not goals and not left_over:
        return "nothing to wait for"
    seen = run.survey.units
    ended = [name for name in run.ending if not seen[name].is_down]
    watch = ReleaseWatch(
        goals or left_over,
        frozenset(seen[name].state.unit for name in ended),
        frozenset(pid for name in ended for pid in seen[name].pids),
        run.clock.monotonic(),
        grace_s=GRACE_S if goals else STILL_S,
    )
    holders: tuple[Holder, ...] | None = None
    holders_at = run.clock.monotonic()
    before = {sample.index: sample.free_bytes for sample in run.survey.reading.gpus} if run.survey.reading else {}
    newest: GpuReading | None = None

    def check() -> Released | Stuck | None:
        nonlocal holders, holders_at, newest
        now = run.clock.monotonic()
        listed = now - holders_at >= HOLDERS_EVERY_S
        reading, _ = read_gpus(run.host, processes=listed)
        newest = reading or newest
        if listed:
            holders_at = now
            known = reading is not None and all(sample.processes is not None for sample in reading.gpus)
            holders = find_holders(run.host.processes, reading) if known else None
            _require_anew(run, watch)
        verdict = watch.observe(now, reading, holders, listed=listed)
        if isinstance(verdict, Released | Stuck):
            return verdict
        run.progress(Step.RELEASE, verdict.detail, verdict.fraction, verdict.levels)
        return None

    limit_s = run.host.settings.release_timeout_s
    began = run.clock.monotonic()
    verdict = run.waiter.until(check, limit_s=limit_s, interval_s=POLL_S)
    waited = run.clock.monotonic() - began
    if isinstance(verdict, Released):
        run.warnings += [f"VRAM not released after {waited:.1f} s: {sentence}" for sentence in verdict.warnings]
        back = [
            (sample.free_bytes or 0) - (before.get(sample.index) or 0)
            for sample in (newest.gpus if newest else ())
            if sample.free_bytes is not None and before.get(sample.index) is not None
        ]
        return f"{format_gib(sum(back))} back" if sum(back) > 0 else "enough is free"
    reading, gpu_error = read_gpus(run.host, processes=True)
    holders_now = find_holders(run.host.processes, reading)
    final = watch.observe(run.clock.monotonic(), reading, None, listed=False)
    if isinstance(verdict, Stuck):
        why = verdict.reason
    else:
        why = gpu_error or (final.detail if not isinstance(final, Released | Stuck) else "")
    held = "; held by " + ", ".join(map(str, holders_now)) if holders_now else "; NVML shows nobody who holds it"
    raise StepFailed(
        SwitchError(
            f"VRAM not released: {why} after {waited:.1f} s{held}",
            holders=holders_now,
            hint="gpumod mode switch blank; if the memory stays away: nvidia-smi, dmesg | grep -i nvrm",
        )
    )


def _require_anew(run: Run, watch: ReleaseWatch) -> None:
    """What kept services may still grow has shrunk by what they have grown since the preflight."""
    coming = [row for row in run.plan.arithmetic if row.need_bytes]
    if not coming:
        return
    ours = {(unit, model) for unit, model, _ in run.plan.promises}
    going = {f"{name}.service" for name in (*run.ending, *run.slept)}
    promised = run.host.admission.still_open()
    for row in coming:
        growth = kept_growth(promised, row.gpu, going, ours)
        now = replace(row, kept_growth_bytes=sum(one.bytes for one in growth), kept_growth=growth)
        watch.require(row.gpu, now.required_bytes, now)


def _goals(run: Run) -> list[Goal]:
    goals = []
    seen = run.survey.units
    ended = [seen[name] for name in run.ending]
    for row in run.plan.arithmetic:
        if row.need_bytes:
            goals.append(Goal(row.gpu, row.required_bytes, row))
            continue
        held = [unit.held[row.gpu] for unit in ended if row.gpu in unit.held]
        held += [
            (seen[name].held[row.gpu] or 0) - (left.get(row.gpu) or 0)
            for name, left in run.slept.items()
            if row.gpu in seen[name].held
        ]
        if held and row.free_bytes is not None:
            known = None if None in held else sum(filter(None, held))
            goals.append(Goal(row.gpu, 0, row, None if known is None else row.free_bytes + known))
    return goals


def _left_over(run: Run) -> list[Goal]:
    """GPUs on which nobody who lives holds what is not free."""
    goals = []
    for sample in run.survey.reading.gpus if run.survey.reading else ():
        alive = [one.used_bytes for one in run.survey.holders if one.gpu == sample.index and not one.is_gone]
        if sample.total_bytes is None or sample.free_bytes is None or sample.processes is None or None in alive:
            continue
        taken = sample.total_bytes - (sample.reserved_bytes or 0) - sample.free_bytes
        if taken - sum(filter(None, alive)) >= STILL_BYTES:
            goals.append(Goal(sample.index, 0))
    return goals
