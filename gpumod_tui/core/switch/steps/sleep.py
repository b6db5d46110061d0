"""Put a server to sleep and prove that its memory came back: its own word is no proof."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.events import Step
from gpumod_tui.core.models import Service
from gpumod_tui.core.ports import Closeable
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.steps.context import Run, StepFailed
from gpumod_tui.core.text import format_mib
from gpumod_tui.core.units.guard import GUARD_SERVICE
from gpumod_tui.core.vram.sleep import GRACE_S, has_given_back, held_now
from gpumod_tui.core.waiting import Cancelled, TimeUp

LOOK_S: Final = 0.1
"""Between two process lists: each takes a driver-wide lock in NVML for milliseconds."""


@contextmanager
def turn_of(run: Run, service: Service, step: Step, limit_s: float, *, cancellable: bool = True) -> Iterator[None]:
    """Nobody else puts it to sleep, wakes it or has it load a model meanwhile.

    Raises: StepFailed, Cancelled, TimeUp, StateUnavailable.
    """
    doing = "has it load a model" if service.is_router else "puts it to sleep or wakes it"
    busy = f"{service.id}: another process {doing}"

    def ask() -> Closeable | None:
        turn = run.host.admission.try_turn(service.unit)
        if turn is None:
            run.progress(step, busy)
        return turn

    turn = run.waiter.until(ask, limit_s=limit_s, interval_s=LOOK_S, cancellable=cancellable)
    if turn is None:
        error = SwitchError(busy, unit=service.unit, hint=f"systemctl --user status {GUARD_SERVICE}")
        raise StepFailed(error)
    try:
        yield
    finally:
        turn.close()


def put_to_sleep(
    run: Run, name: str, leaves: Mapping[int, int], step: Step, *, woken_as: frozenset[str] | None = None
) -> str:
    """Why it has to be stopped instead; empty: it sleeps, holds no more than `leaves`, and is promised no more.

    `woken_as`: ids of the promises under which this switch woke it; then it cannot be cancelled. Cut off before its
    memory is measured, it may sleep and stays promised its whole need. A wake that is still on its way from somebody
    who died is done before it sleeps: a server takes its orders in their order. Raises: Cancelled, TimeUp; StepFailed
    where sleep is all that was wanted.
    """
    service = run.host.registry.service(name)
    if service.is_router:
        return _put_to_sleep(run, service, leaves, step, woken_as)
    try:
        with turn_of(run, service, step, service.stop_timeout_s, cancellable=woken_as is None):
            return _put_to_sleep(run, service, leaves, step, woken_as)
    except StepFailed as error:
        if name in run.target.sleep:
            raise
        return str(error)


def _put_to_sleep(
    run: Run, service: Service, leaves: Mapping[int, int], step: Step, woken_as: frozenset[str] | None
) -> str:
    name = service.id
    driver = run.host.drivers(service)
    held: Mapping[int, int | None] | None = None

    def meanwhile() -> None:
        if woken_as is None:
            run.waiter.beat()
        run.progress(step, f"{name} falls asleep")

    def check() -> bool | None:
        nonlocal held
        held = held_now(run.host, service.unit)
        run.progress(step, f"{name} falls asleep")
        return True if held is not None and has_given_back(held, leaves) else None

    try:
        known = run.host.admission.promises_of(service.unit) if woken_as is None else woken_as
        driver.sleep(service, meanwhile)
        # A router's word comes when its models begin to end.
        limit_s = GRACE_S + (service.stop_timeout_s if service.is_router else 0.0)
        if run.waiter.until(check, limit_s=limit_s, interval_s=LOOK_S, cancellable=woken_as is None) is None:
            holds = ", ".join(f"{format_mib(amount)} on GPU {gpu}" for gpu, amount in (held or {}).items())
            return f"its memory did not come back within {limit_s:.0f} s, it holds {holds or 'an unknown amount'}"
        if not driver.is_sleeping(service):
            return "it says that it sleeps, and does not"
    except ServerError as error:
        return str(error)
    except (Cancelled, TimeUp):
        run.warnings.append(f"{name} may have fallen asleep; it stays promised its whole need")
        raise
    if not service.is_router and not run.host.admission.shrink(service.unit, known, leaves):
        return "what it was promised could not be taken back: it is about to wake, or NVML does not tell what it holds"
    if woken_as is None:
        run.slept[name] = held or {}
    return ""
