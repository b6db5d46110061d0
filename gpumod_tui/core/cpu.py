"""How much of a core each unit takes, from counters that only grow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gpumod_tui.core.models import UnitState

LEAST_S: Final = 0.9
"""Between two readings that are held against each other: the counters are read at most twice a second."""
FORGET_S: Final = 10.0
"""What was read before is too old to say anything about now."""


@dataclass(frozen=True, slots=True)
class _Reading:
    invocation: str
    at: float
    used_ns: int
    percent: float | None


class CpuMeter:
    """Remembers the last reading of each unit; for one thread."""

    def __init__(self) -> None:
        self._known: dict[str, _Reading] = {}

    def note(self, states: Mapping[str, UnitState], now: float) -> dict[str, float]:
        """Percent of one core by unit; no entry where it is not known (yet). `now`: monotonic, seconds."""
        fresh = {
            unit: self._measured(self._known.get(unit), state, state.cpu_usage_ns, now)
            for unit, state in states.items()
            if state.cpu_usage_ns is not None
        }
        self._known = fresh
        return {unit: reading.percent for unit, reading in fresh.items() if reading.percent is not None}

    def _measured(self, before: _Reading | None, state: UnitState, used_ns: int, now: float) -> _Reading:
        if before is None or before.invocation != state.invocation_id or now - before.at > FORGET_S:
            return _Reading(state.invocation_id, now, used_ns, None)
        if now - before.at < LEAST_S:
            return before
        percent = max(0, used_ns - before.used_ns) / 1e9 / (now - before.at) * 100
        return _Reading(state.invocation_id, now, used_ns, percent)
