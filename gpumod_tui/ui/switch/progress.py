"""A switch as its events tell it; pure."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from gpumod_tui.core.events import (
    Planned,
    Step,
    StepEnded,
    StepProgress,
    StepStarted,
    SwitchEnded,
    SwitchEvent,
    SwitchSeen,
    SwitchStarted,
)
from gpumod_tui.core.switch.records import Level, Moment, StepRecord, SwitchError, SwitchRecord
from gpumod_tui.core.switch.results import ModeResult, Outcome, SwitchPlan, outcome_of

USUAL_STEPS: Final = (Step.PREFLIGHT, Step.STOP, Step.RELEASE, Step.START, Step.LOAD, Step.VERIFY)


class StepState(StrEnum):
    """Where a step is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepLine:
    """One step on screen."""

    step: Step
    state: StepState = StepState.WAITING
    detail: str = ""
    fraction: float | None = None
    """0..1; None: not known."""
    seconds: float | None = None
    """How long it took; None: it has not ended."""
    at: float | None = None
    """Unix time it began, seconds; None: it has not begun, or nobody saw it."""
    levels: tuple[Level, ...] = ()
    """In the release wait."""


_STEPS: Final = frozenset(Step)
_NOTHING_DONE: Final = tuple(StepLine(step) for step in USUAL_STEPS)
_SHORTER: Final = {
    "service load": (StepLine(Step.LOAD), StepLine(Step.VERIFY)),
    "service unload": (StepLine(Step.UNLOAD),),
}
"""Steps of what is less than a switch."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One switch from its beginning to what is known now."""

    target: str
    at: float
    """Unix time it began, seconds."""
    steps: tuple[StepLine, ...] = _NOTHING_DONE
    plan: SwitchPlan | None = None
    result: ModeResult | None = None
    """None: it still runs."""
    cancelling: bool = False
    waiting: str = ""
    """Target of what comes when this has ended; empty: nothing."""
    elsewhere: SwitchRecord | None = None
    """The record of a switch of another process; None: it is this one's."""

    @property
    def title(self) -> str:
        """`Switch to code`, `Start glm-code`."""
        return title(self.target)

    @property
    def then(self) -> str:
        """What waits, in words: `code`, `start glm-code`; empty: nothing."""
        words = title(self.waiting) if self.waiting else ""
        return words.removeprefix("Switch to ") if words.startswith("Switch to ") else words[:1].lower() + words[1:]

    @property
    def running(self) -> bool:
        """It has not ended."""
        return self.result is None

    @property
    def end_words(self) -> str:
        """How it ended; empty: it runs."""
        return end_words(self.target, self.result.outcome) if self.result is not None else ""

    @property
    def failed(self) -> bool:
        """It ended, and not well."""
        return self.result is not None and self.result.outcome is not Outcome.DONE

    @property
    def step_words(self) -> str:
        """The step that runs, and how far it is: `load 71 %`; empty: none runs."""
        line = next((line for line in reversed(self.steps) if line.state is StepState.RUNNING), None)
        if line is None:
            return ""
        return line.step if line.fraction is None else f"{line.step} {line.fraction * 100:.0f} %"

    @property
    def services(self) -> frozenset[str]:
        """Ids of what it touches."""
        if self.elsewhere is not None:
            touched = (*self.elsewhere.stopping, *self.elsewhere.starting, *self.elsewhere.loading)
            return frozenset(unit.removesuffix(".service") for unit in touched)
        if self.plan is None:
            return frozenset()
        loading = (service for service, _, _ in self.plan.loads)
        return frozenset((*self.plan.stop, *self.plan.sleep, *self.plan.wake, *self.plan.starting, *loading))

    @property
    def stopped(self) -> tuple[str, ...]:
        """Ids of what it has stopped or put to sleep, or is about to; empty: nothing was touched yet."""
        begun = any(line.step is Step.STOP and line.state is not StepState.WAITING for line in self.steps)
        if self.plan is None or not begun:
            return ()
        return (*self.plan.stop, *self.plan.restart, *self.plan.sleep)

    @property
    def seconds(self) -> float:
        """How long it took, once it has ended."""
        return sum(self.result.timings.values()) if self.result is not None else 0.0


def title(target: str) -> str:
    """What a switch is called; targets that are no modes read `service start NAME`."""
    _, verb, name, model = [*target.split(" ", 3), "", "", ""][:4]
    if model:
        return f"{verb.capitalize()} {model} ({name})"
    return f"{verb.capitalize()} {name}" if target.startswith("service ") else f"Switch to {target}"


_DONE: Final = {
    "start": "started",
    "stop": "stopped",
    "restart": "restarted",
    "sleep": "asleep",
    "wake": "awake",
    "load": "loaded",
    "unload": "unloaded",
}
_BAD_ENDS: Final = {
    Outcome.FAILED: "failed",
    Outcome.REFUSED: "refused, nothing was touched",
    Outcome.BUSY: "another switch is running, nothing was touched",
    Outcome.CANCELLED: "cancelled",
    Outcome.UNKNOWN_TARGET: "there is none of that name",
}


