"""Records as `journalctl -o json` prints them, and which unit each belongs to."""

import re
from collections.abc import Collection
from typing import Final

import msgspec

from gpumod_tui.core.digits import number_of
from gpumod_tui.core.models import LogLine

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
