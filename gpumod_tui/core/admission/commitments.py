"""What was promised: admitted needs and how long each of them holds. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import msgspec

from gpumod_tui.core.text import format_mib

REFUSALS_KEPT: Final = 20
_NAMED: Final = 3
IN_FLIGHT_S: Final = 3.0
"""From an admission to its load's arrival at a router that answers."""
ORPHAN_S: Final = 25.0
"""Between two answers of a router without a load whose asker has died: what was on its way is there by the second.

A full router calls the model unloaded while it ends another one for it: that is given 10 s, and killed then.
"""

UNIT_ITSELF: Final = ""
"""`model` of a commitment for the unit's own processes rather than for one of a router's models."""

NAMELESS: Final = ""
"""`model` of a router's process that ends, and no longer tells which one it served."""


class Asker(msgspec.Struct, frozen=True):
    """The process that asked; with its start time a pid names it for ever."""

    pid: int
    start: int


@dataclass(frozen=True, slots=True)
class Commitment:
    """An admitted need. It still promises max(0, need − measured) on each GPU, also after ready.

    Unbound it lives as long as who asked; bound, as long as the unit's invocation or the model's process.
    Time alone never ends it.
    """

    id: str
    unit: str
    model: str
    """`UNIT_ITSELF`, or the model's id."""
    needs: Mapping[int, int]
    """Bytes by GPU index."""
    asker: Asker | None
    """None: found running, nobody asked; or, unbound, who asked has died."""
    at: float
    """Unix time, seconds."""
    switch: str = ""
    """Id of the switch it was made for."""
    invocation: str = ""
    """Of the unit, once it has one: bound. Of a model: of the router that was asked, with which the load ends."""
    process: Asker | None = None
    """The model's process, once it is there: bound."""
    unknown: str = ""
    """Why nobody can say what it may still take; beside it nothing is admitted. Empty: `needs` says it."""
    absent_since: float | None = None
    """When its router first answered without it, who asked being dead. Seconds since boot: the clock may be set."""

    @property
    def is_orphan(self) -> bool:
        """Whether only its router can say what became of it: who asked has died, maybe after it had sent the load."""
        return self.model != UNIT_ITSELF and self.process is None and self.asker is None

    @property
    def is_bound(self) -> bool:
        """Whether it lives by itself rather than by who asked."""
        return bool(self.invocation) if self.model == UNIT_ITSELF else self.process is not None


class Open(msgspec.Struct, frozen=True):
    """What a unit or a model was promised on one GPU and has not taken yet."""

    unit: str
    model: str
    """`UNIT_ITSELF`, or the model's id."""
    bytes: int

    def __str__(self) -> str:
        return f"{self.model or self.unit.removesuffix('.service')} {format_mib(self.bytes)}"


def name_open(promises: Sequence[Open]) -> str:
    """The largest ones in words, in brackets; empty for none."""
    if not promises:
        return ""
    more = f" and {len(promises) - _NAMED} more" if len(promises) > _NAMED else ""
    return f" ({', '.join(map(str, promises[:_NAMED]))}{more})"


class Found(msgspec.Struct, frozen=True):
    """What something takes that runs without having asked."""

    needs: Mapping[int, int]
    unknown: str = ""
    """Why `needs` is only what it holds now; empty: it is all."""


