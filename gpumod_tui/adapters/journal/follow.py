"""journald, the user's part, through journalctl."""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from io import BufferedReader
from typing import IO, TYPE_CHECKING, Final

from gpumod_tui.adapters.journal.pages import read_page
from gpumod_tui.adapters.journal.records import (
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
    run,
)
from gpumod_tui.core.errors import JournalUnavailable
from gpumod_tui.core.models import LogLine, LogPage, LogPlace

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable

_END_S: Final = 2.0
_BACKOFF_S: Final = (0.1, 0.5, 1.0, 2.0, 5.0)
_ALIVE_S: Final = 1.0
"""A follower that cannot read the journal ends sooner than that."""
_SAID_BYTES: Final = 4096
_JITTER_S: Final = 0.05
"""journald reads several sockets in turn: a server's first word may be stamped before systemd's "Starting"."""


class JournalctlJournal:
    """The port Journal over journalctl."""

    def tail(self, unit: str, lines: int, *, invocation_id: str = "") -> tuple[LogLine, ...]:
        """The newest lines, oldest first; of one invocation if given. Raises: JournalUnavailable."""
        if not invocation_id:
            return tuple(self._read((unit,), lines, matches_of((unit,))))
        own = [f"_SYSTEMD_USER_UNIT={unit}", f"_SYSTEMD_INVOCATION_ID={invocation_id}"]
        about = [f"USER_UNIT={unit}", f"USER_INVOCATION_ID={invocation_id}"]
        found = self._read((unit,), lines, [*own, "+", *about])
        if found:
            found += self._unattributed(unit, lines, found[0].at - _JITTER_S)
        return tuple(sorted(found, key=lambda line: line.at)[-lines:])

    def follow(
        self,
        units: Iterable[str],
        sink: Callable[[LogLine], None],
        *,
        backlog: int = 200,
        report: Callable[[str], object] = lambda _fault: None,
    ) -> Closeable:
        """Hand every line to `sink`, from one thread, the newest `backlog` lines of all units first; see the port."""
        return _Follower(frozenset(units), sink, backlog, report)

    def page(
        self, units: Iterable[str], place: LogPlace, lines: int, *, later: bool = False, priority: int = 7
    ) -> LogPage:
        """About `lines` lines before or after a place. Raises: JournalUnavailable."""
        return read_page(tuple(sorted(units)), place, lines, later=later, priority=priority)

    def _unattributed(self, unit: str, lines: int, since: float) -> list[LogLine]:
        """What processes said that had died before journald looked which invocation, or even which unit, they were
        of: about one in twenty of those that end at once, and then it is the reason."""
        matches = [f"_SYSTEMD_USER_UNIT={unit}", "+", f"SYSLOG_IDENTIFIER={unit}"]
        records = run(f"--since=@{since:.6f}", f"--lines={lines}", *matches)
        return _lines(
            [record for record in records if record.invocation is None and record.about_unit is None], (unit,)
        )

    def _read(self, units: tuple[str, ...], lines: int, matches: list[str]) -> list[LogLine]:
        return _lines(run(f"--lines={lines}", *matches), units)


class _Follower:
    """One `journalctl --follow` and the thread that reads it; when it dies another goes on where it ended."""

    def __init__(
        self,
        units: frozenset[str],
        sink: Callable[[LogLine], None],
        backlog: int,
        report: Callable[[str], object],
    ) -> None:
        self._units = units
        self._sink = sink
        self._backlog = backlog
        self._report = report
        self._told: str | None = None
        """What was reported last; None: nothing yet."""
        self._matches = matches_of(tuple(sorted(units)))
        self._where = ""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="gpumod-journal", daemon=True)
        if units:
            self._thread.start()
        else:
            self._tell("")

    def close(self) -> None:
        """End the process and the thread; no line is handed on afterwards."""
        self._closing.set()
        with self._lock:
            if self._process is not None:
                self._process.kill()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(_END_S)

    def _run(self) -> None:
        failures = 0
        while not self._closing.is_set():
            before = self._where
            fault = self._go_on()
            if fault:
                self._tell(fault)
            # One that handed on lines did not fail at its start: the next goes on without delay.
            failures = 0 if self._where != before and not fault else min(failures + 1, len(_BACKOFF_S))
            self._closing.wait(_BACKOFF_S[failures - 1] if failures else 0.0)

    def _go_on(self) -> str:
        """Follow until journalctl ends; why it could not be followed, empty where it could."""
        try:
            self._begin()
            self._follow_once()
        except JournalUnavailable as error:
            return error.with_hint
        except Exception as error:  # noqa: BLE001 - a dead thread would leave the pane as if nothing were written
            return f"the journal cannot be followed: {error!r}"
        return ""

    def _tell(self, fault: str) -> None:
        if fault != self._told and not self._closing.is_set():
            self._told = fault
            self._report(fault)

    def _begin(self) -> None:
        """The backlog, and where to go on. Not left to the follower: one that began where nothing matched yet
        (`--follow --lines=200`) now and then shows nothing ever after."""
        if self._where:
            return
        began = time.time()
        records = run(f"--lines={self._backlog}", *self._matches)
        # Without a journal of the user's own journalctl prints nothing, and is content with that.
        if not records and not run("--lines=1"):
            raise JournalUnavailable("the user's journal holds nothing", hint=HINT)
        self._tell("")
        for record in records:
            self._take(record)
        if not records:
            self._where = f"--since=@{began:.6f}"

    def _take(self, record: Record) -> None:
        # First of all: what cannot be handed on must not be met again and again.
        self._where = f"--after-cursor={record.cursor}"
        found = log_line(record, self._units)
        if found is not None and not self._closing.is_set():
            self._sink(found)

    def _follow_once(self) -> None:
        # Without --no-tail a follower shows the newest ten lines only, also after a cursor: the others would be lost.
        call = [*command("--follow", "--no-tail", self._where), *self._matches]
        # A pipe that nobody reads meanwhile could fill, and hold journalctl up.
        with os.fdopen(os.memfd_create("journalctl"), "w+b") as said:
            process = self._start(call, said)
            if process is None:
                return
            assert isinstance(process.stdout, BufferedReader)
            try:
                if not _lives(process.stdout):
                    said.seek(0)
                    raise not_read(process.wait(_END_S), said.read(_SAID_BYTES))
                self._tell("")
                self._hand_on(process.stdout)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()

    def _start(self, call: list[str], said: IO[bytes]) -> subprocess.Popen[bytes] | None:
        """None: this was closed meanwhile. Raises: JournalUnavailable."""
        with self._lock:
            if self._closing.is_set():
                return None
            try:
                self._process = subprocess.Popen(
                    call, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said
                )
            except OSError as error:
                raise not_run(error) from error
            return self._process

    def _hand_on(self, stream: IO[bytes]) -> None:
        while (line := stream.readline(LINE_BYTES)) and not self._closing.is_set():
            if not line.endswith(b"\n") and len(line) >= LINE_BYTES:
                self._skip_rest(stream, line)
                continue
            record = decode(line)
            if record is not None:
                self._take(record)

    def _skip_rest(self, stream: IO[bytes], head: bytes) -> None:
        found = overlong_line(ends_of_overlong(stream, head), self._units, time.time())
        if found is not None:
            self._sink(found)


def _lives(stream: BufferedReader) -> bool:
    """Whether it prints something, or goes on in silence."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        if not selector.select(_ALIVE_S):
            return True
    return bool(stream.peek(1))


def _lines(records: list[Record], units: tuple[str, ...]) -> list[LogLine]:
    return [line for record in records if (line := log_line(record, units)) is not None]
