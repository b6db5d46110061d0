"""What systemd has of units, read over the bus no more often than it can have changed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from jeepney import DBusAddress, DBusErrorResponse, Message

from gpumod_tui.adapters.systemd.bus import Reply, error_text, method
from gpumod_tui.adapters.systemd.state import COUNTERS, SERVICE_PROPERTIES, UNIT_PROPERTIES, state_from, unit_path
from gpumod_tui.adapters.systemd.systemctl import unavailable
from gpumod_tui.core.models import UnitState

NAME: Final = "org.freedesktop.systemd1"
MANAGER: Final = DBusAddress("/org/freedesktop/systemd1", NAME, f"{NAME}.Manager")
UNIT: Final = f"{NAME}.Unit"
SERVICE: Final = f"{NAME}.Service"
PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_DETAILS_S: Final = 5.0
"""How old properties may be while the unit's state has not changed: someone else's reset-failed changes none."""
_COUNTERS_S: Final = 0.5
_TRIES: Final = 4
_EVERYTHING: Final = (*SERVICE_PROPERTIES, *COUNTERS, *UNIT_PROPERTIES)
_OF_THE_FILE: Final = ("Slice", "ExecStart", "FragmentPath")
_NOTHING: Final = dict.fromkeys(_EVERYTHING)

Properties = dict[str, Any]
Key = tuple[Any, ...]
"""LoadState, ActiveState, SubState, job and time of the last change of state: properties hold as long as it does."""


@dataclass(slots=True)
class _Known:
    """What was last read of one unit."""

    key: Key
    read_at: float
    values: Properties
    counted_at: float


class UnitReader:
    """Remembers properties by unit; `ask` sends messages together and gives the answers in their order."""

    def __init__(self, ask: Callable[[list[Message]], list[Reply]], monotonic: Callable[[], float]) -> None:
        self._ask = ask
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}

    def forget(self, unit: str | None = None) -> None:
        """What is known of the unit may have changed; None: of all."""
        if unit is None:
            self._known.clear()
        else:
            self._known.pop(unit, None)

    def states(self, units: list[str]) -> dict[str, UnitState]:
        """The states of those units that systemd knows; all names must be valid. Raises: SystemdUnavailable."""
        states = {}
        for unit, key in self._keys(self._ask(_look(units)), units).items():
            known = self._fresh(unit, key)
            base = dict(zip(("LoadState", "ActiveState", "SubState", "Job"), known.key, strict=False))
            states[unit] = state_from(unit, {**known.values, **base})
        return states

    def _keys(self, replies: list[Reply], units: list[str]) -> dict[str, Key]:
        """Per unit that systemd knows, from the answers to `_look`."""
        rows, *stamps = replies
        if isinstance(rows, DBusErrorResponse):
            raise unavailable(error_text(rows)) from rows
        found = zip(units, rows[0], stamps, strict=True)
        return {
            unit: (row[2], row[3], row[4], row[7], value(stamp))
            for unit, row, stamp in found
            if row[2] != "not-found" or row[3] != "inactive"
        }

    def _fresh(self, unit: str, key: Key) -> _Known:
        """The unit's properties, from memory while its state is the same and they are not old."""
        now = self._monotonic()
        known = self._known.get(unit)
        if known is None or known.key != key or now - known.read_at >= _DETAILS_S or _may_still_empty(known):
            return self._read(unit, key)
        if known.values["ControlGroup"] and now - known.counted_at >= _COUNTERS_S:
            known.values.update(_values(COUNTERS, self._ask([get(unit, SERVICE, name) for name in COUNTERS])))
            known.counted_at = now
        return known

    def _read(self, unit: str, key: Key) -> _Known:
        """All properties; read again if the state changed meanwhile, for a state and a result of two moments lie."""
        for _ in range(_TRIES):
            now = self._monotonic()
            # Each question about an idle unit makes systemd read its file anew: half a millisecond each.
            names = _OF_THE_FILE if _was_never_up(key) else _EVERYTHING
            requests = [get(unit, UNIT if name in UNIT_PROPERTIES else SERVICE, name) for name in names]
            replies = self._ask([*requests, *_look([unit])])
            values = {**_NOTHING, **_values(names, replies)}
            after = self._keys(replies[len(names) :], [unit]).get(unit, ("not-found", "inactive", "dead", 0, None))
            if after == key:
                break
            key = after
        else:
            # It restarts faster than it can be read this way. One answer is of one moment, but 30 times as large.
            now = self._monotonic()
            (reply,) = self._ask([get_all(unit)])
            if not isinstance(reply, DBusErrorResponse):
                key, values = _of_one_answer(reply[0])
        known = _Known(key, now, values, now)
        self._known[unit] = known
        return known


def _look(units: list[str]) -> list[Message]:
    """The cheapest questions that tell whether anything happened to the units since they were last read."""
    stamps = [get(unit, UNIT, "StateChangeTimestampMonotonic") for unit in units]
    return [method(MANAGER, "ListUnitsByNames", "as", units), *stamps]


def get(unit: str, interface: str, name: str) -> Message:
    """The call that asks for one property of a unit."""
    return method(DBusAddress(unit_path(unit), NAME, PROPERTIES), "Get", "ss", interface, name)


def get_all(unit: str) -> Message:
    """The call that asks for all properties of a unit, of all its interfaces."""
    return method(DBusAddress(unit_path(unit), NAME, PROPERTIES), "GetAll", "s", "")


def _of_one_answer(properties: Mapping[str, tuple[str, Any]]) -> tuple[Key, Properties]:
    """What `get_all` was answered: the state, and the properties."""
    found = {name: value for name, (_signature, value) in properties.items()}
    state = [found.get(name) for name in ("LoadState", "ActiveState", "SubState")]
    key = (*state, found["Job"][0] if found.get("Job") else 0, found.get("StateChangeTimestampMonotonic"))
    return key, _tidied({name: found.get(name) for name in _EVERYTHING})


def value(reply: Reply) -> Any:
    """The property's value; None where this systemd, or this kind of unit, has no such property."""
    return None if isinstance(reply, DBusErrorResponse) else reply[0][1]


def _values(names: tuple[str, ...], replies: list[Reply]) -> Properties:
    return _tidied({name: value(reply) for name, reply in zip(names, replies, strict=False)})


def _tidied(values: Properties) -> Properties:
    if "ExecStart" in values:
        values["ExecStart"] = next((entry[0] for entry in values["ExecStart"] or ()), None)
    if "InvocationID" in values:
        values["InvocationID"] = bytes(values["InvocationID"] or b"").hex()
    return values


def _was_never_up(key: Key) -> bool:
    """Nothing has happened to it since systemd read its file, so that all but the file's settings is at its default.

    A unit that still has a process, or was refused and is referenced, has changed its state.
    """
    return key[1:3] == ("inactive", "dead") and not key[3] and not key[4]


def _may_still_empty(known: _Known) -> bool:
    """A unit that is down loses its cgroup when the last process it left behind ends, without a change of state."""
    return known.key[1] in ("inactive", "failed") and bool(known.values["ControlGroup"])
