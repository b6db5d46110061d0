"""What is written down of a switch, while it runs and when it has ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import msgspec

from gpumod_tui.core.models import Holder, LogLine
from gpumod_tui.core.status.mode_status import Recorded

HISTORY_LENGTH: Final = 200
"""Switches that the history keeps."""
_ERRORS: Final = 3
_JOURNAL_LINES: Final = 5
_LINE_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Level:
    """How far the memory of one GPU is from where it must be, in bytes."""

    gpu: int
    total_bytes: int
    free_bytes: int
    goal_bytes: int
    """Must be free."""


@dataclass(frozen=True, slots=True)
class SwitchError:
    """What went wrong, with the evidence."""

    message: str
    """What and why, with numbers."""
    step: str = ""
    unit: str | None = None
    holders: tuple[Holder, ...] = ()
    journal: tuple[LogLine, ...] = ()
    hint: str = ""

    def __str__(self) -> str:
        return self.message


class StepRecord(msgspec.Struct, frozen=True):
    """One step of a switch as it went. `seconds` None: it began and no end is known."""

    step: str
    detail: str = ""
    ok: bool | None = None
    seconds: float | None = None
    at: float | None = None
    """Unix time it began, seconds; None: not recorded."""


class Moment(msgspec.Struct, frozen=True):
    """Where the newest step of a switch is, between its beginning and its end."""

    switch_id: str
    step: str
    detail: str
    fraction: float | None = None
    """0..1; None: not known."""
    levels: tuple[Level, ...] = ()
    """In the release wait."""


@dataclass(frozen=True, slots=True)
class SwitchRecord:
    """One switch, running or ended. `outcome` None: it has not ended, or nobody could say how."""

    id: str
    target: str
    pid: int
    pid_start: int
    """Start time of the process in clock ticks since boot: with the pid it names the process for ever."""
    started_at: float
    """Unix time, seconds."""
    steps: tuple[StepRecord, ...] = ()
    outcome: str | None = None
    note: str = ""
    ended_at: float | None = None
    touched: bool = False
    """Whether anything was stopped or started."""
    stopping: tuple[str, ...] = ()
    """Units that it stops: nobody is to load anything into them while it runs."""
    starting: tuple[str, ...] = ()
    """Units that it starts."""
    loading: tuple[str, ...] = ()
    """Units that stay and are asked to load a model."""
    command: str = ""
    """What the process was called with, `gpumod mode switch code`; empty: not recorded."""
    errors: tuple[SwitchError, ...] = ()
    """Why it did not end well, cut to what is worth keeping."""
    warnings: tuple[str, ...] = ()

    @property
    def step(self) -> str:
        """The newest step, or `begin`."""
        return self.steps[-1].step if self.steps else "begin"

    @property
    def seconds(self) -> float | None:
        """How long it took; None: no end is known."""
        return None if self.ended_at is None else max(0.0, self.ended_at - self.started_at)


class SwitchHistory(msgspec.Struct, frozen=True):
    """Switches that ended, the newest first, at most `HISTORY_LENGTH`. `outcome` None: its process was killed."""

    switches: tuple[SwitchRecord, ...] = ()
    problem: str = ""
    """Why there are fewer than there were; empty: there are not."""


class Tally(msgspec.Struct, frozen=True):
    """Switches that ended the same way."""

    count: int = 0
    seconds: float = 0.0
    """Of all of them."""


def kept(errors: tuple[SwitchError, ...]) -> tuple[SwitchError, ...]:
    """Errors as a record keeps them: the first few, each with its last journal lines, long ones cut."""

    def cut(line: LogLine) -> LogLine:
        return msgspec.structs.replace(line, message=line.message[:_LINE_CHARACTERS])

    return tuple(
        replace(error, journal=tuple(cut(line) for line in error.journal[-_JOURNAL_LINES:]))
        for error in errors[:_ERRORS]
    )


@dataclass(frozen=True, slots=True)
class StoredState:
    """Everything the state folder tells at one moment."""

    recorded: Recorded
    switch: SwitchRecord | None
    held: bool
    """Whether a process holds the switch lock."""
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    """By outcome, since the state folder was made."""
    moment: Moment | None = None
    """Of the switch in progress, where it told one."""

    @property
    def running(self) -> SwitchRecord | None:
        """The switch in progress."""
        return self.switch if self.held and self.switch is not None and self.switch.outcome is None else None

    @property
    def interrupted(self) -> SwitchRecord | None:
        """A switch whose process was killed before it could record an end."""
        return self.switch if not self.held and self.switch is not None and self.switch.outcome is None else None


def recorded_truth(stored: StoredState) -> Recorded:
    """The recorded mode, unless a switch that touched the box is under way or was killed."""
    run = stored.running
    if run is not None and run.touched:
        return Recorded(None, run.started_at, f"switching to {run.target} (pid {run.pid}), at step {run.step}")
    left = stored.interrupted
    if left is not None and left.touched:
        return Recorded(
            None, left.started_at, f"switch to {left.target} (pid {left.pid}) was interrupted at step {left.step}"
        )
    return stored.recorded


class SwitchLock(Protocol):
    """The right to switch; held by one process of the user session at a time."""

    @property
    def record(self) -> SwitchRecord:
        """The newest record written."""

    def write(self, record: SwitchRecord, recorded: Recorded | None = None) -> None:
        """Put the record, and the reached mode if given, on disk. Raises: StateUnavailable."""

    def tell(self, moment: Moment) -> None:
        """Let others see where the newest step is; never raises, and nothing is lost with it."""

    def cancel_requested(self) -> bool:
        """Whether somebody asked this switch to cancel."""

    def release(self) -> None:
        """Give the lock back; idempotent."""


class SwitchStore(Protocol):
    """The state and runtime folders."""

    def read(self) -> StoredState:
        """Never raises on damaged files: they read as nothing recorded. Raises: StateUnavailable."""

    def history(self) -> SwitchHistory:
        """Switches that ended. Never raises on a damaged file. Raises: StateUnavailable."""

    def acquire(self, target: str) -> SwitchLock | None:
        """None: another process holds it. The record is on disk when this returns. Raises: StateUnavailable."""

    def request_cancel(self, switch_id: str) -> None:
        """Ask the holder to cancel that switch and no later one. Raises: StateUnavailable."""

    def signal(self, record: SwitchRecord, signal: int) -> bool:
        """Send a signal to the process of the record; False if that process is gone (a reused pid is not hit)."""
