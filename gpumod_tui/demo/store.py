"""The played host's state: nothing on disk, one process."""

import os
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace

from gpumod_tui.core.ports import Clock
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.records import HISTORY_LENGTH, Moment, StoredState, SwitchHistory, SwitchRecord
from gpumod_tui.core.units.login import LoginMode


class MemoryLock:
    """The right to switch on the played host."""

    def __init__(self, store: "MemoryStore", record: SwitchRecord) -> None:
        self._store = store
        self._record = record

    @property
    def record(self) -> SwitchRecord:
        """The newest record written."""
        return self._record

    def write(self, record: SwitchRecord, recorded: Recorded | None = None) -> None:
        """Keep the record, and the reached mode if given."""
        self._record = record
        self._store.put(record, recorded)

    def tell(self, moment: Moment) -> None:
        """Keep where the newest step is."""
        self._store.put_moment(moment)

    def cancel_requested(self) -> bool:
        """Whether `request_cancel` named this switch."""
        return self._store.cancel_id == self._record.id

    def release(self) -> None:
        """Give the lock back; idempotent."""
        self._store.let_go(self)


class MemoryLoginMode:
    """The port `LoginModes` in memory: nothing is switched to anywhere."""

    def __init__(self) -> None:
        self._mode: str | None = None

    def read(self) -> LoginMode:
        """What was written."""
        if self._mode is None:
            return LoginMode()
        return LoginMode(self._mode, "current", enabled=True, lingers=False)

    def write(self, mode: str) -> LoginMode:
        """Remember it."""
        self._mode = mode
        return self.read()

    def clear(self) -> bool:
        """Forget it."""
        before, self._mode = self._mode, None
        return before is not None


class MemoryStore:
    """The port `SwitchStore` in memory."""

    def __init__(self, clock: Clock) -> None:
        self.cancel_id: str | None = None
        self.on_signal: Callable[[int], None] = lambda _number: None
        """A test's stand-in for the process that holds the lock."""
        self._clock = clock
        self._mutex = threading.Lock()
        self._state = StoredState(Recorded(), None, held=False)
        self._holder: MemoryLock | None = None
        self._moment: Moment | None = None
        self._history: tuple[SwitchRecord, ...] = ()

    def record(self, recorded: Recorded) -> None:
        """As if a switch had reached it."""
        with self._mutex:
            self._state = replace(self._state, recorded=recorded)

    def read(self) -> StoredState:
        """The state now."""
        with self._mutex:
            state = replace(self._state, held=self._holder is not None)
            running, moment = state.running, self._moment
            if running is None or moment is None or (moment.switch_id, moment.step) != (running.id, running.step):
                return state
            return replace(state, moment=moment)

    def remember(self, ended: tuple[SwitchRecord, ...]) -> None:
        """As if these had ended before, the newest first."""
        with self._mutex:
            self._history = ended

    def history(self) -> SwitchHistory:
        """Those that ended."""
        with self._mutex:
            return SwitchHistory(self._history)

    def acquire(self, target: str, *, pid: int | None = None, command: str = "gpumod") -> MemoryLock | None:
        """None: it is held. `pid`: of a played process that is not this one."""
        with self._mutex:
            if self._holder is not None:
                return None
            record = SwitchRecord(uuid.uuid4().hex, target, pid or os.getpid(), 0, self._clock.time(), command=command)
            self._state = replace(self._state, switch=record)
            self._holder = MemoryLock(self, record)
            return self._holder

    def request_cancel(self, switch_id: str) -> None:
        """Ask for it."""
        self.cancel_id = switch_id

    def signal(self, record: SwitchRecord, signal: int) -> bool:
        """Hand the signal to `on_signal`."""
        del record
        self.on_signal(signal)
        return True

    def put(self, record: SwitchRecord, recorded: Recorded | None) -> None:
        """What the lock writes."""
        with self._mutex:
            self._state = replace(self._state, switch=record, recorded=recorded or self._state.recorded)
            if record.outcome is not None and all(one.id != record.id for one in self._history):
                self._history = (record, *self._history)[:HISTORY_LENGTH]

    def put_moment(self, moment: Moment) -> None:
        """What the lock tells."""
        with self._mutex:
            self._moment = moment

    def let_go(self, lock: MemoryLock) -> None:
        """The lock's end."""
        with self._mutex:
            if self._holder is lock:
                self._holder = None
