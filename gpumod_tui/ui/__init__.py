"""The dashboard. Importing this package imports no Textual; `run_dashboard` does."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumod_tui.core.catalog.registry import ServiceRegistry
    from gpumod_tui.core.status.history import History
    from gpumod_tui.core.view import View
    from gpumod_tui.ui.backend import Archive, Commands, EventConnect, JournalFollow, Snapshots
    from gpumod_tui.ui.options import ViewOptions


LOST_EXIT = 129
"""The terminal was lost or a signal ended the view."""


def can_show() -> bool:
    """Whether there is a terminal to draw on; frames go to stderr, keys come from stdin."""
    if os.environ.get("TERM", "") in ("", "dumb"):
        return False
    return all(stream is not None and stream.isatty() for stream in (sys.__stdin__, sys.__stderr__))


def run_dashboard(
    registry: "ServiceRegistry",
    snapshots: "Snapshots",
    journal: "JournalFollow",
    commands: "Commands",
    *,
    connect: "EventConnect" = lambda _sink: None,
    host_name: str = "localhost",
    options: "ViewOptions | None" = None,
    view: "View | None" = None,
    remember: "Callable[[View], None]" = lambda _view: None,
    archive: "Archive | None" = None,
    history: "History | None" = None,
) -> int:
    """Show the dashboard until it is left; 0, or `LOST_EXIT` when the terminal was lost.

    To be called in the main thread. Signals mean what they meant before when this returns: who lets a switch go on in
    this process sees to it beforehand that they do not kill it. `remember` is
    given the view as it was left. Raises: ConfigInvalid, for keys that cannot be.
    """
    from gpumod_tui.core.view import View
    from gpumod_tui.ui.options import ViewOptions
    from gpumod_tui.ui.session import run

    lost = run(
        registry,
        snapshots,
        journal,
        commands,
        connect,
        host_name,
        options or ViewOptions(),
        view or View(),
        remember,
        archive,
        history,
    )
    return LOST_EXIT if lost else 0


def key_table() -> "list[tuple[str, list[str], str]]":
    """Id, keys and what they do, of everything that `keys` in config.yaml may change."""
    from gpumod_tui.ui.app import GpumodApp
    from gpumod_tui.ui.keys.keymap import told
    from gpumod_tui.ui.keys.scopes import scopes

    return told(scopes(GpumodApp))
