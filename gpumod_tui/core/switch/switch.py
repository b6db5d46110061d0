"""One switch, from lock to record: step by step along the transition table."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.errors import GpumodError, StateUnavailable
from gpumod_tui.core.events import Step, StepEnded, StepStarted, SwitchEnded
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.lifecycle import Signal, following
from gpumod_tui.core.switch.records import StepRecord, SwitchError, kept
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.core.switch.steps.context import Run, StepFailed
from gpumod_tui.core.switch.steps.load import load
from gpumod_tui.core.switch.steps.preflight import preflight
from gpumod_tui.core.switch.steps.release import release
from gpumod_tui.core.switch.steps.rollback import rollback
from gpumod_tui.core.switch.steps.start import start
from gpumod_tui.core.switch.steps.stop import stop
from gpumod_tui.core.switch.steps.verify import verify
from gpumod_tui.core.waiting import Cancelled, TimeUp

Work = Mapping[Step, Callable[[Run], str]]

WORK: Final[Work] = MappingProxyType(
    {
        Step.PREFLIGHT: preflight,
        Step.STOP: stop,
        Step.RELEASE: release,
        Step.START: start,
        Step.LOAD: load,
        Step.VERIFY: verify,
        Step.ROLLBACK: rollback,
    }
)


def carry_out(run: Run, first: Step = Step.PREFLIGHT, work: Work = WORK) -> ModeResult:
    """Bring the box to the target and record how it ended; in the thread that holds the lock.

    `first`, `work`: where to begin and what the steps do, for what is less than a whole switch.
    """
    changes = run.host.units.on_change(run.waiter.wake.set)
    try:
        step: Step | Outcome = first
        why = Signal.PASSED
        while isinstance(step, Step):
            ended = _perform(run, step, work[step])
            if step is not Step.ROLLBACK:
                why = ended
            elif ended is not Signal.PASSED:
                # Whatever led here, something runs that should not: that is a failure.
                why = Signal.FAULT
            step = following(step, why)
    finally:
        changes.close()
    return _finish(run, step)


def _perform(run: Run, step: Step, work: Callable[[Run], str]) -> Signal:
    began = run.clock.monotonic()
    at = run.clock.time()
    run.steps.append(StepRecord(step, at=at))
    run.save()
    run.report(StepStarted(step, at=at))
    outcome = Signal.PASSED
    try:
        detail = work(run)
    except Cancelled:
        outcome, detail = Signal.CANCEL, "cancelled"
    except TimeUp:
        outcome, detail = Signal.FAULT, "the time limit of the whole switch was reached"
        run.errors.append(SwitchError(detail, step=step, hint="a larger --timeout, or none"))
    except StepFailed as failure:
        outcome = Signal.REFUSED if failure.refused and not _touched_others(run, failure) else Signal.FAULT
        detail = str(failure)
        run.errors += [replace(error, step=step) for error in failure.errors]
    except GpumodError as error:
        outcome, detail = Signal.FAULT, str(error)
        run.errors.append(SwitchError(str(error), step=step, hint=error.hint))
    except Exception as error:  # noqa: BLE001 a bug here must still lead to the rollback and into the record
        outcome, detail = Signal.FAULT, f"internal error: {type(error).__name__}: {error}"
        run.errors.append(SwitchError(detail, step=step, hint="please report this"))
    seconds = run.clock.monotonic() - began
    run.steps[-1] = StepRecord(step, detail, outcome is Signal.PASSED, seconds, at)
    run.report(StepEnded(step, outcome is Signal.PASSED, detail, seconds))
    return outcome


def _touched_others(run: Run, failure: StepFailed) -> bool:
    """Whether anything but what was refused is, or was for a while, not as it had been."""
    refused = {error.unit for error in failure.errors}
    started = (f"{name}.service" for name in (*run.started, *run.woken))
    return bool(run.stopped or run.slept or run.loaded or any(unit not in refused for unit in started))


def _finish(run: Run, outcome: Outcome) -> ModeResult:
    now = run.clock.time()
    failed_at = next((record for record in run.steps if record.ok is False), None)
    note = ""
    if outcome is not Outcome.DONE and failed_at is not None:
        word = "cancelled" if outcome is Outcome.CANCELLED else "failed"
        why = "" if outcome is Outcome.CANCELLED else f": {failed_at.detail}"
        what = f"switch to {run.target.label}" if run.target.is_mode else run.target.label
        note = f"{what} {word} at {failed_at.step}{why}"
        undone = run.steps[-1]
        if undone.step == Step.ROLLBACK and undone.ok is False:
            note += f"; what it had started could not be stopped again: {undone.detail}"
    recorded = None
    if run.target.is_mode and outcome is Outcome.DONE:
        recorded = Recorded(run.target.label, now)
    elif run.target.is_mode and run.touched and outcome is Outcome.REFUSED:
        recorded = run.recorded_before
    elif run.target.is_mode and run.touched:
        recorded = Recorded(None, now, note)
    run.warnings += run.host.admission.take_news()
    record = replace(
        run.lock.record,
        steps=tuple(run.steps),
        outcome=outcome,
        note=note,
        ended_at=now,
        touched=run.touched,
        errors=kept(tuple(run.errors)),
        warnings=tuple(run.warnings),
    )
    try:
        run.lock.write(record, recorded)
    except StateUnavailable as error:
        run.warnings.append(f"the end of this switch could not be recorded: {error}")
    result = ModeResult(
        success=outcome is Outcome.DONE,
        mode=run.target.label,
        started=tuple(run.started),
        stopped=tuple(run.stopped),
        kept=run.planned.keep if run.planned else (),
        slept=tuple(run.slept),
        woken=tuple(run.woken),
        errors=tuple(run.errors),
        timings=MappingProxyType({record.step: record.seconds for record in run.steps if record.seconds is not None}),
        outcome=outcome,
        warnings=tuple(run.warnings),
        plan=run.planned,
    )
    run.report(SwitchEnded(result))
    return result
