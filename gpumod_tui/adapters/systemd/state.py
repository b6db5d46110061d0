"""systemd's properties of a unit, as D-Bus or `systemctl show` give them, turned into core's words."""

import re
from collections.abc import Mapping
from typing import Any, Final

from gpumod_tui.core.models import ActiveState, UnitState

_UNKNOWN_64: Final = 2**64 - 1
_UNIT_NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,246}\.(service|socket|scope|slice|target|timer|path|mount)")

SLICE: Final = "gpumod.slice"
"""What all of gpumod's units run in."""

AT_LOGIN: Final = "default.target"
"""What wants a unit that is enabled and does not say itself where."""

SERVICE_PROPERTIES: Final = (
    "Result",
    "MainPID",
    "ExecMainCode",
    "ExecMainStatus",
    "NRestarts",
    "ControlGroup",
    "Slice",
    "ExecStart",
)
COUNTERS: Final = ("MemoryCurrent", "CPUUsageNSec")
"""What moves while nothing happens to the unit."""
UNIT_PROPERTIES: Final = ("FragmentPath", "InvocationID", "StateChangeTimestamp")


def is_unit_name(name: str) -> bool:
    """Whether systemd would look at the name at all; one it would not fails the whole request."""
    return _UNIT_NAME.fullmatch(name) is not None


def missing(unit: str) -> UnitState:
    """The state of a unit that systemd does not know."""
    return UnitState(unit=unit, load_state="not-found")


def state_from(unit: str, values: Mapping[str, Any]) -> UnitState:
    """The state from properties under systemd's names; what is absent is unknown.

    `ExecStart` is the program's path here, `InvocationID` hexadecimal, `StateChangeTimestamp` in microseconds.
    """
    ended = bool(values.get("ExecMainCode"))
    changed_us = values.get("StateChangeTimestamp") or 0
    return UnitState(
        unit=unit,
        load_state=values["LoadState"],
        active_state=ActiveState(values["ActiveState"]),
        sub_state=values["SubState"],
        result=values.get("Result") or "success",
        main_pid=values.get("MainPID") or None,
        exit_status=values.get("ExecMainStatus") if ended else None,
        restarts=values.get("NRestarts") or 0,
        job_pending=bool(values.get("Job")),
        control_group=values.get("ControlGroup") or "",
        since=changed_us / 1_000_000 if changed_us else None,
        invocation_id=values.get("InvocationID") or "",
        exec_path=values.get("ExecStart"),
        fragment_path=values.get("FragmentPath") or None,
        slice=values.get("Slice") or "",
        memory_bytes=known(values.get("MemoryCurrent")),
        cpu_usage_ns=known(values.get("CPUUsageNSec")),
    )


def known(number: int | None) -> int | None:
    """A counter, or None where systemd has none: it says 2^64−1."""
    return None if number == _UNKNOWN_64 else number


_PATH: Final = "/org/freedesktop/systemd1/unit/"


def unit_path(unit: str) -> str:
    """The unit's object on the bus: all but letters and digits is `_` and two hexadecimal digits."""
    escaped = [c if c.isascii() and c.isalnum() else f"_{ord(c):02x}" for c in unit]
    if unit[:1].isascii() and unit[:1].isdigit():
        escaped[0] = f"_{ord(unit[0]):02x}"
    return _PATH + "".join(escaped)


def unit_at(path: str) -> str:
    """The unit whose object lies at the path."""
    return re.sub(r"_([0-9a-f]{2})", lambda match: chr(int(match.group(1), 16)), path.removeprefix(_PATH))
