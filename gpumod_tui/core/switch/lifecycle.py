"""The states of a switch and every way from one to the next."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.events import Step
from gpumod_tui.core.switch.results import Outcome


class Signal(StrEnum):
    """What ends a step."""

    PASSED = "passed"
    FAULT = "fault"
    REFUSED = "refused"
    """Admission was refused after the preflight had passed, and nothing else was touched."""
    CANCEL = "cancel"


class IllegalTransition(RuntimeError):
    """The manager did something that no switch does: a bug, never an outcome."""


TRANSITIONS: Final[Mapping[tuple[Step, Signal], Step | Outcome]] = MappingProxyType(
    {
        (Step.PREFLIGHT, Signal.PASSED): Step.STOP,
        (Step.PREFLIGHT, Signal.FAULT): Outcome.REFUSED,
        (Step.PREFLIGHT, Signal.CANCEL): Outcome.CANCELLED,
        (Step.STOP, Signal.PASSED): Step.RELEASE,
        (Step.STOP, Signal.FAULT): Outcome.FAILED,
        (Step.STOP, Signal.CANCEL): Outcome.CANCELLED,
        (Step.RELEASE, Signal.PASSED): Step.START,
        (Step.RELEASE, Signal.FAULT): Outcome.FAILED,
        (Step.RELEASE, Signal.CANCEL): Outcome.CANCELLED,
        (Step.START, Signal.PASSED): Step.LOAD,
        (Step.START, Signal.FAULT): Step.ROLLBACK,
        (Step.START, Signal.REFUSED): Step.ROLLBACK,
        (Step.START, Signal.CANCEL): Step.ROLLBACK,
        (Step.LOAD, Signal.PASSED): Step.VERIFY,
        (Step.LOAD, Signal.FAULT): Step.ROLLBACK,
        (Step.LOAD, Signal.REFUSED): Step.ROLLBACK,
        (Step.LOAD, Signal.CANCEL): Step.ROLLBACK,
        (Step.UNLOAD, Signal.PASSED): Outcome.DONE,
        (Step.UNLOAD, Signal.FAULT): Outcome.FAILED,
        (Step.UNLOAD, Signal.REFUSED): Outcome.REFUSED,
        (Step.UNLOAD, Signal.CANCEL): Outcome.CANCELLED,
        (Step.VERIFY, Signal.PASSED): Outcome.DONE,
        (Step.VERIFY, Signal.FAULT): Step.ROLLBACK,
        (Step.VERIFY, Signal.REFUSED): Step.ROLLBACK,
        (Step.VERIFY, Signal.CANCEL): Step.ROLLBACK,
        (Step.ROLLBACK, Signal.FAULT): Outcome.FAILED,
        (Step.ROLLBACK, Signal.REFUSED): Outcome.REFUSED,
        (Step.ROLLBACK, Signal.CANCEL): Outcome.CANCELLED,
    }
)


def following(step: Step, signal: Signal) -> Step | Outcome:
    """What comes after a step. ROLLBACK is left with the signal that led into it. Raises: IllegalTransition."""
    try:
        return TRANSITIONS[step, signal]
    except KeyError:
        raise IllegalTransition(f"{step} {signal}") from None
