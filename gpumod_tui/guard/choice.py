"""Which of the routers that share a port a model's request goes to. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from gpumod_tui.core.models import ModelStatus


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running router that has the model."""

    service: str
    status: ModelStatus
    is_default: bool
    """Whether it is the router's default model."""


_BUSY = (ModelStatus.LOADED, ModelStatus.LOADING, ModelStatus.SLEEPING)


def choose(candidates: Sequence[Candidate]) -> str | tuple[str, ...]:
    """The service to ask, or the names of those that it could be; empty: nobody has the model.

    Where it is loaded, else loading, else asleep, else the router whose default model it is, else the only one.
    """
    for status in _BUSY:
        found = [one.service for one in candidates if one.status is status]
        if found:
            return min(found)
    defaults = [one.service for one in candidates if one.is_default]
    if len(defaults) == 1:
        return defaults[0]
    names = tuple(sorted(defaults or [one.service for one in candidates]))
    return names[0] if len(names) == 1 else names
