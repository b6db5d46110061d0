"""The played journald."""

import bisect
import heapq
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from gpumod_tui.core.errors import JournalUnavailable
from gpumod_tui.core.models import LogLine, LogPage, LogPlace
from gpumod_tui.demo.world import World

KEPT_LINES: Final = 2000


class Subscription:
    """Takes a callback off a list when it is closed."""

    def __init__(
        self,
        entries: list["Subscription"],
        units: frozenset[str],
        sink: Callable[[LogLine], None],
        report: Callable[[str], object],
    ) -> None:
        self._entries = entries
        self.units = units
        self.sink = sink
        self.report = report
        entries.append(self)

    def close(self) -> None:
        """No line after this."""
        if self in self._entries:
            self._entries.remove(self)


class DemoJournal:
    """Satisfies the Journal port."""

    def __init__(self, world: World, past: Callable[[], list[LogLine]] = list) -> None:
        """`past`: what was written before the world began, oldest first; asked for when somebody looks back so far."""
        self._world = world
        self._past = past
        self._written_before: list[LogLine] | None = None
        self._count = 0
        self._lines: dict[str, deque[tuple[str, LogLine]]] = {}
        self._followers: list[Subscription] = []
        self._error: str | None = None

    @property
    def error(self) -> str | None:
        """Why the journal cannot be read; None: it can. To be set."""
        return self._error

    @error.setter
    def error(self, reason: str | None) -> None:
        with self._world.turn():
            self._error = reason
            for follower in tuple(self._followers):
                self._tell_how_it_is(follower)

    def write(
        self, unit: str, message: str, *, priority: int = 6, pid: int | None = None, by: str = "", invocation: str = ""
    ) -> None:
        """Add one line."""
        self._count += 1
        name, cursor = by or unit.removesuffix(".service"), f"now-{self._count}"
        line = LogLine(self._world.clock.time(), unit, message, priority, pid, name, cursor)
        self._lines.setdefault(unit, deque(maxlen=KEPT_LINES)).append((invocation, line))
        for follower in tuple(self._followers):
            if unit in follower.units and self._error is None:
                self._world.tell(lambda follower=follower: follower.sink(line))  # type: ignore[misc]

    def tail(self, unit: str, lines: int, *, invocation_id: str = "") -> tuple[LogLine, ...]:
        """The newest lines, oldest first. Raises: JournalUnavailable."""
        with self._world.turn():
            self._check()
            kept = [line for invocation, line in self._lines.get(unit, ()) if invocation_id in ("", invocation)]
            return tuple(kept[-lines:]) if lines > 0 else ()

    def follow(
        self,
        units: Iterable[str],
        sink: Callable[[LogLine], None],
        *,
        backlog: int = 200,
        report: Callable[[str], object] = lambda _fault: None,
    ) -> Subscription:
        """Hand over the backlog, then every line as it comes; see the port."""
        wanted = frozenset(units)
        with self._world.turn():
            follower = Subscription(self._followers, wanted, sink, report)
            self._tell_how_it_is(follower)
            if self._error is not None:
                return follower
            merged = heapq.merge(
                *([line for _, line in self._lines.get(unit, ())] for unit in wanted), key=lambda line: line.at
            )
            for line in deque(merged, maxlen=backlog):
                self._world.tell(lambda line=line: sink(line))  # type: ignore[misc]
            return follower

    def page(
        self, units: Iterable[str], place: LogPlace, lines: int, *, later: bool = False, priority: int = 7
    ) -> LogPage:
        """Lines before or after a place, also of the days before. Raises: JournalUnavailable."""
        wanted = frozenset(units)
        with self._world.turn():
            self._check()
            if self._written_before is None:
                self._written_before = self._past()
            kept = heapq.merge(
                *([line for _, line in written] for written in self._lines.values()), key=lambda it: it.at
            )
            everything = [*self._written_before, *kept]
        here = next(
            (number for number, line in enumerate(everything) if place.cursor and line.cursor == place.cursor), -1
        )
        if here < 0:
            here = bisect.bisect_left(everything, place.at, key=lambda line: line.at)
            here -= later
        beyond = everything[here + 1 :] if later else everything[:here]
        found = [line for line in beyond if line.unit in wanted and line.priority <= priority]
        if len(found) <= lines:
            return LogPage(tuple(found), None)
        chosen = found[:lines] if later else found[-lines:]
        edge = chosen[-1] if later else chosen[0]
        return LogPage(tuple(chosen), LogPlace(edge.at, edge.cursor))

    def _tell_how_it_is(self, follower: Subscription) -> None:
        fault = "" if self._error is None else _unavailable(self._error).with_hint

        def tell() -> None:
            follower.report(fault)

        self._world.tell(tell)

    def _check(self) -> None:
        if self._error is not None:
            raise _unavailable(self._error)


def _unavailable(reason: str) -> JournalUnavailable:
    return JournalUnavailable(reason, hint="journalctl --user -n 1 shows what is wrong")
