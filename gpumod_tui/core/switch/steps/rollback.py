"""After a failure or a cancellation: what this switch started or loaded goes again, what it had kept stays."""

from collections.abc import Callable
from functools import partial
from typing import Final

from gpumod_tui.core.errors import GpumodError, ServerError
from gpumod_tui.core.events import Step
from gpumod_tui.core.models import GpuReading, Service
from gpumod_tui.core.servers.llamacpp import NOT_LOADED
from gpumod_tui.core.status.attribution import find_holders, held_by
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.release import Goal, Released, ReleaseWatch, Stuck
from gpumod_tui.core.switch.steps.context import POLL_S, Run, StepFailed
from gpumod_tui.core.switch.steps.release import HOLDERS_EVERY_S
from gpumod_tui.core.switch.steps.sleep import put_to_sleep
from gpumod_tui.core.switch.steps.stop import stop_all
from gpumod_tui.core.units.managed import read_gpus

UNLOAD_S: Final = 30.0
"""How long a router may take to drop a model; it takes a second where nothing hangs."""
UNLOAD_LOOK_S: Final = 0.05
RELEASE_S: Final = 8.0
"""A blank that asked this switch to cancel has patience for 15 s, the stop included."""


def rollback(run: Run) -> str:
    """It cannot be cancelled, and its waits have limits of their own; one thing that stays up keeps no other from being
    stopped. Raises: StepFailed."""
    names = list(run.started)
    elsewhere = [(service, model) for service, model in run.loaded if service.id not in names]
    if not names and not elsewhere and not run.woken:
        return "nothing was started"
    again = _back_to_sleep(run)
    names += [name for name in run.woken if name not in again]
    before, _ = read_gpus(run.host, processes=True)
    watch = _watch(run, before, names, elsewhere)
    left: list[SwitchError] = []
    if names:
        left += _failed(lambda: stop_all(run, names, Step.ROLLBACK, cancellable=False))
    for service, model in elsewhere:
        left += _failed(partial(_unload_again, run, service, model))
    if left:
        raise StepFailed(*left)
    run.started.clear()
    run.woken.clear()
    if watch is not None:
        wait_released(run, watch, "the rollback")
    done = [f"asleep again: {', '.join(again)}"] if again else []
    done += [f"stopped again: {', '.join(names)}"] if names else []
    done += [f"unloaded again: {', '.join(model for _, model in elsewhere)}"] if elsewhere else []
    return "; ".join(done)


def _failed(work: Callable[[], object]) -> tuple[SwitchError, ...]:
    """What did not go; none: all did."""
    try:
        work()
    except StepFailed as failure:
        return failure.errors
    except GpumodError as error:
        return (SwitchError(str(error), hint=error.hint),)
    return ()


def _back_to_sleep(run: Run) -> list[str]:
    """Those that this switch woke; one that does not sleep again is to be stopped."""
    again = []
    for name, known in run.woken.items():
        held = run.survey.units[name].held
        leaves = {gpu: amount or 0 for gpu, amount in held.items()}
        try:
            why = put_to_sleep(run, name, leaves, Step.ROLLBACK, woken_as=known)
        except GpumodError as error:
            why = str(error)
        if why:
            run.warnings.append(f"{name} is stopped rather than put to sleep again: {why}")
        else:
            again.append(name)
    return again


def _unload_again(run: Run, service: Service, model: str) -> None:
    """A router that has ended meanwhile, or began anew, has the model no more. Raises: StepFailed, GpumodError."""
    try:
        unload_one(run, service, model, cancellable=False)
    except StepFailed:
        state = run.host.units.states((service.unit,))[service.unit]
        before = run.invocations.get(service.id, state.invocation_id)
        if not state.is_down and state.invocation_id == before:
            raise


def unload_one(run: Run, service: Service, model: str, *, cancellable: bool) -> None:
    """Ask the router to drop it, and wait until it has. Raises: StepFailed, Cancelled."""
    driver = run.host.drivers(service)

    def check() -> bool | None:
        state = next((one for one in driver.models(service) if one.id == model), None)
        return True if state is None or state.status in NOT_LOADED else None

    try:
        if check() is None:
            driver.unload(service, model)
        gone = run.waiter.until(check, limit_s=UNLOAD_S, interval_s=UNLOAD_LOOK_S, cancellable=cancellable)
    except ServerError as error:
        raise StepFailed(SwitchError(f"{model} could not be unloaded from {service.id}: {error}")) from error
    if gone is None:
        raise StepFailed(SwitchError(f"{model} is not unloaded from {service.id} after {UNLOAD_S:g} s"))


def _watch(
    run: Run, reading: GpuReading | None, names: list[str], elsewhere: list[tuple[Service, str]]
) -> ReleaseWatch | None:
    """Until what goes is back, so that the next switch does not find it missing; None: it holds nothing."""
    units = {f"{name}.service" for name in names} | {service.unit for service, _ in elsewhere}
    holders = [holder for holder in find_holders(run.host.processes, reading) if holder.unit in units]
    goals = []
    for sample in reading.gpus if reading else ():
        held = [held_by(unit, holders).get(sample.index, 0) for unit in units]
        if not any(amount is None or amount for amount in held) or sample.free_bytes is None:
            continue
        known = None if None in held or elsewhere else sample.free_bytes + sum(filter(None, held))
        goals.append(Goal(sample.index, 0, None, known))
    if not goals:
        return None
    stopping = frozenset(f"{name}.service" for name in names)
    pids = frozenset(holder.pid for holder in holders if holder.unit in stopping)
    return ReleaseWatch(goals, stopping, pids, run.clock.monotonic())


def wait_released(run: Run, watch: ReleaseWatch, after: str) -> None:
    """It cannot be cancelled. What does not come back within `RELEASE_S` is a warning."""
    listed_at = float("-inf")

    def check() -> bool | None:
        nonlocal listed_at
        now = run.clock.monotonic()
        listed = now - listed_at >= HOLDERS_EVERY_S
        reading, error = read_gpus(run.host, processes=listed)
        if error is not None:
            return True
        listed_at = now if listed else listed_at
        verdict = watch.observe(
            now, reading, find_holders(run.host.processes, reading) if listed else None, listed=listed
        )
        if isinstance(verdict, Released | Stuck):
            return True
        step = Step(run.steps[-1].step)
        run.progress(step, "waiting for the memory of what was stopped", verdict.fraction, verdict.levels)
        return None

    limit_s = min(RELEASE_S, run.host.settings.release_timeout_s)
    if run.waiter.until(check, limit_s=limit_s, interval_s=POLL_S, cancellable=False) is None:
        run.warnings.append(f"VRAM not released {limit_s:g} s after {after}")