def end_words(target: str, outcome: Outcome) -> str:
    """What stands behind the title: a mode is reached, a service stopped."""
    verb = target.split(" ")[1] if target.startswith("service ") else ""
    return _BAD_ENDS.get(outcome) or _DONE.get(verb, "reached")


def is_elsewhere(progress: Progress | None) -> bool:
    """Whether a switch of another process runs."""
    return progress is not None and progress.running and progress.elsewhere is not None


def fold(before: Progress | None, event: SwitchEvent, now: float) -> Progress:
    """The switch after one more event; `now` stands in where an event comes without a beginning."""
    if isinstance(event, SwitchStarted):
        steps = _SHORTER.get(" ".join(event.target.split()[:2]), _NOTHING_DONE)
        return Progress(event.target, event.at, steps)
    if isinstance(event, SwitchSeen):
        return _seen(before, event)
    if before is not None and is_elsewhere(before) and is_turned_away(event):
        # What it waits for stays in sight; that it was turned away is told beside it.
        return before
    progress = before if before is None or before.elsewhere is None else None
    if progress is None or (progress.result is not None and not isinstance(event, SwitchEnded)):
        progress = Progress("?", now)
    if isinstance(event, Planned):
        return replace(progress, target=event.plan.target, plan=event.plan)
    if isinstance(event, StepStarted):
        return _with(
            progress, StepLine(event.step, StepState.RUNNING, event.detail, at=now if event.at is None else event.at)
        )
    if isinstance(event, StepProgress):
        at = next((line.at for line in progress.steps if line.step is event.step), None)
        line = StepLine(event.step, StepState.RUNNING, event.detail, event.fraction, at=at, levels=event.levels)
        return _with(progress, line)
    if isinstance(event, StepEnded):
        state = StepState.DONE if event.ok else StepState.FAILED
        return _with(progress, StepLine(event.step, state, event.detail, None, event.seconds))
    return _ended(progress, event, now)


def _ended(progress: Progress, event: SwitchEnded, now: float) -> Progress:
    result = event.result
    if progress.result is not None or progress.target not in ("?", result.mode):
        # Refused before it began (busy, unknown): there was no SwitchStarted of its own.
        progress = Progress(result.mode, now)
    return replace(progress, target=result.mode, result=result, plan=progress.plan or result.plan, cancelling=False)


def is_turned_away(event: SwitchEvent) -> bool:
    """Whether this says that a switch did not begin because another one runs."""
    return isinstance(event, SwitchEnded) and event.result.outcome is Outcome.BUSY


def of_record(record: SwitchRecord, *, running: bool = False, moment: Moment | None = None) -> Progress:
    """A switch as its record tells it."""
    steps = _SHORTER.get(" ".join(record.target.split()[:2]), _NOTHING_DONE)
    progress = Progress(record.target, record.started_at, steps, elsewhere=record)
    for told in record.steps:
        # A newer gpumod may know steps that this one does not.
        if told.step in _STEPS:
            newest = running and told is record.steps[-1]
            progress = _with(progress, _line(told, moment if newest else None))
    if running:
        return progress
    steps = tuple(
        replace(line, state=StepState.FAILED, detail="no end is recorded") if line.state is StepState.RUNNING else line
        for line in progress.steps
    )
    return replace(progress, steps=steps, result=_result(record))


def _seen(before: Progress | None, event: SwitchSeen) -> Progress:
    if before is not None and before.running and before.elsewhere is None:
        # One's own is under way: the other one's end was seen late.
        return before
    progress = of_record(event.record, running=event.running, moment=event.moment)
    same = before is not None and before.elsewhere is not None and before.elsewhere.id == event.record.id
    return replace(progress, cancelling=event.running and same and before is not None and before.cancelling)


def _line(told: StepRecord, moment: Moment | None) -> StepLine:
    step = Step(told.step)
    if told.ok is not None:
        return StepLine(step, StepState.DONE if told.ok else StepState.FAILED, told.detail, None, told.seconds)
    line = StepLine(step, StepState.RUNNING, told.detail, at=told.at)
    if moment is None:
        return line
    return replace(line, detail=moment.detail, fraction=moment.fraction, levels=moment.levels)


def _result(record: SwitchRecord) -> ModeResult:
    if record.outcome is None:
        killed = SwitchError(
            f"pid {record.pid} was killed at step {record.step}: what it had stopped and started stays so",
            step=record.step,
            hint="the next switch goes on from what systemd says",
        )
        return ModeResult(False, record.target, errors=(killed,), outcome=Outcome.FAILED, timings=_timings(record))
    outcome = outcome_of(record.outcome)
    return ModeResult(
        outcome is Outcome.DONE,
        record.target,
        errors=record.errors or ((SwitchError(record.note),) if record.note else ()),
        outcome=outcome,
        warnings=record.warnings,
        timings=_timings(record),
    )


def _timings(record: SwitchRecord) -> dict[str, float]:
    return {told.step: told.seconds for told in record.steps if told.seconds is not None}


def _with(progress: Progress, line: StepLine) -> Progress:
    steps = list(progress.steps)
    for place, known in enumerate(steps):
        if known.step is line.step:
            steps[place] = line
            break
    else:
        steps.append(line)
    return replace(progress, steps=tuple(steps))
