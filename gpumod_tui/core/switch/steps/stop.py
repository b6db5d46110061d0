"""Stop what goes and prove that it is gone: an empty cgroup, not a returned stop job."""

import signal
from collections.abc import Iterable
from typing import Final

from gpumod_tui.core.errors import UnitRefused
from gpumod_tui.core.events import Step
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.steps.context import POLL_S, Run, StepFailed
from gpumod_tui.core.switch.steps.sleep import put_to_sleep
from gpumod_tui.core.units.managed import service_id

KILL_WAIT_S: Final = 10.0
"""How long a process may take to die of SIGKILL: longer only in uninterruptible sleep."""
DEFAULT_STOP_TIMEOUT_S: Final = 30.0


def stop(run: Run) -> str:
    """In parallel. Raises: StepFailed, Cancelled."""
    seen = run.survey.units
    done = []
    for name in run.plan.sleep:
        run.waiter.checkpoint()
        run.touch()
        why = put_to_sleep(run, name, run.plan.leaves[name], Step.STOP)
        if why:
            run.warnings.append(f"{name} is stopped rather than put to sleep: {why}")
            run.unslept.append(name)
        else:
            done.append(f"{name} asleep")
    names = [name for name in run.ending if not seen[name].is_down]
    if names:
        run.touch()
        seconds = stop_all(run, names, Step.STOP, cancellable=True)
        done += [f"{name} {seconds[name]:.1f} s, cgroup empty" for name in names]
    return ", ".join(done) or "nothing to stop"


def stop_all(run: Run, names: Iterable[str], step: Step, *, cancellable: bool) -> dict[str, float]:
    """Stop units in parallel and prove each cgroup empty; SIGKILL where the time is up. Seconds by name.

    One that systemd does not stop keeps no other from being stopped. Raises: StepFailed, Cancelled, SystemdUnavailable.
    """
    units = run.host.units
    began = run.clock.monotonic()
    cgroups: dict[str, str] = {}
    states = units.states([f"{name}.service" for name in names])
    refused: list[SwitchError] = []
    for unit, state in states.items():
        try:
            units.stop(unit)
        except UnitRefused as error:
            refused.append(SwitchError(f"{unit} was not stopped: {error}", unit=unit, hint=error.hint))
        else:
            cgroups[unit] = state.control_group
    killed: set[str] = set()
    done: dict[str, float] = {}

    def check() -> bool | None:
        elapsed = run.clock.monotonic() - began
        open_units = [unit for unit in cgroups if service_id(unit) not in done]
        for unit, state in units.states(open_units).items():
            cgroups[unit] = state.control_group or cgroups[unit]
            pids = run.host.processes.in_cgroup(cgroups[unit])
            if state.is_down and not pids:
                done[service_id(unit)] = elapsed
                if step is Step.STOP:
                    run.stopped.append(service_id(unit))
            elif elapsed > _stop_timeout(run, unit) and unit not in killed:
                killed.add(unit)
                run.warnings.append(f"{unit} did not stop in {elapsed:.0f} s and was killed")
                units.kill(unit, signal.SIGKILL)
        left = [unit for unit in cgroups if service_id(unit) not in done]
        if left:
            run.progress(step, f"waiting for {', '.join(left)}", len(done) / len(cgroups))
        return None if left else True

    limit_s = max((_stop_timeout(run, unit) for unit in cgroups), default=0.0) + KILL_WAIT_S
    if run.waiter.until(check, limit_s=limit_s, interval_s=POLL_S, cancellable=cancellable) is None:
        refused += [_not_stopped(run, unit, cgroups[unit]) for unit in cgroups if service_id(unit) not in done]
    if refused:
        raise StepFailed(*refused)
    return done


def _stop_timeout(run: Run, unit: str) -> float:
    service = run.host.registry.services.get(service_id(unit))
    return service.stop_timeout_s if service else DEFAULT_STOP_TIMEOUT_S


def _not_stopped(run: Run, unit: str, cgroup: str) -> SwitchError:
    pids = run.host.processes.in_cgroup(cgroup)
    about = [info for info in map(run.host.processes.describe, pids) if info]
    who = ", ".join(f"{info.command} pid {info.pid} (state {info.state})" for info in about) or "no process seen"
    return SwitchError(
        f"{unit} could not be stopped, not even by SIGKILL: {who}",
        unit=unit,
        journal=run.journal(unit),
        hint="a process in state D waits in the kernel: see dmesg; then gpumod mode switch blank",
    )
