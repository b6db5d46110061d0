"""What a simulation answers: values for people and programs, no reckoning."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gpumod_tui.core.models import GpuSample
from gpumod_tui.core.quantities import GIB
from gpumod_tui.core.results import Blocker, GpuArithmetic, SwitchPlan

LEAST_GIB: Final = 1
MOST_GIB: Final = 4096
"""Of a GPU that is simulated."""
MOST_GPUS: Final = 16


class Verdict(StrEnum):
    """Only FITS is a yes."""

    FITS = "fits"
    SHORT = "does not fit"
    UNKNOWN = "unknown"
    """A need or the free memory is not known, which never fits."""
    BLOCKED = "blocked"
    """There is room, and something else stands in the way: a port, a unit that is not installed."""


@dataclass(frozen=True, slots=True)
class Share:
    """Who is counted on one GPU. `amount_bytes` None: unknown."""

    who: str
    """A service id, or a process."""
    amount_bytes: int | None
    note: str = ""
    """Where the figure is from, or why it is counted."""
    service: str | None = None
    """None: nothing of the catalog."""


@dataclass(frozen=True, slots=True)
class GpuSum:
    """One GPU, as it would be."""

    sample: GpuSample
    arithmetic: GpuArithmetic
    starts: tuple[Share, ...]
    """What comes or wakes, each with what it takes."""
    stays: tuple[Share, ...]
    """What is there and goes on, the largest first, with what it holds now."""

    @property
    def left_bytes(self) -> int | None:
        """Beyond needs and margin; below 0: short by so much; None: unknown."""
        available = self.arithmetic.available_bytes
        return None if available is None else available - self.arithmetic.required_bytes


@dataclass(frozen=True, slots=True)
class Beside:
    """Whether a mode's services would fit beside the chosen ones."""

    mode: str
    fits: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Simulation:
    """The answer. All names are service ids."""

    chosen: tuple[str, ...]
    services: tuple[str, ...]
    """The chosen ones and what they depend on."""
    verdict: Verdict
    gpus: tuple[GpuSum, ...]
    """Empty: NVML cannot be read."""
    plan: SwitchPlan
    """As the planner would make it for a mode of just these services."""
    unknown: tuple[str, ...] = ()
    """Services of unknown need."""
    beside: tuple[Beside, ...] = ()
    """The other modes; none where the chosen services do not fit by themselves."""
    elsewhere: tuple[tuple[str, int], ...] = ()
    """(service, GPU index): where it does not fit, each single service that would make it fit on that other GPU."""

    @property
    def fits(self) -> bool:
        """A switch would be granted."""
        return self.verdict is Verdict.FITS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A service that may be chosen."""

    service: str
    need_bytes: int | None
    """Over all its GPUs, with its default model; None: unknown."""
    gpus: tuple[int, ...]
    """Indices; empty: none, or unknown."""
    note: str
    """Where the need is from, or why it is unknown."""
    runs: bool = False


def gpu_sizes(text: str) -> tuple[int, ...]:
    """Bytes of each GPU in `24 24`, `24, 48.5` or `4x80`, in GiB; empty: none. Raises: ValueError, for people."""
    found: list[int] = []
    for word in text.replace(",", " ").split():
        times, _, amount = word.rpartition("x")
        try:
            count, gib = int(times or "1"), float(amount)
        except ValueError:
            raise ValueError(f"found {word}, expected sizes in GiB such as 24 24 or 4x80") from None
        if not (math.isfinite(gib) and LEAST_GIB <= gib <= MOST_GIB):
            raise ValueError(f"found {word}, expected {LEAST_GIB} to {MOST_GIB} GiB")
        if not 1 <= count <= MOST_GPUS - len(found):
            raise ValueError(f"found {word}, expected {MOST_GPUS} GPUs at most")
        found += [int(gib * GIB)] * count
    return tuple(found)


def sentences(found: Simulation) -> tuple[str, ...]:
    """The verdict in words, with what stands against it."""
    if found.verdict is Verdict.FITS:
        return ("fits",)
    lead = {
        Verdict.SHORT: "does not fit",
        Verdict.UNKNOWN: "unknown, which never fits",
        Verdict.BLOCKED: "there is room, and something else is in the way",
    }[found.verdict]
    return (lead, *(_told(blocker) for blocker in found.plan.blockers))


def _told(blocker: Blocker) -> str:
    return f"{blocker} (next: {blocker.hint})" if blocker.hint else str(blocker)
