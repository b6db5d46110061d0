"""One switch while it runs: what it knows, has done and says."""

import contextlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import JournalUnavailable, StateUnavailable
from gpumod_tui.core.events import Event, Step, StepProgress
from gpumod_tui.core.models import ActiveState, LogLine, Service, UnitState
from gpumod_tui.core.observation import Survey
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.plan import Target
from gpumod_tui.core.switch.records import Level, Moment, StepRecord, SwitchError, SwitchLock
from gpumod_tui.core.switch.results import SwitchPlan
from gpumod_tui.core.units.managed import service_id
from gpumod_tui.core.waiting import Waiter

POLL_S: Final = 0.01
"""Between looks while something is about to happen; a look costs well under a millisecond."""
JOURNAL_LINES: Final = 10
"""Of a unit's journal, in an error."""
PROGRESS_EVERY_S: Final = 0.1
"""Between two events of one step, for those who watch in this process."""
MOMENT_EVERY_S: Final = 0.25
"""The same on disk, for those who watch from outside."""

Report = Callable[[Event], None]


def ask_again_s(waited_s: float) -> float:
    """Seconds between two questions to a server that has been waited for so long.

    Close together at first, for what is ready at once. What loads for minutes is asked twice a second: more would
    fill its log.
    """
    return min(0.5, 0.02 + waited_s / 20)


class StepFailed(Exception):
    """A step cannot succeed any more."""

    def __init__(self, *errors: SwitchError, refused: bool = False) -> None:
        """`refused`: admission was refused."""
        super().__init__("; ".join(map(str, errors)))
        self.errors = errors
        self.refused = refused


