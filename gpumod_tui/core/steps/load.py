"""Load the default models of routers and wait until they are in memory."""

from dataclasses import replace
from typing import Final

from gpumod_tui.core.admission import Granted, Refused
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.events import Step
from gpumod_tui.core.models import ModelState, ModelStatus, Service
from gpumod_tui.core.records import SwitchError
from gpumod_tui.core.router_limit import full_router
from gpumod_tui.core.steps.asleep import turn_of
from gpumod_tui.core.steps.run import POLL_S, Run, StepFailed, ask_again_s
from gpumod_tui.core.stillness import GRACE_S

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
        verdict = run.host.door.admit(service.unit, model, switch=run.lock.record.id)
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
                run.host.door.withdraw(verdict.commitment)
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
