"""What lies on disk: the switch in progress and the last reached mode. Losing it loses no service."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gpumod_tui.core.mode_truth import Recorded
from gpumod_tui.core.records import Moment, SwitchHistory, SwitchRecord, Tally


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