class Run:
    """Shared by the steps of one switch, in one thread."""

    def __init__(
        self,
        host: Engine,
        lock: SwitchLock,
        target: Target,
        report: Report,
        cancel: threading.Event,
        *,
        timeout_s: float | None,
    ) -> None:
        self.host = host
        self.clock = host.clock
        self.lock = lock
        self.target = target
        self.report = report
        self.waiter = Waiter(
            host.clock, cancelled=lambda: cancel.is_set() or lock.cancel_requested(), timeout_s=timeout_s
        )
        self.planned: SwitchPlan | None = None
        self.surveyed: Survey | None = None
        self.stopped: list[str] = []
        self.started: list[str] = []
        self.loaded: list[tuple[Service, str]] = []
        """Models that this switch asked routers for."""
        self.slept: dict[str, Mapping[int, int | None]] = {}
        """Put to sleep here, with the bytes by GPU that each still holds."""
        self.unslept: list[str] = []
        """Were to sleep, did not give their memory back, and are stopped."""
        self.woken: dict[str, frozenset[str]] = {}
        """Woken here, with the ids of what they were promised for it."""
        self.watched: list[str] = []
        """What must not die: started here, or found on its way to ready."""
        self.invocations: dict[str, str] = {}
        """Of each watched service since it was seen active: another one means that it died meanwhile."""
        self.errors: list[SwitchError] = []
        self.warnings: list[str] = []
        self.steps: list[StepRecord] = []
        self.touched = False
        self.recorded_before = Recorded()
        """What was recorded when this switch began to touch the box."""
        self._last_progress = float("-inf")
        self._last_moment = float("-inf")

    @property
    def plan(self) -> SwitchPlan:
        """There from the preflight on."""
        assert self.planned is not None
        return self.planned

    @property
    def survey(self) -> Survey:
        """The box as the preflight saw it."""
        assert self.surveyed is not None
        return self.surveyed

    @property
    def ending(self) -> tuple[str, ...]:
        """Everything that this switch stops before it starts anything."""
        return (*self.plan.stop, *self.plan.restart, *self.unslept)

    def save(self, recorded: Recorded | None = None) -> None:
        """Put the steps on disk; a full disk is a warning, not the end of the switch."""
        try:
            plan = self.planned
            stopping = (*plan.stop, *plan.restart, *plan.sleep) if plan else ()
            starting = (*plan.wake, *plan.starting) if plan else ()
            loading = dict.fromkeys(name for name, _, _ in plan.loads if name in plan.keep) if plan else ()
            record = replace(
                self.lock.record,
                steps=tuple(self.steps),
                touched=self.touched,
                stopping=tuple(f"{name}.service" for name in stopping),
                starting=tuple(f"{name}.service" for name in starting),
                loading=tuple(f"{name}.service" for name in loading),
            )
            self.lock.write(record, recorded)
        except StateUnavailable as error:
            if str(error) not in self.warnings:
                self.warnings.append(str(error))

    def touch(self) -> None:
        """From here on the box is not what it was; on disk before the first thing is touched."""
        if not self.touched:
            self.touched = True
            with contextlib.suppress(StateUnavailable):
                self.recorded_before = self.host.store.read().recorded
            began = Recorded(None, self.clock.time(), f"switch to {self.target.label} began")
            self.save(began if self.target.is_mode else None)

    def progress(self, step: Step, detail: str, fraction: float | None = None, levels: tuple[Level, ...] = ()) -> None:
        """Tell those who listen here at most every `PROGRESS_EVERY_S`, and other processes at most every
        `MOMENT_EVERY_S`."""
        now = self.clock.monotonic()
        if now - self._last_progress >= PROGRESS_EVERY_S:
            self._last_progress = now
            self.report(StepProgress(step, detail, fraction, levels))
        if now - self._last_moment >= MOMENT_EVERY_S:
            self._last_moment = now
            self.lock.tell(Moment(self.lock.record.id, step, detail, fraction, levels))

    def check_alive(self) -> None:
        """Raises: StepFailed when a watched unit has died, been restarted or been refused."""
        watched = {f"{name}.service": name for name in self.watched}
        for unit, state in self.host.units.states(watched).items():
            name = watched[unit]
            if state.active_state is ActiveState.ACTIVE and not state.job_pending:
                before = self.invocations.setdefault(name, state.invocation_id)
                if before == state.invocation_id and not (name in self.started and state.restarts):
                    continue
                raise StepFailed(self.unit_error(unit, f"{unit} died and was restarted by systemd", state))
            if state.job_pending or state.active_state in (ActiveState.RELOADING, ActiveState.DEACTIVATING):
                continue
            if state.active_state is ActiveState.ACTIVATING and state.sub_state != "auto-restart":
                continue
            if state.result == "exec-condition":
                raise StepFailed(self._refusal_of(unit, state), refused=True)
            raise StepFailed(self.unit_error(unit, _end_of(state), state))

    def _refusal_of(self, unit: str, state: UnitState) -> SwitchError:
        """What the unit's own ExecCondition said, from the ledger: systemd knows only that it said no."""
        refusal = self.host.admission.last_refusal(unit, since=self.lock.record.started_at)
        if refusal is None:
            return self.unit_error(unit, _end_of(state), state)
        return self.unit_error(unit, f"{unit} was refused: {refusal.message}", state)

    def unit_error(self, unit: str, message: str, state: UnitState | None = None) -> SwitchError:
        """An error with the unit's last journal lines."""
        return SwitchError(
            message,
            unit=unit,
            journal=self.journal(unit, state.invocation_id if state else self.invocations.get(service_id(unit), "")),
            hint=f"journalctl --user -u {unit} --no-pager -n 50",
        )

    def journal(self, unit: str, invocation_id: str = "") -> tuple[LogLine, ...]:
        """The unit's last lines; where they cannot be read, a warning."""
        try:
            return self.host.journal.tail(unit, JOURNAL_LINES, invocation_id=invocation_id)
        except JournalUnavailable as error:
            self.warnings.append(str(error))
            return ()


def _end_of(state: UnitState) -> str:
    """How a unit ended, in words."""
    if state.result == "exec-condition":
        return f"{state.unit} was refused by its own check (ExecCondition)"
    if state.sub_state == "auto-restart":
        return f"{state.unit} died ({_result_of(state)}) and is being restarted by systemd"
    if state.active_state is ActiveState.FAILED:
        return f"{state.unit} failed: {_result_of(state)}"
    return f"{state.unit} ended by itself ({state.active_state}, {_result_of(state)})"


def _result_of(state: UnitState) -> str:
    # A check (ExecCondition) that a signal ends is not a no: systemd calls the unit failed.
    how = "before its server ran" if state.exit_status is None else f"exit status {state.exit_status}"
    return f"{state.result}, {how}"
