"""What can be done to a unit: to the selected one from anywhere on the dashboard, and on the screen of one unit."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Final

from textual.binding import Binding
from textual.screen import Screen, ScreenResultType

from gpumod_tui.core.models import ActiveState, ModelStatus, ServiceView
from gpumod_tui.ui.messages import Ask, EndWish, UnitWish
from gpumod_tui.ui.units.pane import UnitTable

_IN_MEMORY: Final = (ModelStatus.LOADED, ModelStatus.LOADING, ModelStatus.SLEEPING)
_ON_DISK: Final = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)


ACTING: Final = frozenset(("service", "plan", "wish"))
"""Actions that change a unit, or plan to."""
UNIT_KEYS: Final = (
    Binding(
        "s", "service('start')", "start", id="unit.start", tooltip="start the selected unit: plan first, as for modes"
    ),
    Binding("x", "service('stop')", "stop", id="unit.stop", tooltip="stop it"),
    Binding("r", "service('restart')", "restart", id="unit.restart", tooltip="restart it"),
    Binding("l", "wish('load')", "load", id="unit.load", tooltip="load a model into its router"),
    Binding("u", "wish('unload')", "unload", id="unit.unload", tooltip="unload a model of its router"),
    Binding("p", "plan('sleep')", "sleep", id="unit.sleep", tooltip="put it to sleep: its VRAM is given back"),
    Binding("k", "plan('wake')", "wake", id="unit.wake", tooltip="wake it, if its memory fits"),
    Binding("e", "wish('enable')", "enable", id="unit.enable", tooltip="start it at login from now on"),
    Binding("e", "wish('disable')", "disable", id="unit.disable", tooltip="do not start it at login any more"),
    Binding("c", "wish('reset-failed')", "clear", id="unit.reset_failed", tooltip="clear its failed state"),
)
"""The same on every screen that has a unit."""


class UnitActions(Screen[ScreenResultType]):
    """A screen with a unit to act on. `may_NAME` says whether `action_NAME` is valid now."""

    @property
    @abstractmethod
    def unit(self) -> ServiceView | None:
        """The one that keys act on; None: there is none now."""

    def may_service(self, verb: str) -> bool:
        """As far as the unit's state says."""
        view = self.unit
        if view is None:
            return False
        if verb == "stop":
            return not view.state.is_down
        if view.service is None:
            # Without a preset nothing says what it needs.
            return False
        if verb == "start":
            return view.state.is_down
        return view.state.active_state is ActiveState.FAILED or not view.state.is_down

    def action_service(self, verb: str) -> None:
        """Start, stop or restart it: plan it first."""
        if self.unit is not None:
            self.ask(Ask(verb, self.unit.id))

    def may_wish(self, verb: str) -> bool:
        """As far as the unit's state says."""
        return self.unit is not None and _VALID[verb](self.unit)

    def action_wish(self, verb: str) -> None:
        """Hand it to the app."""
        if self.unit is not None:
            self.ask(UnitWish(verb, self.unit.id))

    def may_plan(self, verb: str) -> bool:
        """Whether it is awake, or asleep."""
        view = self.unit
        return view is not None and (view.is_asleep if verb == "wake" else _may_sleep(view))

    def action_plan(self, verb: str) -> None:
        """Plan it first, as a start."""
        if self.unit is not None:
            self.ask(Ask(verb, self.unit.id))

    def ask(self, wish: Ask | UnitWish) -> None:
        """Hand it to the app."""
        self.post_message(wish)


class SelectedUnit(UnitActions[None]):
    """A screen with a unit table: its selected row is acted on."""

    units: UnitTable

    @property
    def unit(self) -> ServiceView | None:
        """Under the cursor; None: there is none, or it is a process."""
        return self.units.selected

    def may_wish(self, verb: str) -> bool:
        """A process, too, can be seen closely."""
        return super().may_wish(verb) or (verb == "details" and self.units.orphan is not None)

    def action_wish(self, verb: str) -> None:
        """Hand it to the app."""
        orphan = self.units.orphan
        if verb == "details" and orphan is not None:
            self.post_message(EndWish(orphan.pid, asks=False))
        else:
            super().action_wish(verb)

    def may_clear_filter(self) -> bool:
        """There is one."""
        return bool(self.units.needle)

    def action_clear_filter(self) -> None:
        """All units again."""
        self.units.needle = ""

    def may_end(self) -> bool:
        """A process of no managed unit is selected."""
        return self.units.orphan is not None

    def action_end(self) -> None:
        """Ask first."""
        orphan = self.units.orphan
        if orphan is not None:
            self.post_message(EndWish(orphan.pid))


def _may_sleep(view: ServiceView) -> bool:
    if view.service is None or not view.is_ready:
        return False
    if view.service.is_router:
        return _may_unload(view)
    return view.service.can_sleep


def _may_load(view: ServiceView) -> bool:
    router = view.service is not None and view.service.is_router and view.is_ready
    return router and any(model.status in _ON_DISK for model in view.models)


def _may_unload(view: ServiceView) -> bool:
    router = view.service is not None and view.service.is_router and view.is_ready
    return router and any(model.status in _IN_MEMORY for model in view.models)


def _may_enable(view: ServiceView) -> bool:
    return view.state.load_state == "loaded" and view.state.file_state in ("disabled", "static", "indirect")


_VALID: Final[Mapping[str, Callable[[ServiceView], bool]]] = {
    "details": lambda _view: True,
    "load": _may_load,
    "unload": _may_unload,
    "enable": _may_enable,
    "disable": lambda view: view.state.file_state == "enabled",
    "reset-failed": lambda view: view.state.active_state is ActiveState.FAILED,
}
