"""Start what comes, wave by wave, and wait until each answers."""

from collections.abc import Iterable, Sequence

from gpumod_tui.core.admission.decide import Refused
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.events import Step
from gpumod_tui.core.models import Health, Listener, Service
from gpumod_tui.core.observation import stranger_on_port
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.steps.context import POLL_S, Run, StepFailed, ask_again_s
from gpumod_tui.core.switch.steps.sleep import turn_of
from gpumod_tui.core.units.addresses import is_loopback
from gpumod_tui.core.units.guard import GUARD_SOCKET, port_fault, strangers


def start(run: Run) -> str:
    """Every wave is ready before the next one starts. Raises: StepFailed, Cancelled."""
    waited = (name for name in run.plan.keep if name in run.target.brought_up)
    loading = tuple(name for name in waited if not run.survey.units[name].is_ready)
    run.watched += loading
    waves = (loading, *run.plan.start) if loading else run.plan.start
    ready: dict[str, float] = {}
    for name in run.plan.wake:
        run.waiter.checkpoint()
        _wake_one(run, name)
        ready |= _wait_ready(run, (name,))
    for wave in waves:
        for name in wave:
            run.waiter.checkpoint()
            if name not in loading:
                _start_one(run, name)
        ready |= _wait_ready(run, wave)
    return ", ".join(f"{name} ready {seconds:.1f} s" for name, seconds in ready.items()) or "nothing to start"


def _start_one(run: Run, name: str) -> None:
    unit = run.host.registry.service(name).unit
    # Memory is looked at again: waves may lie minutes apart, and others are on the box.
    verdict = run.host.admission.admit(unit, switch=run.lock.record.id)
    if isinstance(verdict, Refused):
        raise StepFailed(
            SwitchError(f"{unit} was refused: {verdict}", unit=unit, holders=verdict.holders), refused=True
        )
    run.touch()
    # Also where it has not failed: this clears the start limit, which counts starts by request too.
    run.host.units.reset_failed(unit)
    run.started.append(name)
    run.watched.append(name)
    run.host.units.start(unit)


def _wake_one(run: Run, name: str) -> None:
    service = run.host.registry.service(name)
    with turn_of(run, service, Step.START, service.startup_timeout_s):
        _wake(run, service)


def _wake(run: Run, service: Service) -> None:
    name = service.id
    invocation = run.survey.units[name].state.invocation_id
    verdict = run.host.admission.admit(service.unit, invocation=invocation, switch=run.lock.record.id)
    if isinstance(verdict, Refused):
        text = f"the wake of {name} was refused: {verdict}"
        raise StepFailed(SwitchError(text, unit=service.unit, holders=verdict.holders), refused=True)
    run.touch()
    run.invocations[name] = invocation
    run.woken[name] = frozenset({verdict.commitment.id})
    run.watched.append(name)

    def meanwhile() -> None:
        run.waiter.beat()
        run.check_alive()
        run.progress(Step.START, f"{name} wakes")

    try:
        run.host.drivers(service).wake(service, meanwhile)
    except ServerError as error:
        raise StepFailed(run.unit_error(service.unit, f"{name} does not wake: {error}")) from error


def _wait_ready(run: Run, names: Iterable[str]) -> dict[str, float]:
    """Seconds by name until each answers. Raises: StepFailed as soon as one of them dies or its time is up."""
    began = run.clock.monotonic()
    services = {name: run.host.registry.service(name) for name in names}
    ready: dict[str, float] = {}
    probed: dict[str, float] = {}
    said: dict[str, str] = {}

    def check() -> bool | None:
        now = run.clock.monotonic()
        elapsed = now - began
        run.check_alive()
        for name, service in services.items():
            if name in ready:
                continue
            if elapsed > service.startup_timeout_s:
                raise StepFailed(_not_ready(run, service, elapsed, said.get(name, "")))
            if now - probed.get(name, float("-inf")) < ask_again_s(elapsed):
                continue
            probed[name] = now
            if _is_ready(run, service, said):
                ready[name] = elapsed
        left = [name for name in services if name not in ready]
        run.progress(Step.START, "waiting for " + ", ".join(f"{name} {said.get(name, '')}".strip() for name in left))
        return None if left else True

    limit_s = max((service.startup_timeout_s for service in services.values()), default=0.0) + 1
    if run.waiter.until(check, limit_s=limit_s, interval_s=POLL_S) is None:
        elapsed = run.clock.monotonic() - began
        raise StepFailed(
            *(_not_ready(run, services[name], elapsed, said.get(name, "")) for name in services if name not in ready)
        )
    return ready


def _is_ready(run: Run, service: Service, said: dict[str, str]) -> bool:
    if service.id not in run.invocations:
        said[service.id] = "starting"
        return False
    if service.port is None:
        return True
    probe = run.host.drivers(service).probe(service)
    said[service.id] = probe.detail or probe.health
    if probe.health is Health.DEAD:
        raise StepFailed(run.unit_error(service.unit, f"{service.unit} says that it is dead: {probe.detail}"))
    if probe.health is not Health.READY:
        return False
    if service.id in run.woken and _sleeps_on(run, service):
        said[service.id] = "asleep"
        return False
    listeners = run.host.processes.listeners(service.port)
    if service.is_guarded:
        # The answer came through its own socket; what is left is that requests to its port end at the guard.
        _check_guard(run, service.port, service, listeners)
        return True
    stranger = stranger_on_port(service, listeners)
    if stranger is not None:
        raise StepFailed(run.unit_error(service.unit, stranger))
    run.warnings += _reachable(service, listeners)
    return True


def _reachable(service: Service, listeners: Sequence[Listener]) -> tuple[str, ...]:
    """A sentence where the service itself listens beyond loopback."""
    own = {address for one in listeners if one.unit == service.unit for address in one.addresses}
    beyond = ", ".join(sorted(address for address in own if not is_loopback(address)))
    where = f"{service.id} listens on {beyond} port {service.port}, where others than this host may reach it"
    return (f"{where}: bind it to 127.0.0.1 in {service.source or 'its preset'}",) if beyond else ()


def _sleeps_on(run: Run, service: Service) -> bool:
    try:
        return run.host.drivers(service).is_sleeping(service) is not False
    except ServerError:
        return True


def _check_guard(run: Run, port: int, service: Service, listeners: Sequence[Listener]) -> None:
    """Raises: StepFailed where the guard does not hold the service's port."""
    others = strangers(listeners)
    if others:
        raise StepFailed(_held(run, service, others))
    if not listeners:
        socket = run.host.units.states((GUARD_SOCKET,))[GUARD_SOCKET]
        reason, hint = port_fault(port, socket, listeners) or (
            f"{GUARD_SOCKET} is not up ({socket.active_state}, {socket.result})",
            f"systemctl --user status {GUARD_SOCKET}",
        )
        raise StepFailed(SwitchError(f"port {port} of {service.id}: {reason}", unit=GUARD_SOCKET, hint=hint))


def _held(run: Run, service: Service, listeners: Sequence[Listener]) -> SwitchError:
    who = ", ".join(map(str, listeners))
    return run.unit_error(service.unit, f"port {service.port} of {service.id} is held by {who}")


def _not_ready(run: Run, service: Service, elapsed: float, said: str) -> SwitchError:
    last = f" (last: {said})" if said else ""
    return run.unit_error(service.unit, f"{service.unit} is not ready after {elapsed:.0f} s{last}")
