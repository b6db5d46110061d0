"""What the manager tells while it works. Events are never coalesced; progress within a step may be."""

from dataclasses import dataclass
from enum import StrEnum

from gpumod_tui.core.switch.records import Level, Moment, SwitchRecord
from gpumod_tui.core.switch.results import ModeResult, SwitchPlan


class Step(StrEnum):
    """The steps of a switch, in their order."""

    PREFLIGHT = "preflight"
    STOP = "stop"
    RELEASE = "release"
    START = "start"
    LOAD = "load"
    UNLOAD = "unload"
    """On request only, and then the only step."""
    VERIFY = "verify"
    ROLLBACK = "rollback"
    """Only after a failure or a cancellation: what this switch started is stopped again."""


@dataclass(frozen=True, slots=True)
class SwitchStarted:
    """A switch holds the lock and is about to plan."""

    target: str
    at: float
    """Unix time, seconds."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What the switch is going to do."""

    plan: SwitchPlan


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins."""

    step: Step
    detail: str = ""
    at: float | None = None
    """Unix time, seconds; None: not known."""


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Something moved inside a step. `fraction` 0..1, None: not known."""

    step: Step
    detail: str
    fraction: float | None = None
    levels: tuple[Level, ...] = ()
    """In the release wait: the memory of each GPU, and where it must be."""


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step is over."""

    step: Step
    ok: bool
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class SwitchEnded:
    """The switch is over and recorded."""

    result: ModeResult


@dataclass(frozen=True, slots=True)
class SwitchSeen:
    """A switch of another process, as it stands now: begun, further on, or ended."""

    record: SwitchRecord
    running: bool
    """False and no outcome in the record: its process was killed."""
    moment: Moment | None = None
    """Of its newest step, while it runs."""


@dataclass(frozen=True, slots=True)
class ActEnded:
    """Something that is no switch was done, or was not."""

    label: str
    """`enable glm-code`, `end python3 (pid 8123)`."""
    ok: bool
    message: str
    hint: str = ""
    survivor: tuple[int, int] | None = None
    """Pid and start time of a process that did not end when it was asked to; None: there is none."""
    unknown: bool = False
    """There is no service of that name."""


SwitchEvent = SwitchStarted | Planned | StepStarted | StepProgress | StepEnded | SwitchEnded | SwitchSeen
Event = SwitchEvent | ActEnded
