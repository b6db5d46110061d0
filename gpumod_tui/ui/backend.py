"""What the dashboard needs of the rest: a source of snapshots, a journal, and somebody to command."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, cast

from gpumod_tui.core.catalog.modes import ModeSaved
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.events import Event
from gpumod_tui.core.models import LogLine, LogPage, LogPlace, Mode, Snapshot
from gpumod_tui.core.ports import Closeable
from gpumod_tui.core.status.details import ModelChoice, ProcessView, UnitDetails
from gpumod_tui.core.switch.records import SwitchHistory
from gpumod_tui.core.switch.results import SwitchPlan
from gpumod_tui.core.switch.simulate import WhatIf
from gpumod_tui.core.units.actions import Act
from gpumod_tui.core.units.login import LoginMode


class Snapshots(Protocol):
    """The poller."""

    def start(self, callback: Callable[[Snapshot], object], /) -> None:
        """Begin to call back, from threads of its own."""

    def stop(self) -> None:
        """No call after this; joins."""


class Commands(Protocol):
    """The manager. What only looks (`plan`, `details`, …) may block; the others return at once."""

    def plan(self, mode: str, /) -> SwitchPlan:
        """What a switch would do now. Raises: GpumodError."""

    def plan_service(self, verb: str, service: str, /) -> SwitchPlan:
        """The same for start, stop or restart of one service. Raises: GpumodError."""

    def submit_mode(self, mode: str, /) -> object:
        """Queue a switch; its events tell the rest."""

    def submit_service(self, verb: str, service: str, /) -> object:
        """Queue a start, stop or restart."""

    def submit_load(self, service: str, model: str, /) -> object:
        """Queue the load of a model by a running router."""

    def submit_unload(self, service: str, model: str, /) -> object:
        """Queue the unload of a model."""

    def submit_act(self, act: Act, /) -> object:
        """Enable, reset, end a process; an `ActEnded` tells how it went."""

    def models(self, service: str, /) -> tuple[ModelChoice, ...]:
        """A router's models with their needs. Raises: GpumodError."""

    def process(self, pid: int, /) -> ProcessView | None:
        """One process looked at closely; None: it has ended. Raises: GpumodError."""

    def details(self, service: str, /) -> UnitDetails:
        """One unit looked at closely. Raises: GpumodError."""

    def what_if(self, gpus_bytes: tuple[int, ...] = (), /) -> WhatIf:
        """The box and the needs of all services; with idle GPUs of these sizes in place of its own, if there are any.
        Raises: GpumodError."""

    def catalog(self) -> ServiceRegistry:
        """Services and modes as the preset files have them now. Raises: GpumodError."""

    def own_modes(self) -> frozenset[str]:
        """Ids of the modes in the user's own folder."""

    def save_mode(self, mode: Mode, /, *, replaces: bool) -> ModeSaved:
        """Write a mode of the user's own. Raises: ModeTaken, GpumodError."""

    def delete_mode(self, mode_id: str, /) -> ModeSaved:
        """Delete one. Raises: GpumodError."""

    def cancel(self) -> None:
        """Ask the switch that runs to cancel."""

    def cancel_elsewhere(self, switch_id: str, /) -> None:
        """Ask that switch of another process to cancel. May block. Raises: GpumodError."""

    def history(self) -> SwitchHistory:
        """Switches that ended. May block. Raises: GpumodError."""

    def login_mode(self) -> LoginMode:
        """Which mode is switched to at login. May block. Raises: GpumodError."""

    def set_login_mode(self, mode: str | None, /) -> LoginMode:
        """Another one, or none with None. May block. Raises: GpumodError."""

    def fitting(self) -> tuple[str, ...]:
        """Ids of the modes that nothing stands against now, `blank` apart. May block. Raises: GpumodError."""


class Archive(Protocol):
    """What the journal pane asks for beyond the newest lines. Both methods may block."""

    def page(self, units: frozenset[str], place: LogPlace, *, later: bool, priority: int) -> LogPage:
        """A page before or after a place; no units: all that are managed. Raises: GpumodError."""

    def save(self, path: Path, text: str, *, replace: bool) -> bool:
        """Write a file whole; False: there is one of that name, and it stays. Raises: GpumodError."""


JournalFollow = Callable[[frozenset[str], Callable[[LogLine], None], Callable[[str], object]], Closeable]
"""Begin to hand every line of these and all managed units to a sink, from one thread, some of the newest first, and to
report, at first and at every change, why the journal cannot be read (empty: it can). May block, may raise
GpumodError."""

EventConnect = Callable[[Callable[[Event], bool]], None]
"""Give the manager the sink of its events; called once, before any command. The sink returns whether it is shown."""


LOOKS: Final = frozenset(
    [
        "plan",
        "plan_service",
        "models",
        "process",
        "details",
        "history",
        "fitting",
        "login_mode",
        "what_if",
        "catalog",
        "own_modes",
    ],
)
"""What changes nothing; whatever is not named here is refused."""


class ReadOnly(GpumodError):
    """Nothing may be changed from here."""


class _LookingOnly:
    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def __getattr__(self, name: str) -> Any:
        if name in LOOKS:
            return getattr(self._commands, name)
        return _refuse


def _refuse(*_arguments: object, **_named: object) -> object:
    raise ReadOnly("nothing was done: this dashboard is read-only", hint="open it without --read-only")


def looking_only(commands: Commands) -> Commands:
    """The same, but all that would change anything raises ReadOnly."""
    return cast("Commands", _LookingOnly(commands))