class Refusal(msgspec.Struct, frozen=True):
    """A request that was refused, for whoever has to explain it."""

    unit: str
    model: str
    message: str
    at: float
    invocation: str = ""


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Everything in the ledger."""

    commitments: tuple[Commitment, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    known: bool = False
    """Whether everything that was admitted is in it; a ledger that is lost or damaged begins anew as not known."""
    lost: str = ""
    """Why the one before could not be read, until who rebuilds it has said so."""
    doubted_at: float | None = None
    """When it was rebuilt beside running units: a load that was admitted before may be on its way to a router and be
    seen by nobody. Seconds since boot; None: every router has answered since, or there was none."""

    def with_refusal(self, refusal: Refusal) -> "LedgerState":
        """The newest ones are kept."""
        return replace(self, refusals=(*self.refusals, refusal)[-REFUSALS_KEPT:])


class LiveModel(msgspec.Struct, frozen=True):
    """A process that serves one model of a router."""

    model: str
    """Its id, or `NAMELESS`."""
    process: Asker
    measured: Mapping[int, int | None] = msgspec.field(default_factory=dict)
    """Bytes by GPU; None: it holds some, NVML does not tell how much."""
    outlived: bool = False
    """The router that started it has ended: to the one that runs now, or will, it is a stranger."""


@dataclass(frozen=True, slots=True)
class LiveUnit:
    """A managed unit that is not down."""

    unit: str
    invocation: str
    admitted: bool
    """False while its own ExecCondition has not answered: it will ask for admission by itself."""
    measured: Mapping[int, int | None] = field(default_factory=dict)
    """Bytes by GPU of what this invocation has started, but for processes that serve a model."""
    left: Mapping[int, int | None] = field(default_factory=dict)
    """The same of what an earlier invocation has left behind: nothing of what this one may still take."""
    models: tuple[LiveModel, ...] = ()
    stopping: bool = False
    pid: int | None = None
    """Of a process that has its environment: the server's, or that of its ExecCondition."""

    def serving(self, model: str) -> LiveModel | None:
        """The process that serves a model of the router that runs; None: there is none."""
        return next((one for one in self.models if one.model == model and not one.outlived), None)


def settle(
    state: LedgerState,
    live: Mapping[str, LiveUnit],
    is_alive: Callable[[Asker], bool],
    full_need: Callable[[str, str], Found | None],
    now: float,
    since_boot: float,
) -> LedgerState:
    """The ledger as it holds now: bind what came to be, drop what has ended, add what runs without an entry.

    `full_need(unit, model)` gives what something found running takes; None: not to be said now, so that it is asked
    again the next time. An empty ledger (lost or damaged) is thereby rebuilt: every live unit and every model's process
    is in it at its full need, and so is a unit in its ExecCondition, which may have been granted already.
    """
    kept: list[Commitment] = []
    bound_to = {entry.invocation for entry in state.commitments if entry.invocation and entry.model == UNIT_ITSELF}
    for entry in state.commitments:
        bound = _bind(entry, live.get(entry.unit), bound_to)
        if not bound.is_bound and bound.model != UNIT_ITSELF and bound.asker and not is_alive(bound.asker):
            bound = replace(bound, asker=None)
        if _holds(bound, live.get(entry.unit), is_alive):
            kept.append(bound)
    units = {entry.invocation for entry in kept if entry.model == UNIT_ITSELF}
    processes = {entry.process for entry in kept}
    for unit in live.values():
        if (unit.admitted or not state.known) and unit.invocation not in units:
            found = full_need(unit.unit, UNIT_ITSELF)
            if found is not None:
                name = f"found-{unit.invocation}"
                entry = Commitment(name, unit.unit, UNIT_ITSELF, found.needs, None, now, invocation=unit.invocation)
                kept.append(replace(entry, unknown=found.unknown))
        for model in unit.models:
            if model.model != NAMELESS and model.process not in processes:
                found = full_need(unit.unit, model.model)
                if found is not None:
                    name = f"found-{model.process.pid}-{model.process.start}"
                    entry = Commitment(name, unit.unit, model.model, found.needs, None, now, process=model.process)
                    kept.append(replace(entry, unknown=found.unknown))
    # A folder that outlived a reboot tells of a later moment than now.
    doubted_at = None if state.doubted_at is None else min(state.doubted_at, since_boot)
    if not state.known and any(unit.admitted for unit in live.values()):
        doubted_at = since_boot
    return replace(state, commitments=tuple(kept), known=True, lost="", doubted_at=doubted_at)


