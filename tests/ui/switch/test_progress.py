"""A switch as its events tell it."""

import pytest

from gpumod_tui.core.events import Planned, Step, StepEnded, StepProgress, StepStarted, SwitchEnded, SwitchStarted
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.common.format import in_gib
from gpumod_tui.ui.switch.progress import Progress, StepState, fold, title
from tests.ui.played import plan_for


def states(progress: Progress) -> dict[Step, StepState]:
    return {line.step: line.state for line in progress.steps if line.state is not StepState.WAITING}


def test_steps_follow_their_events() -> None:
    progress = fold(None, SwitchStarted("nemotron", 10.0), 11.0)
    assert (progress.at, progress.running, states(progress)) == (10.0, True, {})
    progress = fold(progress, Planned(plan_for()), 11.0)
    assert progress.services == {"glm-code", "nemotron-3-nano"}
    progress = fold(progress, StepStarted(Step.LOAD, "loading"), 11.0)
    progress = fold(progress, StepProgress(Step.LOAD, "text_model", 0.5), 11.0)
    assert progress.steps[4].fraction == 0.5
    progress = fold(progress, StepEnded(Step.LOAD, True, "loaded", 3.0), 14.0)
    assert states(progress) == {Step.LOAD: StepState.DONE}
    progress = fold(progress, SwitchEnded(ModeResult(True, "nemotron")), 14.0)
    assert not progress.running
    assert not progress.failed


def test_a_rollback_is_a_step_of_its_own() -> None:
    progress = fold(None, SwitchStarted("code", 0.0), 0.0)
    progress = fold(progress, StepEnded(Step.START, False, "died", 1.0), 1.0)
    progress = fold(progress, StepEnded(Step.ROLLBACK, True, "stopped again", 0.4), 1.4)
    assert states(progress) == {Step.START: StepState.FAILED, Step.ROLLBACK: StepState.DONE}


def test_a_refusal_that_never_began_does_not_take_over_the_steps_of_another() -> None:
    done = fold(fold(None, SwitchStarted("code", 0.0), 0.0), SwitchEnded(ModeResult(True, "code")), 5.0)
    busy = fold(done, SwitchEnded(ModeResult(False, "rag", outcome=Outcome.BUSY)), 9.0)
    assert (busy.target, busy.failed, states(busy)) == ("rag", True, {})


@pytest.mark.parametrize(
    ("target", "outcome", "words"),
    [
        ("code", Outcome.DONE, "reached"),
        ("blank", Outcome.DONE, "reached"),
        ("service stop glm-code", Outcome.DONE, "stopped"),
        ("service start glm-code", Outcome.DONE, "started"),
        ("service load glm-code GLM", Outcome.DONE, "loaded"),
        ("service unload glm-code GLM", Outcome.DONE, "unloaded"),
        ("service sleep vllm-embedding", Outcome.DONE, "asleep"),
        ("service stop glm-code", Outcome.FAILED, "failed"),
        ("code", Outcome.CANCELLED, "cancelled"),
        ("cod", Outcome.UNKNOWN_TARGET, "there is none of that name"),
    ],
)
def test_an_end_says_what_is_true_of_its_target(target: str, outcome: Outcome, words: str) -> None:
    ended = fold(None, SwitchEnded(ModeResult(outcome is Outcome.DONE, target, outcome=outcome)), 0.0)
    assert ended.end_words == words


def test_titles() -> None:
    assert title("code") == "Switch to code"
    assert title("service restart glm-code") == "Restart glm-code"


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("needs 23552 MiB + margin 512 MiB, short by 12 MiB", "needs 23.0 GiB + margin 0.5 GiB, short by 12 MiB"),
        ("vram_mb: 23552, MiB, 100 MiBs", "vram_mb: 23552, MiB, 100 MiBs"),
        ("100 MiB", "0.1 GiB"),
    ],
)
def test_amounts_in_sentences_are_shown_in_gib(sentence: str, shown: str) -> None:
    assert in_gib(sentence) == shown
