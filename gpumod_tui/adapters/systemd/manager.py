"""systemd's user manager over D-Bus; where there is no bus, over systemctl."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from jeepney import DBusErrorResponse, HeaderFields, Message
from jeepney.bus_messages import message_bus

from gpumod_tui.adapters.systemd.bus import Bus, Notifier, Reply, Subscription, error_text, method
from gpumod_tui.adapters.systemd.reader import MANAGER, NAME, PROPERTIES, SERVICE, UNIT, UnitReader, get, value
from gpumod_tui.adapters.systemd.state import AT_LOGIN, SLICE, is_unit_name, missing, unit_at
from gpumod_tui.adapters.systemd.systemctl import SystemctlUnits, unavailable
from gpumod_tui.core.errors import SystemdUnavailable, UnitMissing, UnitRefused
from gpumod_tui.core.models import UnitState

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable

T = TypeVar("T")

_BUS_AGAIN_S: Final = 5.0

_CALL_S: Final = 5.0
_RELOAD_S: Final = 60.0
_ARRIVAL_S: Final = 1.0
_ARRIVAL_STEP_S: Final = 0.02
# Without UnitNew and UnitRemoved: a look at an idle unit loads and unloads it, and would call for the next look.
_MATCHES: Final = (
    *(
        f"type='signal',sender='{NAME}',interface='{NAME}.Manager',member='{member}'"
        for member in ("JobNew", "JobRemoved", "Reloading", "UnitFilesChanged")
    ),
    f"type='signal',sender='{NAME}',interface='{PROPERTIES}',member='PropertiesChanged',arg0='{SERVICE}'",
    f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{NAME}'",
)
_MANAGERS: Final = MANAGER.with_interface(PROPERTIES)
_GONE: Final = frozenset(
    f"org.freedesktop.DBus.Error.{name}"
    for name in ("ServiceUnknown", "NameHasNoOwner", "NoReply", "Disconnected", "Timeout", "TimedOut", "NoServer")
)
_NO_UNIT: Final = frozenset(
    {f"{NAME}.NoSuchUnit", f"{NAME}.NoUnitForPID", "org.freedesktop.DBus.Error.FileNotFound", "System.Error.ENOENT"}
)


class SystemdUnits:
    """The port Units over D-Bus; may be used from several threads, reconnects when the bus comes back.

    A reference is held on each unit that was started here, as long as the connection lives: without one systemd
    forgets why a start was refused (Result=exec-condition) as soon as the unit is down.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bus: Bus | None = None
        self._referenced: set[str] = set()
        self._reader = UnitReader(self._ask_all, time.monotonic)
        self._notifier = Notifier(self._connect)

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """One entry per asked unit, `load_state="not-found"` where systemd has none. Raises: SystemdUnavailable."""
        asked = list(dict.fromkeys(units))
        valid = [unit for unit in asked if is_unit_name(unit)]
        states = {unit: missing(unit) for unit in asked}
        if not valid:
            return states
        return {**states, **self._reader.states(valid)}

    def managed(self) -> tuple[str, ...]:
        """Service units that systemd has loaded in gpumod.slice, sorted. Raises: SystemdUnavailable."""
        members, processes = self._ask_all(
            [get(SLICE, UNIT, "SliceOf"), method(MANAGER, "GetUnitProcesses", "s", SLICE)]
        )
        names = {name for name in value(members) or () if name.endswith(".service")}
        if not isinstance(processes, DBusErrorResponse):
            # A unit whose file was removed while it ran is in no slice for systemd any more, but its processes are.
            for group, _, _ in processes[0]:
                below = group.partition(f"/{SLICE}/")[2].split("/")
                names.update(part for part in below if part.endswith(".service"))
        states = self.states(names)
        return tuple(
            sorted(name for name in names if states[name].load_state != "not-found" or not states[name].is_down)
        )

    def control_group(self) -> str:
        """The user manager's own cgroup, below which those of all its units are. Raises: SystemdUnavailable."""
        (reply,) = self._ask_all([method(_MANAGERS, "Get", "ss", MANAGER.interface, "ControlGroup")])
        if isinstance(reply, DBusErrorResponse):
            raise unavailable(error_text(reply)) from reply
        return str(value(reply))

    def start(self, unit: str) -> None:
        """Queue a start. Raises: UnitMissing, UnitRefused, SystemdUnavailable."""
        if not is_unit_name(unit):
            raise UnitMissing(unit)
        if unit not in self._referenced:
            self._command(unit, "RefUnit", "s", unit)
            self._referenced.add(unit)
        self._command(unit, "StartUnit", "ss", unit, "replace")

    def stop(self, unit: str) -> None:
        """Queue a stop (nothing happens if it is down). Raises: UnitRefused, SystemdUnavailable."""
        self._command_if_loaded(unit, "StopUnit", "ss", unit, "replace")

    def kill(self, unit: str, signal: int) -> None:
        """Send a signal to every process of its cgroup; none there is no error."""
        self._command_if_loaded(unit, "KillUnit", "ssi", unit, "all", signal)

    def reset_failed(self, unit: str) -> None:
        """Clear a failed state and the start limit; not failed is no error."""
        self._command_if_loaded(unit, "ResetFailedUnit", "s", unit)

    def reload(self) -> None:
        """Make the manager read unit files again. Raises: UnitRefused, SystemdUnavailable."""
        try:
            self._call("Reload", timeout_s=_RELOAD_S)
        except DBusErrorResponse as error:
            raise UnitRefused(f"systemd refuses to reload: {error_text(error)}") from error
        self._reader.forget()

    def enable(self, unit: str) -> bool:
        """Start it with the user manager from now on; whether it was not so before. `reload` makes it count.

        Raises: UnitMissing, UnitRefused, SystemdUnavailable.
        """
        if not is_unit_name(unit):
            raise UnitMissing(unit)
        # Another place in [Install] than before is taken, as with `systemctl --force`.
        says_where, changes = self._command(unit, "EnableUnitFiles", "asbb", [unit], False, True)
        if not says_where:
            added = self._command(unit, "AddDependencyUnitFiles", "asssbb", [unit], AT_LOGIN, "Wants", False, True)
            changes = [*changes, *added[0]]
        return bool(changes)

    def disable(self, unit: str) -> bool:
        """Take `enable` back; whether there was anything to take back. Raises: UnitRefused, SystemdUnavailable."""
        if not is_unit_name(unit):
            return False
        try:
            return bool(self._command(unit, "DisableUnitFiles", "asb", [unit], False)[0])
        except UnitMissing:
            return False

    def file_states(self, units: Iterable[str]) -> dict[str, str]:
        """UnitFileState of each that has a file. Raises: SystemdUnavailable."""
        asked = [unit for unit in units if is_unit_name(unit)]
        (reply,) = self._ask_all([method(MANAGER, "ListUnitFilesByPatterns", "asas", [], asked)])
        if isinstance(reply, DBusErrorResponse):
            raise unavailable(error_text(reply)) from reply
        found = {path.rpartition("/")[2]: state for path, state in reply[0]}
        return {unit: found[unit] for unit in asked if unit in found}

    def on_change(self, callback: Callable[[], None]) -> Subscription:
        """Call back, from a thread of its own, soon after any unit changed or the bus came or went."""
        return self._notifier.add(callback)

    def close(self) -> None:
        """End the connection and the thread of `on_change`."""
        self._notifier.close()
        with self._lock:
            bus, self._bus = self._bus, None
        if bus is not None:
            bus.close()

    def _command(self, unit: str, name: str, signature: str, *arguments: Any) -> tuple[Any, ...]:
        try:
            return self._call(name, signature, *arguments)
        except DBusErrorResponse as error:
            if error.name in _NO_UNIT:
                raise UnitMissing(unit) from error
            raise UnitRefused(
                f"systemd refuses {unit}: {error_text(error)}", hint=_refusal_hint(error, unit)
            ) from error
        finally:
            self._reader.forget()

    def _command_if_loaded(self, unit: str, name: str, signature: str, *arguments: Any) -> None:
        if not is_unit_name(unit):
            return
        try:
            self._command(unit, name, signature, *arguments)
        except UnitMissing:
            # Not loaded: nothing of it runs, and nothing is remembered of it.
            return

    def _call(self, name: str, signature: str = "", *arguments: Any, timeout_s: float = _CALL_S) -> tuple[Any, ...]:
        """One call of the manager. Raises: SystemdUnavailable, DBusErrorResponse."""
        (reply,) = self._ask_all([method(MANAGER, name, signature, *arguments)], timeout_s)
        if isinstance(reply, DBusErrorResponse):
            raise reply
        return reply

    def _ask_all(self, messages: list[Message], timeout_s: float = _CALL_S) -> list[Reply]:
        bus = self._connect()
        try:
            replies = bus.call_all(messages, timeout_s)
        except SystemdUnavailable:
            self._drop(bus)
            raise
        for reply in replies:
            if isinstance(reply, DBusErrorResponse) and reply.name in _GONE:
                self._drop(bus)
                raise unavailable(error_text(reply)) from reply
        return replies

    def _connect(self) -> Bus:
        """The living connection, or a new one that has subscribed to signals. Raises: SystemdUnavailable."""
        with self._lock:
            if self._bus is not None and not self._bus.is_lost:
                return self._bus
            self._reader.forget()
            bus = Bus(self._on_signal, self._notifier.notify)
            try:
                self._set_up(bus)
            except SystemdUnavailable:
                bus.close()
                raise
            self._bus = bus
            return bus

    def _set_up(self, bus: Bus) -> None:
        """Signals first: a job that ends before anyone listens would never be heard of."""
        bus.call_all([message_bus.AddMatch(rule) for rule in _MATCHES], _CALL_S)
        deadline = time.monotonic() + _ARRIVAL_S
        while True:
            (subscribed,) = bus.call_all([method(MANAGER, "Subscribe")], _CALL_S)
            if not isinstance(subscribed, DBusErrorResponse) or str(subscribed.name).endswith("AlreadySubscribed"):
                break
            # The connection may be what started the bus, and the manager joins it a moment later.
            if time.monotonic() >= deadline or subscribed.name not in _GONE:
                raise unavailable(error_text(subscribed)) from subscribed
            time.sleep(_ARRIVAL_STEP_S)
        bus.call_all([method(MANAGER, "RefUnit", "s", unit) for unit in sorted(self._referenced)], _CALL_S)

    def _drop(self, bus: Bus) -> None:
        with self._lock:
            if self._bus is bus:
                self._bus = None
        bus.close()

    def _on_signal(self, message: Message) -> bool:
        """Forget what the signal may have changed; False when the manager is another one now."""
        fields = message.header.fields
        member = fields.get(HeaderFields.member)
        if member == "PropertiesChanged":
            self._reader.forget(unit_at(fields[HeaderFields.path]))
        elif member in ("Reloading", "UnitFilesChanged"):
            self._reader.forget()
        self._notifier.notify()
        # Subscriptions and references were those of the manager before, if there was one.
        return not (member == "NameOwnerChanged" and message.body[1])


