"""What only routers can say: whether a load is under way whose asker has died, or that a lost ledger forgot."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

import msgspec

from gpumod_tui.core.box import service_id
from gpumod_tui.core.commitments import IN_FLIGHT_S, ORPHAN_S, Commitment, LedgerState, LiveUnit
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.host import Host
from gpumod_tui.core.models import ModelStatus

_NOT_THERE: Final = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)


class Outcome(Enum):
    """What asking has changed for who was refused."""

    NOTHING = auto()
    SOON = auto()
    """A router answers without a load, and has to do so once more."""
    ROOM = auto()
    """Something is dropped or certain that was not: decide again."""


class Told(msgspec.Struct, frozen=True):
    """Answers of routers."""

    absent: Mapping[str, bool]
    """By a commitment's id: whether the router answers without its model."""
    silent: tuple[str, ...]
    """Services that did not answer."""
    waiting: bool
    """Whether the next answer about some load would come too soon to mean anything."""
    is_certain: bool
    """Whether every router has answered long enough after the ledger was lost."""

    @property
    def is_news(self) -> bool:
        """Whether the ledger changes by it."""
        return bool(self.absent) or self.is_certain


def ask_routers(host: Host, state: LedgerState, live: Mapping[str, LiveUnit], since_boot: float) -> Told:
    """Ask those that matter. Not under the ledger's lock: each answer may take its time. Raises: GpumodError."""
    orphans = [entry for entry in state.commitments if entry.is_orphan]
    waiting = [entry for entry in orphans if _is_fresh(entry, since_boot)]
    doubted = state.doubted_at is not None and since_boot - state.doubted_at >= IN_FLIGHT_S
    routers = running_routers(host, live) if doubted else set()
    absent: dict[str, bool] = {}
    silent: list[str] = []
    for unit in sorted(routers | {entry.unit for entry in orphans if entry not in waiting}):
        there = _models_of(host, unit)
        if there is None:
            silent.append(service_id(unit))
        else:
            absent.update((entry.id, entry.model not in there) for entry in _of(unit, orphans) if entry not in waiting)
    certain = doubted and not any(service_id(unit) in silent for unit in routers)
    return Told(absent, tuple(silent), bool(waiting), certain)


def _is_fresh(entry: Commitment, since_boot: float) -> bool:
    return entry.absent_since is not None and since_boot - entry.absent_since < ORPHAN_S


def _of(unit: str, orphans: list[Commitment]) -> list[Commitment]:
    return [entry for entry in orphans if entry.unit == unit]


def running_routers(host: Host, live: Mapping[str, LiveUnit]) -> set[str]:
    """Units of routers; one in its ExecCondition has no process yet that anybody could have asked."""
    services = host.registry.services
    found = {unit: services.get(service_id(unit)) for unit, one in live.items() if one.admitted}
    return {unit for unit, service in found.items() if service is not None and service.is_router}


def _models_of(host: Host, unit: str) -> set[str] | None:
    """Models that are there or on their way; None: no answer."""
    service = host.registry.services.get(service_id(unit))
    if service is None:
        return None
    try:
        models = host.drivers(service).models(service)
    except ServerError:
        return None
    return {model.id for model in models if model.status not in _NOT_THERE}
