"""Every way that a switch can take."""

from itertools import product

import pytest

from gpumod_tui.core.events import Step
from gpumod_tui.core.switch.lifecycle import TRANSITIONS, IllegalTransition, Signal, following
from gpumod_tui.core.switch.results import EXIT_CODES, Outcome

FORWARD = (Step.PREFLIGHT, Step.STOP, Step.RELEASE, Step.START, Step.LOAD, Step.VERIFY)


def walk(stop_at: Step | None, signal: Signal) -> tuple[list[Step], Outcome]:
    """The steps of a switch in which all passes but `stop_at`, and its outcome."""
    step: Step | Outcome = Step.PREFLIGHT
    taken: list[Step] = []
    why = Signal.PASSED
    while isinstance(step, Step):
        taken.append(step)
        if step is stop_at:
            why = signal
        step = following(step, why)
    return taken, step


def test_a_switch_in_which_all_passes_is_done() -> None:
    assert walk(None, Signal.PASSED) == (list(FORWARD), Outcome.DONE)


@pytest.mark.parametrize("step", FORWARD)
def test_only_a_switch_in_which_all_passed_is_done(step: Step) -> None:
    assert walk(step, Signal.FAULT)[1] in (Outcome.FAILED, Outcome.REFUSED)
    assert walk(step, Signal.CANCEL)[1] is Outcome.CANCELLED


@pytest.mark.parametrize(("step", "signal"), list(product(FORWARD, (Signal.FAULT, Signal.CANCEL))))
def test_from_the_start_on_what_was_started_is_undone_and_before_nothing_is(step: Step, signal: Signal) -> None:
    begun = list(FORWARD[: FORWARD.index(step) + 1])
    undone = [Step.ROLLBACK] if step in (Step.START, Step.LOAD, Step.VERIFY) else []
    assert walk(step, signal)[0] == begun + undone


def test_refused_is_said_by_the_preflight_or_after_all_was_undone() -> None:
    said = {pair for pair, to in TRANSITIONS.items() if to is Outcome.REFUSED}
    assert said == {(Step.PREFLIGHT, Signal.FAULT), (Step.ROLLBACK, Signal.REFUSED), (Step.UNLOAD, Signal.REFUSED)}
    for step in (Step.START, Step.LOAD, Step.VERIFY):
        assert walk(step, Signal.REFUSED) == ([*FORWARD[: FORWARD.index(step) + 1], Step.ROLLBACK], Outcome.REFUSED)


def test_what_no_switch_does_raises() -> None:
    illegal = [pair for pair in product(Step, Signal) if pair not in TRANSITIONS]
    assert (Step.ROLLBACK, Signal.PASSED) in illegal
    for step, signal in illegal:
        with pytest.raises(IllegalTransition, match=f"{step} {signal}"):
            following(step, signal)


def test_each_outcome_has_an_exit_code_of_its_own() -> None:
    assert set(EXIT_CODES) == set(Outcome)
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert [outcome for outcome, code in EXIT_CODES.items() if code == 0] == [Outcome.DONE]
