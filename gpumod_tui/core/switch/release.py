"""The release wait: until the NVIDIA driver has given stopped memory back.

Memory of an ended process comes back asynchronously, typically after 0.5 to 1.5 s, later when there is much of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gpumod_tui.core.models import GpuReading, GpuSample, Holder
from gpumod_tui.core.switch.records import Level
from gpumod_tui.core.switch.results import GpuArithmetic
from gpumod_tui.core.text import format_mib
from gpumod_tui.core.vram.sleep import GRACE_S, STILL_BYTES, STILL_S


@dataclass(frozen=True, slots=True)
class Goal:
    """What must be free on one GPU. `required_bytes` is for what comes, `restored_bytes` for what went."""

    gpu: int
    required_bytes: int
    arithmetic: GpuArithmetic | None = None
    restored_bytes: int | None = None
    """Free before + held by what was stopped; None: not known, then stillness decides."""


@dataclass(frozen=True, slots=True)
class Released:
    """Enough is free. `warnings`: what did not come back though nothing needs it."""

    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Not yet. `fraction` 0..1 of the goal that is free."""

    detail: str
    fraction: float | None
    levels: tuple[Level, ...] = ()
    """Of every GPU that has a goal in bytes and tells its memory."""


@dataclass(frozen=True, slots=True)
class Stuck:
    """Waiting longer changes nothing."""

    reason: str


class ReleaseWatch:
    """Judges readings against goals; it neither reads nor waits."""

    def __init__(
        self,
        goals: Sequence[Goal],
        stopped_units: frozenset[str],
        stopped_pids: frozenset[int],
        at: float,
        *,
        grace_s: float = GRACE_S,
    ) -> None:
        """`grace_s`: so long at least memory may stand still before it is taken for lost."""
        self._goals = tuple(goals)
        self._units = stopped_units
        self._pids = stopped_pids
        self._since = at
        self._grace_s = grace_s
        self._still: dict[int, tuple[float, int]] = {}
        """By GPU: when free memory last moved, and where it was then."""

    def require(self, gpu: int, required_bytes: int, arithmetic: GpuArithmetic) -> None:
        """What must be free has changed: kept services have grown meanwhile into what they were promised."""
        self._goals = tuple(
            replace(goal, required_bytes=required_bytes, arithmetic=arithmetic) if goal.gpu == gpu else goal
            for goal in self._goals
        )

    def observe(
        self, now: float, reading: GpuReading | None, holders: Sequence[Holder] | None, *, listed: bool
    ) -> Released | Waiting | Stuck:
        """Judge one reading. `listed`: process lists were asked for; `holders` None: NVML does not tell them."""
        samples: Mapping[int, GpuSample] = {sample.index: sample for sample in reading.gpus} if reading else {}
        missing = [goal for goal in self._goals if not self._met(goal, samples.get(goal.gpu))]
        for goal in self._goals:
            self._note(now, goal.gpu, samples.get(goal.gpu))
        if not missing:
            return Released()
        coming = [goal for goal in missing if not self._coming_met(goal, samples.get(goal.gpu))]
        sentences = tuple(self._sentence(goal, samples.get(goal.gpu)) for goal in (coming or missing))
        if listed and self._all_still(now, missing):
            if holders is None and not coming:
                return Released()
            if holders is not None and not self._left(holders):
                if coming:
                    return Stuck("; ".join(sentences))
                lost = [goal for goal in missing if goal.restored_bytes is not None]
                return Released(tuple(self._sentence(goal, samples.get(goal.gpu)) for goal in lost))
        return Waiting(
            "; ".join(sentences), self._fraction(missing[0], samples.get(missing[0].gpu)), tuple(self._levels(samples))
        )

    def _left(self, holders: Sequence[Holder]) -> bool:
        return any(holder.unit in self._units or holder.pid in self._pids for holder in holders)

    def _note(self, now: float, gpu: int, sample: GpuSample | None) -> None:
        free = sample.free_bytes if sample else None
        if free is None:
            self._still.pop(gpu, None)
            return
        before = self._still.get(gpu)
        if before is None or abs(free - before[1]) >= STILL_BYTES:
            self._still[gpu] = (now, free)

    def _all_still(self, now: float, goals: Sequence[Goal]) -> bool:
        if now - self._since < self._grace_s:
            return False
        return all(goal.gpu in self._still and now - self._still[goal.gpu][0] >= STILL_S for goal in goals)

    @staticmethod
    def _coming_met(goal: Goal, sample: GpuSample | None) -> bool:
        if not goal.required_bytes:
            return True
        return sample is not None and sample.free_bytes is not None and sample.free_bytes >= goal.required_bytes

    def _met(self, goal: Goal, sample: GpuSample | None) -> bool:
        if goal.required_bytes:
            return self._coming_met(goal, sample)
        if goal.restored_bytes is None or sample is None or sample.free_bytes is None:
            return False
        return sample.free_bytes >= goal.restored_bytes - STILL_BYTES

    @staticmethod
    def _target(goal: Goal) -> int | None:
        return goal.required_bytes or goal.restored_bytes

    def _fraction(self, goal: Goal, sample: GpuSample | None) -> float | None:
        target = self._target(goal)
        if sample is None or sample.free_bytes is None or not target:
            return None
        return min(1.0, sample.free_bytes / target)

    def _levels(self, samples: Mapping[int, GpuSample]) -> Iterator[Level]:
        for goal in self._goals:
            sample, target = samples.get(goal.gpu), self._target(goal)
            if sample is not None and sample.total_bytes and sample.free_bytes is not None and target:
                yield Level(goal.gpu, sample.total_bytes, sample.free_bytes, target)

    def _sentence(self, goal: Goal, sample: GpuSample | None) -> str:
        free = format_mib(sample.free_bytes if sample else None)
        if goal.required_bytes and goal.arithmetic is not None:
            row = goal.arithmetic
            kept = f" + {format_mib(row.kept_growth_bytes)} kept may grow" if row.kept_growth_bytes else ""
            wanted = f"needs {format_mib(row.need_bytes)}{kept} + margin {format_mib(row.margin_bytes)}"
        elif goal.restored_bytes is not None:
            wanted = f"expected {format_mib(goal.restored_bytes)} free"
        else:
            wanted = "expected no further change"
        return f"GPU {goal.gpu}: {wanted}, free {free}"