def _bind(entry: Commitment, unit: LiveUnit | None, bound_to: set[str]) -> Commitment:
    """A promise becomes the allocation it was made for.

    A unit's own is bound by its ExecCondition; here only where a unit without one has come up under the promise, which
    would else be counted beside it. A model's is bound by its process.
    """
    if entry.is_bound or unit is None:
        return entry
    if entry.model == UNIT_ITSELF:
        if not unit.admitted or unit.stopping or unit.invocation in bound_to:
            return entry
        bound_to.add(unit.invocation)
        return replace(entry, invocation=unit.invocation)
    serving = unit.serving(entry.model)
    return entry if serving is None else replace(entry, process=serving.process)


def is_stranger(entry: Commitment, live: Mapping[str, LiveUnit]) -> bool:
    """Whether it is bound to a process that the router which runs does not have: it ends, or has outlived its own.

    A load of the same model is another allocation then.
    """
    if entry.process is None:
        return False
    unit = live.get(entry.unit)
    serving = unit.serving(entry.model) if unit else None
    return serving is None or serving.process != entry.process


def without_orphans(state: LedgerState, absent: Mapping[str, bool], since_boot: float) -> LedgerState:
    """The ledger after its routers were asked for orphans: `absent` tells by id whether the model is not there.

    Dropped is what a router answered without twice, `ORPHAN_S` apart: the request may have been on its way to it.
    """
    kept: list[Commitment] = []
    for entry in state.commitments:
        told = absent.get(entry.id) if entry.is_orphan else None
        if told is False:
            kept.append(replace(entry, absent_since=None))
        elif told is None or entry.absent_since is None:
            kept.append(entry if told is None else replace(entry, absent_since=since_boot))
        elif since_boot - entry.absent_since < ORPHAN_S:
            kept.append(entry)
    return replace(state, commitments=tuple(kept))


def _holds(entry: Commitment, unit: LiveUnit | None, is_alive: Callable[[Asker], bool]) -> bool:
    if entry.model == UNIT_ITSELF and entry.invocation:
        return unit is not None and unit.invocation == entry.invocation
    if entry.process is not None:
        return is_alive(entry.process)
    if entry.invocation and (unit is None or unit.invocation != entry.invocation or not unit.admitted):
        # Also one that waits for its automatic restart: the process that was asked is gone.
        return False
    if entry.asker is not None:
        return is_alive(entry.asker)
    return unit is not None


def open_bytes(entries: Sequence[Commitment], live: Mapping[str, LiveUnit], gpu: int) -> int:
    """What the entries still promise on one GPU: each its need less what it is measured to hold there."""
    return sum(max(0, entry.needs.get(gpu, 0) - _measured(entry, live.get(entry.unit), gpu)) for entry in entries)


def open_promises(entries: Sequence[Commitment], live: Mapping[str, LiveUnit], gpu: int) -> tuple[Open, ...]:
    """The same by who was promised it, the largest first."""
    found: dict[tuple[str, str], int] = {}
    for entry in entries:
        whose = (entry.unit, entry.model)
        found[whose] = found.get(whose, 0) + open_bytes((entry,), live, gpu)
    return largest_first(found)


def largest_first(promised: Mapping[tuple[str, str], int]) -> tuple[Open, ...]:
    """By (unit, model), without those that have taken all."""
    left = [Open(unit, model, amount) for (unit, model), amount in promised.items() if amount > 0]
    return tuple(sorted(left, key=lambda one: (-one.bytes, one.unit, one.model)))


def _measured(entry: Commitment, unit: LiveUnit | None, gpu: int) -> int:
    """0 where NVML does not tell: the promise is then open in full."""
    if unit is None:
        return 0
    if entry.model == UNIT_ITSELF:
        return (unit.measured.get(gpu) or 0) if entry.invocation == unit.invocation else 0
    for model in unit.models:
        if model.process == entry.process:
            return model.measured.get(gpu) or 0
    return 0
