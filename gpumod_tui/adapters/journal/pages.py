"""A bounded piece of the journal, however large what lies there is."""

import subprocess
import threading
from typing import IO, Final

from gpumod_tui.adapters.journal.records import (
    ANSWER_S,
    HINT,
    LINE_BYTES,
    Record,
    command,
    decode,
    ends_of_overlong,
    environment,
    log_line,
    matches_of,
    not_read,
    not_run,
    overlong_line,
    written_at,
)
from gpumod_tui.core.errors import JournalUnavailable
from gpumod_tui.core.models import LogLine, LogPage, LogPlace

PAGE_BYTES: Final = 16 * 1024 * 1024
"""Of printed records, from which on a page ends early."""
_STDERR_BYTES: Final = 4096


def read_page(units: tuple[str, ...], place: LogPlace, lines: int, *, later: bool, priority: int) -> LogPage:
    """See the port. Raises: JournalUnavailable."""
    if not units:
        return LogPage((), None)
    options = [_start(place, later=later), f"--priority={priority}"]
    if not later:
        # One more: the record of the place itself is printed too. Forwards, --lines would mean the newest ones.
        options += ["--reverse", f"--lines={lines + 1}"]
    with _Journalctl(*options, *matches_of(units)) as journalctl:
        found, edge = _read(journalctl.stdout, units, place, lines)
        if edge is None:
            edge = journalctl.check_end(found[-1] if found else None)
    return LogPage(tuple(found if later else reversed(found)), edge)


def _start(place: LogPlace, *, later: bool) -> str:
    # Not --after-cursor: it passes over one more record where the one of that cursor is not among those asked for.
    if place.cursor:
        return f"--cursor={place.cursor}"
    return f"--since=@{place.at:.6f}" if later else f"--until=@{place.at - 1e-6:.6f}"


def _read(
    stream: IO[bytes], units: tuple[str, ...], place: LogPlace, lines: int
) -> tuple[list[LogLine], LogPlace | None]:
    """The lines as they come, and where the next page begins: None when the journal ended before this one did."""
    found: list[LogLine] = []
    edge, count, size = place, 0, 0
    while data := stream.readline(LINE_BYTES):
        size += len(data)
        if not data.endswith(b"\n") and len(data) >= LINE_BYTES:
            line: LogLine | None = overlong_line(ends_of_overlong(stream, data), units, edge.at)
        else:
            record = decode(data)
            if record is None or record.cursor == place.cursor:
                continue
            line, edge = log_line(record, units), _place(record)
        count += 1
        if line is not None:
            found.append(line)
        if count >= lines or size >= PAGE_BYTES:
            return found, edge
    return found, None


def _place(record: Record) -> LogPlace:
    return LogPlace(written_at(record), record.cursor)


class _Journalctl:
    """A call whose output is read as far as it is wanted; it is ended then, or after `ANSWER_S`.

    Raises: JournalUnavailable.
    """

    def __init__(self, *options: str) -> None:
        try:
            self._process = subprocess.Popen(
                command(*options),
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise not_run(error) from error
        self._late = False
        self._timer = threading.Timer(ANSWER_S, self._end_late)
        assert self._process.stdout is not None
        self.stdout: IO[bytes] = self._process.stdout

    def __enter__(self) -> "_Journalctl":
        self._timer.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._timer.cancel()
        self._process.kill()
        self.stdout.close()
        self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def check_end(self, last: LogLine | None) -> LogPlace | None:
        """Why there was no more: None, the journal ended; a place, it took too long, and got as far as that."""
        code = self._process.wait()
        if self._late:
            if last is not None:
                return LogPlace(last.at, last.cursor)
            raise JournalUnavailable(f"journalctl gave no answer within {ANSWER_S:g} s", hint=HINT)
        if code:
            assert self._process.stderr is not None
            raise not_read(code, self._process.stderr.read(_STDERR_BYTES))
        return None

    def _end_late(self) -> None:
        self._late = True
        self._process.kill()