def connect_units() -> EitherWay:
    """Units over D-Bus, or over systemctl where the bus cannot be reached. Raises: SystemdUnavailable."""
    units = EitherWay(SystemdUnits(), SystemctlUnits())
    units.managed()
    return units


class EitherWay:
    """D-Bus, and systemctl for each call that the bus fails; it has a way of its own to the manager.

    A bus that goes in mid-switch must not keep a rollback from stopping what runs.
    """

    def __init__(self, bus: SystemdUnits, fallback: SystemctlUnits) -> None:
        self._bus = bus
        self._fallback = fallback
        self._bus_again_at = float("-inf")

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """Raises: SystemdUnavailable."""
        names = list(units)
        return self._try(lambda way: way.states(names))

    def managed(self) -> tuple[str, ...]:
        """Raises: SystemdUnavailable."""
        return self._try(lambda way: way.managed())

    def control_group(self) -> str:
        """The user manager's own cgroup. Raises: SystemdUnavailable."""
        return self._try(lambda way: way.control_group())

    def start(self, unit: str) -> None:
        """Raises: UnitMissing, UnitRefused, SystemdUnavailable."""
        self._try(lambda way: way.start(unit))

    def stop(self, unit: str) -> None:
        """Raises: UnitRefused, SystemdUnavailable."""
        self._try(lambda way: way.stop(unit))

    def kill(self, unit: str, signal: int) -> None:
        """Raises: SystemdUnavailable."""
        self._try(lambda way: way.kill(unit, signal))

    def reset_failed(self, unit: str) -> None:
        """Raises: SystemdUnavailable."""
        self._try(lambda way: way.reset_failed(unit))

    def reload(self) -> None:
        """Raises: SystemdUnavailable."""
        self._try(lambda way: way.reload())

    def enable(self, unit: str) -> bool:
        """Raises: UnitMissing, UnitRefused, SystemdUnavailable."""
        return self._try(lambda way: way.enable(unit))

    def disable(self, unit: str) -> bool:
        """Raises: UnitRefused, SystemdUnavailable."""
        return self._try(lambda way: way.disable(unit))

    def file_states(self, units: Iterable[str]) -> dict[str, str]:
        """Raises: SystemdUnavailable."""
        names = list(units)
        return self._try(lambda way: way.file_states(names))

    def show(self, unit: str) -> dict[str, str]:
        """Over systemctl, which words things for people. Raises: SystemdUnavailable."""
        return self._fallback.show(unit)

    def on_change(self, callback: Callable[[], None]) -> Closeable:
        """Without a bus there are no signals, and it never calls back."""
        return self._try(lambda way: way.on_change(callback))

    def close(self) -> None:
        """End the connection."""
        self._bus.close()

    def _try(self, ask: Callable[[SystemdUnits | SystemctlUnits], T]) -> T:
        # A bus that hangs costs seconds a call: it is left alone for a while before it is tried again.
        if time.monotonic() >= self._bus_again_at:
            try:
                return ask(self._bus)
            except SystemdUnavailable:
                self._bus_again_at = time.monotonic() + _BUS_AGAIN_S
        return ask(self._fallback)


def _refusal_hint(error: DBusErrorResponse, unit: str) -> str:
    if str(error.name).endswith("UnitMasked"):
        return f"systemctl --user unmask {unit}"
    if str(error.name).endswith("BadUnitSetting"):
        return f"systemd-analyze --user verify {unit}"
    return f"systemctl --user status {unit}"
