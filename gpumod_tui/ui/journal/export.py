"""Log lines as plain text, for a clipboard or a file."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.journal.entry import Entry

LEVELS: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")


def as_text(entries: Iterable[Entry]) -> str:
    """One line each: local time, unit and pid, level, message."""
    return "".join(f"{_moment(entry.line.at)} {_head(entry)}: {entry.text}\n" for entry in entries)


@dataclass(frozen=True, slots=True)
class Copied:
    """As much text as there was room for, and what is said of it."""

    text: str
    words: str


def newest_that_fit(entries: Sequence[Entry], most_bytes: int) -> Copied:
    """The text of the last ones; one that is too long alone is cut."""
    done: list[str] = []
    limit = f"the {most_bytes // 1024} KiB that a terminal takes"
    left = most_bytes
    for entry in reversed(entries):
        text = as_text([entry])
        left -= len(text.encode("utf-8", "replace"))
        if left < 0:
            if not done:
                cut = text.encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")
                return Copied(cut, f"The newest of {len(entries)} lines copied, cut to {limit}")
            break
        done.append(text)
    count = len(done)
    words = f"{count} line{'' if count == 1 else 's'} copied"
    if count < len(entries):
        words = f"The newest {count} of {len(entries)} lines copied: {limit}"
    return Copied("".join(reversed(done)), words)


def default_path(service_ids: Iterable[str], now: float) -> str:
    """In the home folder, named by unit and time."""
    names = sorted(service_ids)
    of = names[0] if len(names) == 1 else "units" if names else "all"
    return f"~/gpumod-{of}-{datetime.fromtimestamp(now):%Y%m%d-%H%M%S}.log"


def _head(entry: Entry) -> str:
    line = entry.line
    level = LEVELS[line.priority] if 0 <= line.priority < len(LEVELS) else str(line.priority)
    pid = f"[{line.pid}]" if line.pid is not None else ""
    return f"{line.unit.removesuffix('.service')}{pid} {level}"


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return fmt.NOTHING
