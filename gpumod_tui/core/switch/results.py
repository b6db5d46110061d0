"""What a plan and a switch amount to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from gpumod_tui.core.admission.commitments import Open, name_open
from gpumod_tui.core.models import Holder
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.text import format_mib


@dataclass(frozen=True, slots=True)
class GpuArithmetic:
    """Does it fit on one GPU: free + stopping ≥ kept_growth + need + margin. All in bytes."""

    gpu: int
    total_bytes: int | None
    free_bytes: int | None
    stopping_bytes: int | None
    """What NVML shows the stopping units hold; None: it does not tell, then `bound_bytes` decides."""
    kept_growth_bytes: int
    need_bytes: int
    margin_bytes: int
    bound_bytes: int | None = None
    """total − reserved − what stays for sure: the most that can become free; used where per-process memory is N/A."""
    kept_growth: tuple[Open, ...] = ()
    """Whose `kept_growth_bytes` are, the largest first."""

    @property
    def available_bytes(self) -> int | None:
        """Free after the stop; None: unknown."""
        if self.stopping_bytes is None:
            return self.bound_bytes
        return None if self.free_bytes is None else self.free_bytes + self.stopping_bytes

    @property
    def required_bytes(self) -> int:
        """What must be free before anything starts; 0 when nothing starts here."""
        return self.kept_growth_bytes + self.need_bytes + self.margin_bytes if self.need_bytes else 0

    @property
    def short_bytes(self) -> int | None:
        """What is lacking, 0 when it fits; None: unknown, which is a refusal."""
        if not self.need_bytes:
            return 0
        available = self.available_bytes
        return None if available is None else max(0, self.required_bytes - available)

    def __str__(self) -> str:
        if not self.need_bytes:
            return f"GPU {self.gpu}: nothing to fit"
        held = format_mib(self.stopping_bytes)
        source = (
            f"free {format_mib(self.free_bytes)} + stopping {held}"
            if self.stopping_bytes is not None
            else f"at most {format_mib(self.bound_bytes)} (memory by process: N/A)"
        )
        growth = f"{format_mib(self.kept_growth_bytes)}{name_open(self.kept_growth)}"
        kept = f" + kept may grow {growth}" if self.kept_growth_bytes else ""
        short = self.short_bytes
        verdict = "unknown" if short is None else "fits" if short == 0 else f"short by {format_mib(short)}"
        return (
            f"GPU {self.gpu}: {source} = {format_mib(self.available_bytes)}; needs {format_mib(self.need_bytes)}"
            f"{kept} + margin {format_mib(self.margin_bytes)} = {format_mib(self.required_bytes)}: {verdict}"
        )


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why a plan must not be carried out, and what would help."""

    reason: str
    hint: str = ""
    holders: tuple[Holder, ...] = ()
    may_pass: bool = False
    """What is short is held by nobody that NVML shows: it may be on its way back."""

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class SwitchPlan:
    """What a switch does. All names are service ids."""

    target: str
    """Mode id, or a phrase such as `service start x`."""
    services: tuple[str, ...]
    """Everything that is to run when it is done."""
    stop: tuple[str, ...]
    keep: tuple[str, ...]
    restart: tuple[str, ...]
    """Part of `start`: present but failed or not ready, so stopped first."""
    start: tuple[tuple[str, ...], ...]
    """Waves: each is started in parallel, after the one before is ready."""
    arithmetic: tuple[GpuArithmetic, ...]
    blockers: tuple[Blocker, ...] = ()
    warnings: tuple[str, ...] = ()
    needs: Mapping[str, Mapping[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    """Bytes by service and GPU index, for what starts."""
    promises: tuple[tuple[str, str, Mapping[int, int]], ...] = ()
    """(unit, model, bytes by GPU) of every allocation that the switch is going to make; `model` empty: the unit's."""

    sleep: tuple[str, ...] = ()
    """Put to sleep instead of stopped; a router's models are unloaded."""
    wake: tuple[str, ...] = ()
    """Part of `services`: asleep now, woken before anything starts."""
    asleep: tuple[str, ...] = ()
    """Not in `services`, asleep already, and left so."""
    leaves: Mapping[str, Mapping[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    """The most that each of `sleep` may go on holding, in bytes by GPU; what holds more is stopped."""

    @property
    def loads(self) -> tuple[tuple[str, str, int], ...]:
        """(service, model, bytes) of every model that a router is asked to load, one that stays included."""
        return tuple(
            (unit.removesuffix(".service"), model, sum(by_gpu.values()))
            for unit, model, by_gpu in self.promises
            if model
        )

    @property
    def starting(self) -> tuple[str, ...]:
        """Everything that starts, in order."""
        return tuple(service for wave in self.start for service in wave)


class Outcome(StrEnum):
    """How a switch ended; each has its exit code."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    """Nothing was touched."""
    BUSY = "busy"
    """Another switch holds the lock; nothing was touched."""
    CANCELLED = "cancelled"
    UNKNOWN_TARGET = "unknown"


def outcome_of(word: str) -> Outcome:
    """The outcome that a record names; FAILED for a word that only a newer gpumod knows."""
    return Outcome(word) if word in frozenset(Outcome) else Outcome.FAILED


EXIT_CODES: Mapping[Outcome, int] = MappingProxyType(
    {
        Outcome.DONE: 0,
        Outcome.FAILED: 1,
        Outcome.UNKNOWN_TARGET: 2,
        Outcome.REFUSED: 3,
        Outcome.BUSY: 75,
        Outcome.CANCELLED: 130,
    }
)


@dataclass(frozen=True, slots=True)
class ModeResult:
    """How a switch ended."""

    success: bool
    mode: str
    """The target, reached or not."""
    started: tuple[str, ...] = ()
    """Running because of this switch; empty after a rollback."""
    stopped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    slept: tuple[str, ...] = ()
    """Put to sleep by this switch, and proved to have given their memory back."""
    woken: tuple[str, ...] = ()
    """Awake because of this switch; empty after a rollback."""
    errors: tuple[SwitchError, ...] = ()
    timings: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Seconds by step."""
    outcome: Outcome = Outcome.DONE
    warnings: tuple[str, ...] = ()
    plan: SwitchPlan | None = None

    @property
    def exit_code(self) -> int:
        """For a command line."""
        return EXIT_CODES[self.outcome]
