"""A dashboard that only looks."""

from typing import Any, Final, cast

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.ui.commands import Commands

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
