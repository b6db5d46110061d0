"""The rows of the unit table: which, and in which order; pure."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.models import ActiveState, Holder, ServiceView, Snapshot

Item = ServiceView | Holder
"""A unit, or a GPU process of no managed unit."""


class Order(StrEnum):
    """How the rows are sorted."""

    CATALOG = "catalog"
    VRAM = "VRAM"
    NAME = "name"
    STATE = "state"


ORDERS: Final = tuple(Order)
_RANKS: Final[Mapping[ActiveState, int]] = MappingProxyType(
    {
        ActiveState.FAILED: 0,
        ActiveState.DEACTIVATING: 1,
        ActiveState.ACTIVATING: 1,
        ActiveState.RELOADING: 1,
        ActiveState.ACTIVE: 3,
        ActiveState.INACTIVE: 4,
        ActiveState.UNKNOWN: 5,
    }
)


def key_of(item: Item) -> str:
    """What stays the same of a row from one look to the next."""
    return f"pid {item.pid} on {item.gpu}" if isinstance(item, Holder) else item.id


def arranged(snapshot: Snapshot | None, order: Order, needle: str) -> tuple[Item, ...]:
    """The rows; orphans come last, but where memory decides."""
    if snapshot is None:
        return ()
    wanted = needle.casefold()
    everything: list[Item] = [*snapshot.services, *snapshot.orphans]
    items = [item for item in everything if wanted in _words(item).casefold()]
    if order is Order.VRAM:
        items.sort(key=lambda item: -(_held(item) or 0))
    elif order is Order.NAME:
        items.sort(key=lambda item: (isinstance(item, Holder), _name(item)))
    elif order is Order.STATE:
        items.sort(key=_rank)
    return tuple(items)


def _held(item: Item) -> int | None:
    return item.used_bytes if isinstance(item, Holder) else item.vram_bytes


def _name(item: Item) -> str:
    return item.command if isinstance(item, Holder) else item.id


def _rank(item: Item) -> int:
    """What wants to be looked at comes first."""
    if isinstance(item, Holder):
        return 6
    if item.state.active_state is ActiveState.ACTIVE and not item.is_ready:
        return 2
    return _RANKS[item.state.active_state]


def _words(item: Item) -> str:
    """What the filter looks at."""
    if isinstance(item, Holder):
        return f"{item.pid} {item.command} {item.user} {item.unit or ''}"
    name = item.service.name if item.service else ""
    models = " ".join(model.id for model in item.models if model.status not in ("unloaded", "downloaded"))
    return f"{item.id} {name} {item.state.active_state} {item.state.sub_state} {item.state.result} {models}"
