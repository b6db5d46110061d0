"""Switches of other processes, told like those of this one."""

import contextlib
import threading
from collections.abc import Callable
from typing import Final

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.events import Event, SwitchSeen
from gpumod_tui.core.ports import Clock
from gpumod_tui.core.switch.records import Moment, SwitchRecord, SwitchStore
from gpumod_tui.core.threads import Unexpected

LOOK_S: Final = 0.25
_JOIN_S: Final = 5.0


class SwitchWatch:
    """Looks at the state folder in a thread of its own, and reports what changed there."""

    def __init__(self, store: SwitchStore, clock: Clock, pid: int, report: Callable[[Event], object]) -> None:
        """`pid`: of this process, whose own switches tell themselves."""
        self._store = store
        self._clock = clock
        self._pid = pid
        self._report = report
        self._unexpected = Unexpected()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: tuple[SwitchRecord | None, bool, Moment | None] | None = None

    def start(self) -> None:
        """Begin; reports come from the thread."""
        self._thread = threading.Thread(target=self._run, name="gpumod-elsewhere", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No report after this; idempotent."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)

    def look(self) -> None:
        """One look. What lay there before the first one and does not run any more is no news. Raises: GpumodError."""
        stored = self._store.read()
        running = stored.running is not None
        now = (stored.switch, running, stored.moment)
        before, self._seen = self._seen, now
        if stored.switch is None or stored.switch.pid == self._pid or now == before:
            return
        if running or before is not None:
            self._report(SwitchSeen(stored.switch, running, stored.moment))

    def _run(self) -> None:
        while not self._stop.is_set():
            self._look_guarded()
            self._clock.wait(self._stop, LOOK_S)

    def _look_guarded(self) -> None:
        # Where the state cannot be read, the snapshots say so.
        try:
            with contextlib.suppress(GpumodError):
                self.look()
        except Exception as error:  # noqa: BLE001 - a dead thread would never show a switch elsewhere again
            self._unexpected.tell(error)
