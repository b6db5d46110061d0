"""One model of a running router, loaded or unloaded on request."""

from collections.abc import Callable, Mapping
from functools import partial

from gpumod_tui.core.attribution import find_holders
from gpumod_tui.core.box import read_gpus
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.events import Step
from gpumod_tui.core.look import model_of
from gpumod_tui.core.models import ActiveState, ModelState, ModelStatus, Service
from gpumod_tui.core.records import SwitchError
from gpumod_tui.core.release import Goal, ReleaseWatch
from gpumod_tui.core.router_limit import NOT_LOADED
from gpumod_tui.core.steps.load import load_one
from gpumod_tui.core.steps.rollback import rollback, unload_one, wait_released
from gpumod_tui.core.steps.run import Run, StepFailed
from gpumod_tui.core.validation import nearest


def load_work(service: Service, model: str) -> Mapping[Step, Callable[[Run], str]]:
    """The steps from LOAD on."""
    return {
        Step.LOAD: partial(_load, service=service, model=model),
        Step.VERIFY: partial(_verify, service=service, model=model),
        Step.ROLLBACK: rollback,
    }


def unload_work(service: Service, model: str) -> Mapping[Step, Callable[[Run], str]]:
    """The one step UNLOAD."""
    return {Step.UNLOAD: partial(_unload, service=service, model=model)}


def _load(run: Run, *, service: Service, model: str) -> str:
    models = _models(run, service)
    state = _find(service, models, model)
    if state.status is ModelStatus.LOADED:
        return f"{model} is loaded already"
    if state.status is ModelStatus.SLEEPING:
        _refuse(f"{model} is asleep in {service.id}: the next request wakes it", "ask it something")
    run.watched.append(service.id)
    return load_one(run, service, model)


def _verify(run: Run, *, service: Service, model: str) -> str:
    if _find(service, _models(run, service), model).status is not ModelStatus.LOADED:
        raise StepFailed(run.unit_error(service.unit, f"{model} is not loaded any more in {service.id}"))
    return f"{service.id} has {model} loaded"


def _unload(run: Run, *, service: Service, model: str) -> str:
    if _find(service, _models(run, service), model).status in NOT_LOADED:
        return f"{model} is not loaded"
    run.touch()
    watch = _release_watch(run, service, model)
    unload_one(run, service, model, cancellable=True)
    if watch is not None:
        wait_released(run, watch, f"the unload of {model}")
    return f"{model} unloaded"


def _release_watch(run: Run, service: Service, model: str) -> ReleaseWatch | None:
    """Until what the model's process holds is free; None: it holds nothing, or NVML cannot be read."""
    reading, _ = read_gpus(run.host, processes=True)
    processes = run.host.processes
    cgroup = run.host.units.states([service.unit])[service.unit].control_group
    pids = frozenset(pid for pid in processes.in_cgroup(cgroup) if model_of(processes.arguments(pid)) == model)
    holders = [holder for holder in find_holders(processes, reading) if holder.pid in pids]
    goals = []
    for sample in reading.gpus if reading else ():
        held = [holder.used_bytes for holder in holders if holder.gpu == sample.index]
        if not held or sample.free_bytes is None:
            continue
        known = None if None in held else sample.free_bytes + sum(filter(None, held))
        goals.append(Goal(sample.index, 0, None, known))
    return ReleaseWatch(goals, frozenset(), pids, run.clock.monotonic()) if goals else None


def _models(run: Run, service: Service) -> tuple[ModelState, ...]:
    """Raises: StepFailed when the router cannot be asked."""
    if not service.is_router:
        _refuse(f"{service.id} serves the one model it was started with", "change its preset, and restart it")
    if run.host.units.states([service.unit])[service.unit].active_state is not ActiveState.ACTIVE:
        _refuse(f"{service.id} does not run", f"gpumod service start {service.id}")
    try:
        return run.host.drivers(service).models(service)
    except ServerError as error:
        raise StepFailed(
            SwitchError(f"{service.id} cannot be asked: {error}", unit=service.unit, hint=error.hint), refused=True
        ) from error


def _find(service: Service, models: tuple[ModelState, ...], model: str) -> ModelState:
    found = next((one for one in models if one.id == model), None)
    if found is None:
        _refuse(f"{service.id} has no model {model!r}", nearest(model, [one.id for one in models]))
    assert found is not None
    return found


def _refuse(message: str, hint: str) -> None:
    raise StepFailed(SwitchError(message, hint=hint), refused=True)
