"""The played host's physics: time that happens, processes, and GPU memory that comes back late."""

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from gpumod_tui.core.models import Xid
from gpumod_tui.core.ports import Clock
from gpumod_tui.core.text import MIB

OPERATOR: Final = "op"
"""Who plays."""
TOTAL_BYTES: Final = 24564 * MIB
RESERVED_BYTES: Final = 442 * MIB
IDLE_BYTES: Final = 15 * MIB
"""What the card holds when nobody uses it."""


@dataclass(slots=True)
class Process:
    """A played process and what it holds."""

    pid: int
    command: str
    user: str
    unit: str | None
    held: dict[int, int] = field(default_factory=dict)
    """Bytes by GPU."""
    state: str = "S"
    serves: str = ""
    """The model of a router's child."""
    since: float = 0.0
    """Unix time it began, seconds."""
    ignores_term: bool = False
    """Only SIGKILL ends it."""


@dataclass(slots=True)
class Card:
    """A played GPU."""

    index: int
    releasing_bytes: int = 0
    """Held by nobody any more, and not given back yet."""
    error: str | None = None
    xids: tuple[Xid, ...] | None = ()
    """None: the played driver does not report them."""
    ecc_errors: int | None = None


class World:
    """Everything happens inside `turn()`: first what is due, then a caller's move, then callbacks without the lock."""

    def __init__(self, clock: Clock, gpu_count: int) -> None:
        self.clock = clock
        self.cards = [Card(index) for index in range(gpu_count)]
        self.processes: dict[int, Process] = {}
        self.release_s = 1.0
        """From a process's end until its memory is free again."""
        self.hold_release = False
        """Memory of processes that end from now on never comes back."""
        self.overcommits = 0
        """Moments at which more was held than the card has: on a real box, a crash of the host."""
        self._lock = threading.RLock()
        self._depth = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pids = itertools.count(4711, 12)
        self._outbox: deque[Callable[[], None]] = deque()
        self._delivering = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the world still for one move."""
        with self._lock:
            self._depth += 1
            try:
                if self._depth == 1:
                    self._happen()
                yield
            finally:
                self._depth -= 1
                outermost = self._depth == 0
        if outermost:
            self._deliver()

    def settle(self) -> None:
        """Let happen what is due."""
        with self.turn():
            pass

    def next_due(self) -> float | None:
        """Monotonic time of the next event."""
        with self._lock:
            return self._due[0][0] if self._due else None

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Let something happen later."""
        with self._lock:
            heapq.heappush(self._due, (self.clock.monotonic() + max(0.0, seconds), next(self._order), action))

    def tell(self, callback: Callable[[], None]) -> None:
        """Call back once the lock is free; callbacks never overlap and keep their order."""
        self._outbox.append(callback)

    def spawn(self, command: str, unit: str | None, user: str = OPERATOR) -> Process:
        """A new process that holds nothing yet."""
        process = Process(next(self._pids), command, user, unit, since=self.clock.time())
        self.processes[process.pid] = process
        return process

    def hold(self, process: Process, amount_bytes: int, gpus: tuple[int, ...]) -> None:
        """Let a process hold so much in all, spread equally over the GPUs; a dead one holds nothing."""
        if process.pid not in self.processes:
            return
        for gpu in gpus:
            process.held[gpu] = amount_bytes // len(gpus)
            if self.taken_bytes(gpu) > TOTAL_BYTES - RESERVED_BYTES:
                self.overcommits += 1

    def end(self, process: Process) -> None:
        """End a process; its memory comes back `release_s` later."""
        if self.processes.pop(process.pid, None) is None:
            return
        for gpu, amount in process.held.items():
            self.cards[gpu].releasing_bytes += amount
            if not self.hold_release:
                self.after(self.release_s, lambda gpu=gpu, amount=amount: self._give_back(gpu, amount))  # type: ignore[misc]

    def let_go(self) -> None:
        """Give back at once all that `hold_release` withholds."""
        self.hold_release = False
        for card in self.cards:
            card.releasing_bytes = 0

    def taken_bytes(self, gpu: int) -> int:
        """All that is not free, without the reserved part."""
        held = sum(process.held.get(gpu, 0) for process in self.processes.values())
        return IDLE_BYTES + held + self.cards[gpu].releasing_bytes

    def of_unit(self, unit: str) -> list[Process]:
        """Its processes, oldest first."""
        return [process for process in self.processes.values() if process.unit == unit]

    def _give_back(self, gpu: int, amount: int) -> None:
        card = self.cards[gpu]
        card.releasing_bytes = max(0, card.releasing_bytes - amount)

    def _happen(self) -> None:
        while self._due and self._due[0][0] <= self.clock.monotonic():
            heapq.heappop(self._due)[2]()

    def _deliver(self) -> None:
        with self._lock:
            if self._delivering:
                return
            self._delivering = True
        while True:
            with self._lock:
                # Emptiness and the end of delivery in one breath: else a callback told in between would be stuck.
                if not self._outbox:
                    self._delivering = False
                    return
                callback = self._outbox.popleft()
            try:
                callback()
            except BaseException:
                self._delivering = False
                raise
