"""How many models a router may hold: past that it would end the one that was used longest ago, whoever it answers."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from gpumod_tui.core.models import ModelState, ModelStatus, Service

NOT_LOADED: Final = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)
_NO_PLACE: Final = (*NOT_LOADED, ModelStatus.DOWNLOADING)


@dataclass(frozen=True, slots=True)
class FullRouter:
    """Why a router has no place for one more model, and what would help."""

    reason: str
    hint: str


def full_router(service: Service, models: Iterable[ModelState], coming: str) -> FullRouter | None:
    """None: there is a place for the model `coming`, or it has one already. `models`: what the router tells."""
    others = [one.id for one in models if one.status not in _NO_PLACE and one.id != coming]
    limit = _limit(service)
    if not limit or len(others) < limit:
        return None
    evicts = service.unit_vars.get("evict")
    unasked = f"the guard unloads an idle one for a request that asks for {coming}"
    why = "evict: true holds for requests, since the guard alone sees which one is idle"
    return FullRouter(
        f"{service.id} holds as many models as it may ({limit}), and none is unloaded for {coming} unasked"
        f"{f' ({why})' if evicts else ''}: {', '.join(others)}",
        f"gpumod service unload {service.id} {others[0]}; or a larger models_max in its preset; "
        + (unasked if evicts else f"with evict: true {unasked}"),
    )


def _limit(service: Service) -> int:
    """0: no limit."""
    limit = service.unit_vars.get("models_max", 1)
    return limit if isinstance(limit, int) else 1
