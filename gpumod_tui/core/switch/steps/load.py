"""Load the default models of routers and wait until they are in memory."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from gpumod_tui.core.admission.decide import Granted, Refused
from gpumod_tui.core.admission.inventory import model_of
from gpumod_tui.core.catalog.validation import nearest
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.events import Step
from gpumod_tui.core.models import ActiveState, ModelState, ModelStatus, Service
from gpumod_tui.core.servers.llamacpp import NOT_LOADED, full_router
from gpumod_tui.core.status.attribution import find_holders
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.release import Goal, ReleaseWatch
from gpumod_tui.core.switch.steps.context import POLL_S, Run, StepFailed, ask_again_s
from gpumod_tui.core.switch.steps.rollback import rollback, unload_one, wait_released
from gpumod_tui.core.switch.steps.sleep import turn_of
from gpumod_tui.core.units.managed import read_gpus
from gpumod_tui.core.vram.sleep import GRACE_S

RETRY_S: Final = 0.25
TURN_S: Final = 60.0
"""For others who have the router load something; the guard may first unload another model for it."""
UNLOADED_GRACE_S: Final = 2.0
"""How long a router may go on calling a model unloaded after it has accepted the load."""


def load(run: Run) -> str:
    """One after the other. Raises: StepFailed, Cancelled."""
    if not run.target.load_models:
        return "not asked for"
    routers = [
        run.host.registry.service(name)
        for name in run.target.brought_up
        if name in run.plan.starting or run.survey.units[name].wants_load
    ]
    loaded = [
        load_one(run, service, service.default_model)
        for service in routers
        if service.is_router and service.default_model
    ]
    return ", ".join(loaded) or "nothing to load"


def _admit(run: Run, service: Service, model: str) -> Granted | Refused:
    """Refused only once what is short can't be on its way back any more.

    Raises: Cancelled, ServerError, StepFailed where the router holds as many models as it may.
    """
    verdicts: list[Granted | Refused] = []
    driver = run.host.drivers(service)

    def ask() -> bool | None:
        full = full_router(service, driver.models(service), model)
        if full is not None:
            raise StepFailed(SwitchError(full.reason, unit=service.unit, hint=full.hint), refused=True)
        verdict = run.host.admission.admit(service.unit, model, switch=run.lock.record.id)
        verdicts.append(verdict)
        return None if isinstance(verdict, Refused) and verdict.may_pass else True

    run.waiter.until(ask, limit_s=GRACE_S, interval_s=RETRY_S)
    return verdicts[-1]


def load_one(run: Run, service: Service, model: str) -> str:
    """Admit it, ask the router for it, and wait until it is in memory.

    Raises: StepFailed, Cancelled, StateUnavailable.
    """
    driver = run.host.drivers(service)
    run.touch()
    newest: list[ModelState] = []

    def hear(state: ModelState) -> None:
        if state.id == model:
            newest.append(state)
            run.waiter.wake.set()

    def meanwhile() -> None:
        run.waiter.beat()
        run.check_alive()

    follower = driver.follow_models(service, hear)
    try:
        # From counting its models to the load's answer nobody else has it load anything: one model too many, and it
        # would end an idle one unasked.
        with turn_of(run, service, Step.LOAD, TURN_S):
            verdict = _admit(run, service, model)
            if isinstance(verdict, Refused):
                error = SwitchError(str(verdict), unit=service.unit, holders=verdict.holders)
                raise StepFailed(error, refused=True)
            if service.id not in run.watched:
                run.watched.append(service.id)
            run.check_alive()
            run.loaded.append((service, model))
            driver.load(service, model, meanwhile)
        began = run.clock.monotonic()
        asked = float("-inf")

        def check() -> bool | None:
            nonlocal asked
            now = run.clock.monotonic()
            run.check_alive()
            heard = newest[-1] if newest else None
            fresh = heard is not None and heard.status not in (ModelStatus.LOADING, ModelStatus.UNKNOWN)
            if not fresh and now - asked < ask_again_s(now - began):
                return None
            asked = now
            newest.clear()
            state = next((one for one in driver.models(service) if one.id == model), None)
            fraction = heard.progress if heard else None
            stage = heard.stage if heard and heard.stage else ""
            run.progress(Step.LOAD, f"{model} {stage}".strip(), fraction)
            if state is None:
                raise StepFailed(run.unit_error(service.unit, f"{service.id} has no model {model} any more"))
            if state.status is ModelStatus.LOADED:
                return True
            if state.status is ModelStatus.UNLOADED and (state.exit_code or now - began > UNLOADED_GRACE_S):
                run.host.admission.withdraw(verdict.commitment)
                code = "" if state.exit_code is None else f" (exit code {state.exit_code})"
                raise StepFailed(run.unit_error(service.unit, f"{model} failed to load in {service.id}{code}"))
            return None

        if run.waiter.until(check, limit_s=service.startup_timeout_s, interval_s=POLL_S) is None:
            waited = run.clock.monotonic() - began
            raise StepFailed(
                run.unit_error(service.unit, f"{model} is not loaded in {service.id} after {waited:.0f} s")
            )
    except ServerError as error:
        raise StepFailed(
            replace(run.unit_error(service.unit, f"{model} was not loaded: {error}"), hint=error.hint)
        ) from error
    finally:
        follower.close()
    return f"{model} loaded"


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
