"""One session at a terminal: signals, driver and app put together."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Final

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.status.history import History
from gpumod_tui.core.view import View
from gpumod_tui.ui.app import GpumodApp
from gpumod_tui.ui.backend import Archive, Commands, EventConnect, JournalFollow, Snapshots
from gpumod_tui.ui.journal.sanitize import harmless
from gpumod_tui.ui.messages import Fault
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.progress import title
from gpumod_tui.ui.terminal.driver import SurvivingDriver

_ENDS: Final = (signal.SIGHUP, signal.SIGTERM)
_TEXTUALS: Final = (signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
"""Textual leaves its handlers behind; a hang-up brings SIGCONT with it, and the one for that raises without a loop."""
_WITHOUT_MOUSE: Final = ("linux", "vt100", "vt102", "vt220")


class _Session(GpumodApp):
    """The app on a terminal that may go away."""

    def get_driver_class(self) -> type[SurvivingDriver]:
        """Never the default: it blocks, spins or dies with the terminal."""
        return SurvivingDriver


@contextlib.contextmanager
def _faults_of_threads(app: GpumodApp) -> Iterator[None]:
    """Meanwhile what ends a thread is told on the screen, which a traceback would be written over; what that does not
    take any more is told as before, afterwards."""
    before = threading.excepthook
    unseen: list[threading.ExceptHookArgs] = []

    def tell(fault: threading.ExceptHookArgs) -> None:
        if fault.exc_type is SystemExit:
            return
        where = fault.thread.name if fault.thread is not None else "a thread"
        if not app.post_message(Fault(where, f"internal error: {fault.exc_type.__name__}: {fault.exc_value}")):
            unseen.append(fault)

    threading.excepthook = tell
    try:
        yield
    finally:
        threading.excepthook = before
        for fault in unseen:
            before(fault)


def run(
    registry: ServiceRegistry,
    snapshots: Snapshots,
    journal: JournalFollow,
    commands: Commands,
    connect: EventConnect,
    host_name: str,
    options: ViewOptions,
    view: View,
    remember: Callable[[View], None],
    archive: Archive | None,
    history: History | None,
) -> bool:
    """Run until the view ends; True when the terminal was lost or a signal ended it."""
    app = _Session(
        registry,
        snapshots,
        journal,
        commands,
        connect=connect,
        archive=archive,
        history=history,
        host_name=host_name,
        options=options,
        view=view,
    )

    def end(_number: int, _frame: FrameType | None) -> None:
        loop = app.loop
        if loop is None:
            app.lost = True
            return
        loop.call_soon_threadsafe(app.terminal_lost)

    before = {number: signal.getsignal(number) for number in (*_ENDS, *_TEXTUALS)}
    for number in _ENDS:
        signal.signal(number, end)
    try:
        with _faults_of_threads(app):
            app.run(mouse=options.mouse and os.environ.get("TERM") not in _WITHOUT_MOUSE)
    finally:
        remember(app.view)
        for number, handler in before.items():
            signal.signal(number, handler)
    if app.running_switch is not None:
        # The process stays until the switch has ended: without a word that looks like a hang.
        with contextlib.suppress(OSError, ValueError):
            what = harmless(title(app.running_switch))
            sys.stderr.write(f"{what} goes on; this command ends with it. ctrl-c cancels it.\n")
            sys.stderr.flush()
    return app.lost
