"""The dashboard, opened on a host: what it shows, what it commands, and what becomes of a switch that outlives it."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

    from gpumod_tui.adapters.files.view import ViewFile
    from gpumod_tui.core.engine import Engine
    from gpumod_tui.core.events import Event
    from gpumod_tui.core.models import LogLine, LogPage, LogPlace
    from gpumod_tui.core.ports import Closeable
    from gpumod_tui.core.status.history import History
    from gpumod_tui.core.switch.results import ModeResult
    from gpumod_tui.ui.options import ViewOptions
    from gpumod_tui.wiring import RealHost

_PAGE_LINES = 500
"""Of the journal, at a time."""


def view_options(host: RealHost) -> ViewOptions:
    """What config.yaml says of the dashboard. Raises: ConfigInvalid."""
    from gpumod_tui.ui.options import ViewOptions

    config = host.config
    return ViewOptions(
        theme=config.theme,
        ascii_only=config.ascii,
        mouse=config.mouse,
        read_only=config.read_only,
        keys=config.keys,
        keys_from=str(host.places.config / "config.yaml"),
        confirm=config.confirm,
        bell_after_s=config.bell_after_s,
    )


def dashboard(
    host: Engine,
    tell: Callable[[ModeResult], None] = lambda _result: None,
    options: ViewOptions | None = None,
    views: ViewFile | None = None,
    history: History | None = None,
) -> int:
    """Open the dashboard on a host until it is left; a switch that runs then goes on to its end. The exit code.
    Raises: ConfigInvalid.

    To be called in the main thread. `tell` is called in it, at the very end, with every result that the view did not
    live to show; the last one's exit code is then this one's. `views`: where it is remembered how it was left;
    `history`: what was seen of the GPUs before.
    """
    import signal
    import socket

    from gpumod_tui.core.events import SwitchEnded
    from gpumod_tui.core.status.poller import Poller
    from gpumod_tui.core.switch.manager import Manager
    from gpumod_tui.core.switch.records import recorded_truth
    from gpumod_tui.core.switch.watch import SwitchWatch
    from gpumod_tui.core.units.managed import managed_units
    from gpumod_tui.ui import run_dashboard

    sinks: list[Callable[[Event], bool]] = []
    unseen: list[ModeResult] = []

    def report(event: Event) -> None:
        shown = [sink(event) for sink in sinks]
        if isinstance(event, SwitchEnded) and not any(shown):
            unseen.append(event.result)

    manager = Manager(host, report)
    poller = Poller(host, lambda: recorded_truth(host.store.read()))
    watch = SwitchWatch(host.store, host.clock, os.getpid(), report)

    def connect(sink: Callable[[Event], bool]) -> None:
        sinks.append(sink)
        watch.start()

    def follow(units: frozenset[str], sink: Callable[[LogLine], None], report: Callable[[str], object]) -> Closeable:
        return host.journal.follow(units.union(managed_units(host)), sink, report=report)

    cancelling = threading.Lock()

    def cancel(_number: int, _frame: FrameType | None) -> None:
        # A second one may come inside the first one's call, whose lock would never be free for it.
        if cancelling.acquire(blocking=False):
            try:
                manager.cancel()
            finally:
                cancelling.release()

    # The view may end long before the switch does, and terminals hang up on whoever is left behind.
    handlers = {signal.SIGHUP: _go_on, signal.SIGTERM: _go_on, signal.SIGINT: cancel}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        try:
            code = run_dashboard(
                host.registry,
                poller,
                follow,
                manager,
                connect=connect,
                host_name=socket.gethostname(),
                options=options,
                view=views.read() if views is not None else None,
                remember=views.write if views is not None else lambda _view: None,
                archive=_JournalArchive(host),
                history=history,
            )
        finally:
            watch.stop()
            poller.stop()
            manager.close()
        for result in unseen:
            tell(result)
        return unseen[-1].exit_code if unseen else code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _JournalArchive:
    """What the dashboard's journal pane asks for beyond the newest lines."""

    def __init__(self, host: Engine) -> None:
        self._host = host

    def page(self, units: frozenset[str], place: LogPlace, *, later: bool, priority: int) -> LogPage:
        from gpumod_tui.core.units.managed import managed_units

        wanted = units or managed_units(self._host)
        return self._host.journal.page(wanted, place, _PAGE_LINES, later=later, priority=priority)

    def save(self, path: Path, text: str, *, replace: bool) -> bool:
        from gpumod_tui.adapters.files.atomic import save_text

        return save_text(path, text, replace=replace)


def _go_on(_number: int, _frame: FrameType | None) -> None:
    """A handler that does nothing, where SIG_IGN would be inherited by what is started."""
