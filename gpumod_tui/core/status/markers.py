"""What happened, for the time axis of the memory graph: switches, units that failed, loads that were refused."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.events import Event, SwitchEnded, SwitchSeen, SwitchStarted
from gpumod_tui.core.models import ActiveState, ServiceView, Snapshot
from gpumod_tui.core.switch.results import Outcome, outcome_of

_KEPT: Final = 200
_SAME_S: Final = 2.0
"""Two reports of one end, the manager's and the state folder's, are this close."""


class MarkKind(StrEnum):
    """What a mark stands for, the least important first."""

    BEGAN = "began"
    """A switch."""
    ENDED = "ended"
    """A switch, well."""
    CANCELLED = "cancelled"
    """A switch."""
    REFUSED = "refused"
    """A load, or a switch."""
    FAILED = "failed"
    """A unit, or a switch."""


_ENDS: Final = {
    Outcome.DONE: MarkKind.ENDED,
    Outcome.CANCELLED: MarkKind.CANCELLED,
    Outcome.REFUSED: MarkKind.REFUSED,
    Outcome.FAILED: MarkKind.FAILED,
}
"""Switches that ended in another way never began."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment that explains the graph."""

    at: float
    """Unix time, seconds."""
    kind: MarkKind
    words: str


class MarkBook:
    """Collects marks from snapshots and from switches; the oldest are forgotten. Single-threaded."""

    def __init__(self) -> None:
        self._marks: deque[Mark] = deque(maxlen=_KEPT)
        self._failed: dict[str, float | None] = {}
        self._restarts: dict[str, int] = {}

    @property
    def marks(self) -> tuple[Mark, ...]:
        """By time."""
        return tuple(sorted(self._marks, key=lambda mark: mark.at))

    def note(self, mark: Mark) -> None:
        """Take a mark, unless the same is there already."""
        if not any(_same(mark, known) for known in self._marks):
            self._marks.append(mark)

    def copy(self) -> "MarkBook":
        """The same marks, for a look back."""
        book = MarkBook()
        book._marks.extend(self._marks)
        return book

    def follow(self, event: Event, now: float) -> None:
        """Take a switch's beginning and end, this process's or another's."""
        if isinstance(event, SwitchStarted):
            self.note(Mark(event.at, MarkKind.BEGAN, _name(event.target)))
        elif isinstance(event, SwitchEnded):
            self._end(event.result.mode, event.result.outcome, now)
        elif isinstance(event, SwitchSeen):
            record = event.record
            self.note(Mark(record.started_at, MarkKind.BEGAN, _name(record.target)))
            if record.outcome is not None and record.ended_at is not None:
                self._end(record.target, outcome_of(record.outcome), record.ended_at)

    def _end(self, target: str, outcome: Outcome, at: float) -> None:
        kind = _ENDS.get(outcome)
        if kind is not None:
            self.note(Mark(at, kind, _name(target)))

    def take(self, snapshot: Snapshot) -> None:
        """Find what failed or was refused since the last snapshot."""
        for view in snapshot.services:
            self._failure(view, snapshot.at)
        for refusal in snapshot.refusals:
            self.note(Mark(refusal.at, MarkKind.REFUSED, refusal.model or refusal.unit.removesuffix(".service")))

    def _failure(self, view: ServiceView, now: float) -> None:
        state = view.state
        restarts = self._restarts.get(view.id)
        self._restarts[view.id] = state.restarts
        if restarts is not None and state.restarts > restarts:
            self.note(Mark(now, MarkKind.FAILED, f"{view.id} restarts"))
        if state.active_state is not ActiveState.FAILED:
            self._failed.pop(view.id, None)
        elif view.id not in self._failed or self._failed[view.id] != state.since:
            self._failed[view.id] = state.since
            self.note(Mark(state.since or now, MarkKind.FAILED, view.id))


def _name(target: str) -> str:
    return target.removeprefix("service ")


def _same(mark: Mark, known: Mark) -> bool:
    return mark.kind is known.kind and mark.words == known.words and abs(mark.at - known.at) < _SAME_S


_MEANINGS: Final[Mapping[int, str]] = MappingProxyType(
    {
        13: "a program's fault on the GPU",
        31: "a program touched memory it does not have",
        43: "a program was stopped on the GPU",
        45: "a program's work was cleared after a fault",
        48: "ECC error that cannot be corrected",
        61: "the GPU's firmware stopped",
        62: "the GPU's firmware stopped",
        63: "a bad piece of memory was retired",
        64: "a bad piece of memory could not be retired",
        74: "NVLink error",
        79: "the GPU fell off the bus: reboot",
        92: "many ECC errors were corrected",
        94: "memory error, only its program is hit",
        95: "memory error, other programs may be hit: reset the GPU",
        119: "the GPU's firmware does not answer: reset the GPU",
        120: "the GPU's firmware failed: reset the GPU",
    }
)


def xid_words(number: int) -> str:
    """`Xid 79: the GPU fell off the bus: reboot`; the number alone where it is a rare one."""
    meaning = _MEANINGS.get(number)
    return f"Xid {number}: {meaning}" if meaning else f"Xid {number}: see NVIDIA's list of Xid errors"
