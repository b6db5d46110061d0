"""How the box stands to the recorded mode."""

from collections.abc import Iterable
from typing import Final

import msgspec

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import UnknownName
from gpumod_tui.core.models import BLANK, ActiveState, ModelStatus, ModeTruth, ModeView, OnLeave, ServiceView

_IN_MEMORY: Final = (ModelStatus.LOADING, ModelStatus.LOADED, ModelStatus.SLEEPING)


class Recorded(msgspec.Struct, frozen=True):
    """The last mode that a switch reached. `mode` None: none, or the last switch failed half-way; `note` says so."""

    mode: str | None = None
    since: float | None = None
    note: str = ""


def mode_view(registry: ServiceRegistry, recorded: Recorded, services: Iterable[ServiceView]) -> ModeView:
    """Hold the recorded mode against what runs, and its routers' default models against what is in memory.

    A router that has not told its models yet lacks none.
    """
    if recorded.mode is None:
        return ModeView(None, ModeTruth.UNKNOWN, recorded.note or "no switch was recorded yet", recorded.since)
    try:
        wanted = registry.with_dependencies(registry.mode(recorded.mode).services)
    except UnknownName as error:
        return ModeView(recorded.mode, ModeTruth.UNKNOWN, str(error), recorded.since)
    views = {view.id: view for view in services}

    def counts(view: ServiceView) -> bool:
        return not view.state.is_down and (recorded.mode == BLANK or not _was_left_to_sleep(view))

    lacking = [what for service_id in wanted if (what := _lacking(service_id, views.get(service_id)))]
    extra = [f"{view.id} runs too" for view in views.values() if view.id not in wanted and counts(view)]
    astray = [
        view
        for view in views.values()
        if (not view.is_ready if view.id in wanted else counts(view)) and view.state.since is not None
    ]
    changed_at = max((view.state.since or 0.0 for view in astray), default=None)
    if lacking:
        return ModeView(recorded.mode, ModeTruth.PARTIAL, "; ".join(lacking + extra), recorded.since, changed_at)
    if extra:
        return ModeView(recorded.mode, ModeTruth.DRIFTED, "; ".join(extra), recorded.since, changed_at)
    return ModeView(recorded.mode, ModeTruth.REACHED, recorded.note, recorded.since)


def _lacking(service_id: str, view: ServiceView | None) -> str:
    """What of it is not as the switch left it; empty: nothing."""
    if view is None or not view.is_ready:
        return f"{service_id} {_lack(view)}"
    model = view.service.default_model if view.service is not None and view.service.is_router else None
    if model is None or not view.models:
        return ""
    status = next((known.status for known in view.models if known.id == model), None)
    if status in (ModelStatus.LOADED, ModelStatus.SLEEPING):
        return ""
    return f"{'loading' if status is ModelStatus.LOADING else 'not loaded'}: {model}"


def _lack(view: ServiceView | None) -> str:
    if view is None or view.state.load_state == "not-found":
        return "is not installed"
    if view.is_asleep:
        return "sleeps"
    if view.state.active_state is ActiveState.ACTIVE:
        return "is not ready"
    if view.state.active_state is ActiveState.FAILED:
        return f"failed ({view.state.result})"
    if view.state.active_state is ActiveState.INACTIVE:
        return "does not run"
    return f"is {view.state.active_state}"


def _was_left_to_sleep(view: ServiceView) -> bool:
    """Whether it is there on purpose though the mode does not hold it: no drift while it sleeps."""
    if view.service is None or view.service.on_leave is not OnLeave.SLEEP:
        return False
    if view.service.is_router:
        return not any(model.status in _IN_MEMORY for model in view.models)
    return view.is_asleep
