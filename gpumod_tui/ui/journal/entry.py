"""A line of the journal as the pane holds it, and what is asked of lines."""

from dataclasses import dataclass

from gpumod_tui.core.models import LogLine, LogPlace
from gpumod_tui.ui.journal.sanitize import Span
from gpumod_tui.ui.journal.search import Pattern


@dataclass(slots=True, eq=False)
class Entry:
    """A line that is held."""

    number: int
    """Grows along the journal; not without gaps."""
    line: LogLine
    text: str = ""
    spans: tuple[Span, ...] = ()
    hit: bool = False
    """Asked for by units, level and filter."""
    found: bool = False
    """And by the search."""
    is_mark: bool = False
    """No line: a remark of ours between them."""

    @property
    def place(self) -> LogPlace:
        """Where it stands in the journal."""
        return LogPlace(self.line.at, self.line.cursor)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines are asked for."""

    units: frozenset[str] = frozenset()
    """Names of units; empty: all."""
    priority: int = 7
    """The largest number that is shown."""
    pattern: Pattern | None = None

    def takes(self, line: LogLine) -> bool:
        """Whether unit and level are asked for; the pattern takes longer and is not looked at."""
        return line.priority <= self.priority and (not self.units or line.unit in self.units)


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Pages of the journal that are wanted: before one place, after another, or both."""

    units: frozenset[str]
    """Names of units; empty: all."""
    priority: int
    back: LogPlace | None = None
    forth: LogPlace | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What came since the last look."""

    lines: tuple[LogLine, ...]
    lost: int
    """Lines that came before these and had no room."""
    is_anew: bool = False
    """These are the newest lines of a journal that is followed from here on, whatever came before."""


def remark(number: int, at: float, text: str) -> Entry:
    """An entry that is no line."""
    return Entry(number, LogLine(at, "", text), text, hit=True, is_mark=True)
