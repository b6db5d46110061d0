"""Records as `journalctl -o json` prints them, and which unit each belongs to."""

import os
import re
import subprocess
from collections.abc import Collection
from typing import IO, Final

import msgspec

from gpumod_tui.core.errors import JournalUnavailable
from gpumod_tui.core.models import LogLine
from gpumod_tui.core.text import number_of

FIELDS: Final = (
    "MESSAGE",
    "PRIORITY",
    "_PID",
    "SYSLOG_IDENTIFIER",
    "_SYSTEMD_USER_UNIT",
    "USER_UNIT",
    "_SYSTEMD_INVOCATION_ID",
)
_MESSAGE_CHARS: Final = 16 * 1024
_UNIT_IN_TEXT: Final = re.compile(rb'"(?:_SYSTEMD_USER_UNIT|USER_UNIT|SYSLOG_IDENTIFIER)"\s*:\s*"([^"]+)"')

# A field that occurs more than once in a record is printed as a list.
Text = str | list[str | int | list[int]] | None


class Record(msgspec.Struct, rename={"at_us": "__REALTIME_TIMESTAMP", "cursor": "__CURSOR"}):
    """One record; journald has every value as text, a value that is no UTF-8 as a list of bytes, a huge one as null."""

    at_us: str = "0"
    cursor: str = ""
    message: Text = msgspec.field(name="MESSAGE", default=None)
    priority: Text = msgspec.field(name="PRIORITY", default=None)
    pid: Text = msgspec.field(name="_PID", default=None)
    identifier: Text = msgspec.field(name="SYSLOG_IDENTIFIER", default=None)
    own_unit: Text = msgspec.field(name="_SYSTEMD_USER_UNIT", default=None)
    about_unit: Text = msgspec.field(name="USER_UNIT", default=None)
    invocation: Text = msgspec.field(name="_SYSTEMD_INVOCATION_ID", default=None)


_DECODER: Final = msgspec.json.Decoder(Record)


def decode(line: bytes) -> Record | None:
    """The record of one printed line; None for what is none (a line cut off when journalctl was killed)."""
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def log_line(record: Record, units: Collection[str]) -> LogLine | None:
    """The line and the unit of `units` that it belongs to; None: to none of them."""
    unit = _unit(record, units)
    if unit is None:
        return None
    priority = number_of(_text(record.priority))
    return LogLine(
        at=written_at(record),
        unit=unit,
        message="[too long to be shown]" if record.message is None else _text(record.message)[:_MESSAGE_CHARS],
        priority=6 if priority is None else min(priority, 7),
        pid=number_of(_text(record.pid)),
        identifier=_text(record.identifier),
        cursor=record.cursor,
    )


def written_at(record: Record) -> float:
    """Unix time, seconds; 0: it has none."""
    return (number_of(record.at_us) or 0) / 1_000_000


def overlong_line(head: bytes, units: Collection[str], at: float) -> LogLine | None:
    """What is said in place of a record too long to be read whole."""
    for match in _UNIT_IN_TEXT.finditer(head):
        unit = match.group(1).decode(errors="replace")
        if unit in units:
            return LogLine(at=at, unit=unit, message="[too long to be shown]", priority=4)
    return None


def _unit(record: Record, units: Collection[str]) -> str | None:
    """What journald saw counts more than what the record claims: any process may write USER_UNIT.

    The identifier (`SyslogIdentifier=%n`) is all there is when the process had died before journald looked at it.
    """
    own = _text(record.own_unit)
    for candidate in (own, _text(record.about_unit), "" if own else _text(record.identifier)):
        if candidate in units:
            return candidate
    return None


def _text(value: Text) -> str:
    if isinstance(value, list):
        # One value as bytes, or several values of which the first counts.
        if value and not isinstance(value[0], int):
            return _text(value[0] if isinstance(value[0], str) else list(value[0]))
        return bytes(byte & 0xFF for byte in value if isinstance(byte, int)).decode(errors="replace")
    return value or ""


ANSWER_S: Final = 10.0
LINE_BYTES: Final = 4 * 1024 * 1024
HINT: Final = (
    "gpumod needs per-user journals: `journalctl --user` should print something"
    " (persistent storage: `sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald`)"
)
_ENDS_BYTES: Final = 64 * 1024


def matches_of(units: tuple[str, ...]) -> list[str]:
    """What the units' processes say, what systemd says about them, and what lost its unit (see `log_line`)."""
    own = [f"_SYSTEMD_USER_UNIT={unit}" for unit in units]
    about = [f"USER_UNIT={unit}" for unit in units]
    named = [f"SYSLOG_IDENTIFIER={unit}" for unit in units]
    return [*own, "+", *about, "+", *named]


def command(*options: str) -> list[str]:
    """A call that prints records."""
    # --all: without it every value above 4 KiB, such as a long traceback, is printed as null.
    return [
        "journalctl",
        "--user",
        "--no-pager",
        "--quiet",
        "--all",
        "--output=json",
        f"--output-fields={','.join(FIELDS)}",
        *options,
    ]


def environment() -> dict[str, str]:
    """Ours, but for what changes the output."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}


def run(*options: str) -> list[Record]:
    """All that a call prints. Raises: JournalUnavailable."""
    try:
        done = subprocess.run(
            command(*options),
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
        )
    except OSError as error:
        raise not_run(error) from error
    except subprocess.TimeoutExpired as error:
        raise JournalUnavailable(f"journalctl gave no answer within {ANSWER_S:g} s", hint=HINT) from error
    if done.returncode:
        raise not_read(done.returncode, done.stderr)
    return [record for line in done.stdout.splitlines() if (record := decode(line)) is not None]


def not_run(error: OSError) -> JournalUnavailable:
    """There is no journalctl, or it cannot be started."""
    return JournalUnavailable(f"journalctl cannot be run: {error.strerror}", hint=HINT)


def not_read(code: int, stderr: bytes) -> JournalUnavailable:
    """It ended with an error."""
    said = " ".join(stderr.decode(errors="replace").split())
    return JournalUnavailable(f"the journal cannot be read: {said or f'journalctl exited {code}'}", hint=HINT)


def ends_of_overlong(stream: IO[bytes], head: bytes) -> bytes:
    """Read a line of more than `LINE_BYTES` to its end; its first and last bytes, where its fields are."""
    tail = head
    while tail and not tail.endswith(b"\n"):
        tail = stream.readline(LINE_BYTES)
    return head[:_ENDS_BYTES] + tail[-_ENDS_BYTES:]
