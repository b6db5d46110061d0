"""What threads tell the app, and what widgets ask of it."""

from textual.message import Message

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.events import Event
from gpumod_tui.core.models import BLANK, Snapshot
from gpumod_tui.core.switch.results import SwitchPlan


class SnapshotTaken(Message):
    """The newest look at the box; replaces an older one that waits."""

    def __init__(self, snapshot: Snapshot) -> None:
        super().__init__()
        self.snapshot = snapshot

    def can_replace(self, message: Message) -> bool:
        """Only the newest matters."""
        return isinstance(message, SnapshotTaken)


class ManagerEvent(Message):
    """One event of a switch; none is ever dropped."""

    def __init__(self, event: Event) -> None:
        super().__init__()
        self.event = event


class Fault(Message):
    """Something in a thread went wrong; `where` is what cannot be shown now."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__()
        self.where = where
        self.reason = reason


class Ask(Message):
    """The operator wants something: a mode, or `start`, `stop`, `restart` of a service."""

    def __init__(self, verb: str, name: str) -> None:
        super().__init__()
        self.verb = verb
        self.name = name

    @property
    def is_blank(self) -> bool:
        """It is the way back from everything, which may take over from a switch that runs."""
        return self.verb == "mode" and self.name == BLANK


class PlanMade(Message):
    """What a look at the box for an `Ask` came to. `plan` None: it cannot be planned, `reason` says why.

    `look`: number of that look; `fitting`: modes that would fit instead, where this one does not; None: not known.
    """

    def __init__(
        self, look: int, plan: SwitchPlan | None, reason: str = "", fitting: tuple[str, ...] | None = None
    ) -> None:
        super().__init__()
        self.look = look
        self.plan = plan
        self.reason = reason
        self.fitting = fitting


class Drop(Message):
    """The operator does not want what is being planned, or what waits for the end of a switch, any more."""


class Cancel(Message):
    """The operator wants the switch that runs to be cancelled."""


class UnitWish(Message):
    """The operator wants something of a unit that is no switch: `details`, `load`, `unload`, or an act's verb.

    `model`: for `load` and `unload`, where it is known already.
    """

    def __init__(self, verb: str, service: str, model: str = "") -> None:
        super().__init__()
        self.verb = verb
        self.service = service
        self.model = model


class EndWish(Message):
    """The operator wants a process of no managed unit to end, or, `asks` False, to see it whole first."""

    def __init__(self, pid: int, *, asks: bool = True) -> None:
        super().__init__()
        self.pid = pid
        self.asks = asks


class Found(Message):
    """What a thread found out for the screen that asked. `reason`: why there is nothing; empty: there is."""

    def __init__(self, value: object, reason: str = "") -> None:
        super().__init__()
        self.value = value
        self.reason = reason


class CatalogChanged(Message):
    """Services or modes are others than before."""

    def __init__(self, registry: ServiceRegistry) -> None:
        super().__init__()
        self.registry = registry
