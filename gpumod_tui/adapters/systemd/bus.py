"""One connection to the user's D-Bus: many calls at once, each with a limit, and signals handed on."""

import contextlib
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from jeepney import (
    DBusAddress,
    DBusErrorResponse,
    HeaderFields,
    Message,
    MessageFlag,
    MessageType,
    Parser,
    new_method_call,
)
from jeepney.bus import get_connectable_addresses
from jeepney.bus_messages import message_bus
from jeepney.io.blocking import prep_socket

from gpumod_tui.adapters.systemd.systemctl import unavailable
from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.core.threads import Unexpected

_CONNECT_S: Final = 2.0
_CHUNK: Final = 65536

Reply: TypeAlias = "tuple[Any, ...] | DBusErrorResponse"
"""The body of an answer, or the error that came instead."""


def bus_address() -> str:
    """Path of the user bus's socket (abstract ones begin with a zero byte). Raises: SystemdUnavailable."""
    named = os.environ.get("DBUS_SESSION_BUS_ADDRESS")
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    # The manager's own socket first: a session bus started by a desktop or by dbus-launch may know no systemd.
    own = Path(runtime) / "bus"
    if not named or _is_socket(own):
        return str(own)
    try:
        return str(next(get_connectable_addresses(named)))
    except (ValueError, RuntimeError, StopIteration) as error:
        raise unavailable(f"DBUS_SESSION_BUS_ADDRESS={named} is no address of a unix socket") from error


def _is_socket(path: Path) -> bool:
    try:
        return path.is_socket()
    except PermissionError:
        return False


class _Batch:
    """Calls sent together; done when every answer is there, or the bus is lost."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.answers: dict[int, Message] = {}
        self.done = threading.Event()


class Bus:
    """A connected bus. A reader thread takes answers and signals; `on_signal` and `on_lost` run in it.

    `on_signal` tells whether the connection is still of use; neither may ask the bus anything.
    """

    def __init__(self, on_signal: Callable[[Message], bool], on_lost: Callable[[], None]) -> None:
        address = bus_address()
        try:
            self._socket = prep_socket(address, timeout=_CONNECT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise unavailable(f"{address.replace(chr(0), '@')}: {error}") from error
        self._socket.settimeout(None)
        # A bus that stops reading must not hold a caller for ever once the socket's buffer is full.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(_CONNECT_S))
        self._on_signal = on_signal
        self._on_lost = on_lost
        self._serials = itertools.count(1)
        self._send_lock = threading.Lock()
        self._batches_lock = threading.Lock()
        self._batches: dict[int, _Batch] = {}
        self._lost: str | None = None
        self._reader = threading.Thread(target=self._read, name="gpumod-bus", daemon=True)
        self._reader.start()
        try:
            self.call_all([message_bus.Hello()], _CONNECT_S)
        except SystemdUnavailable:
            self.close()
            raise

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost is not None

    def call_all(self, messages: Sequence[Message], timeout_s: float) -> list[Reply]:
        """The answers to all messages, sent at once, in their order. Raises: SystemdUnavailable."""
        if not messages:
            return []
        serials = [next(self._serials) for _ in messages]
        data = b"".join(message.serialise(serial=serial) for message, serial in zip(messages, serials, strict=True))
        batch = _Batch(len(serials))
        with self._batches_lock:
            self._batches.update(dict.fromkeys(serials, batch))
        try:
            self._send(data)
            # What was lost before the batch was entered would never wake it.
            if self._lost is None:
                batch.done.wait(timeout_s)
        finally:
            with self._batches_lock:
                for serial in serials:
                    self._batches.pop(serial, None)
        return [self._reply(batch.answers.get(serial), timeout_s) for serial in serials]

    def close(self) -> None:
        """End the connection and its thread."""
        self._fail("closed")
        if self._reader is not threading.current_thread():
            self._reader.join(_CONNECT_S)

    def _send(self, data: bytes) -> None:
        try:
            with self._send_lock:
                self._socket.sendall(data)
        except OSError as error:
            self._fail(str(error))
            raise unavailable(f"the bus went away: {error}") from error

    def _reply(self, answer: Message | None, timeout_s: float) -> Reply:
        if answer is None:
            if self._lost is not None:
                raise unavailable(f"the bus went away: {self._lost}")
            raise unavailable(f"no answer within {timeout_s:g} s")
        if answer.header.message_type is MessageType.error:
            return DBusErrorResponse(answer)
        body: tuple[Any, ...] = answer.body
        return body

    def _read(self) -> None:
        parser = Parser()
        reason = "closed by the other side"
        try:
            while data := self._socket.recv(_CHUNK):
                parser.add_data(data)
                while (message := parser.get_next_message()) is not None:
                    self._take(message)
        except Exception as error:  # noqa: BLE001 - whatever ends this thread, nobody is to wait for it
            reason = str(error) or type(error).__name__
        self._fail(reason)
        self._socket.close()
        self._on_lost()

    def _take(self, message: Message) -> None:
        if message.header.message_type is MessageType.signal:
            if not self._on_signal(message):
                self._fail("the user manager went away")
            return
        serial = message.header.fields.get(HeaderFields.reply_serial)
        with self._batches_lock:
            batch = self._batches.get(serial)
        if batch is not None:
            batch.answers[serial] = message
            if len(batch.answers) == batch.size:
                batch.done.set()

    def _fail(self, reason: str) -> None:
        if self._lost is None:
            self._lost = reason
        with self._batches_lock:
            for batch in self._batches.values():
                batch.done.set()
        # Ends the reader's recv too; it closes the socket, so that no other thread's descriptor is read by mistake.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def method(address: DBusAddress, name: str, signature: str = "", *arguments: Any) -> Message:
    """A call that never starts a service by itself: a manager that is not there is not to be invented."""
    message = new_method_call(address, name, signature or None, arguments)
    message.header.flags |= MessageFlag.no_auto_start
    return message


def error_text(error: DBusErrorResponse) -> str:
    """What the error says to people, or its name."""
    return str(error.data[0]) if error.data else str(error.name)


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


_RETRY_S: Final = 1.0
_IDLE_S: Final = 60.0
_JOIN_S: Final = 2.0


class Subscription:
    """One callback, until it is closed."""

    def __init__(self, end: Callable[["Subscription"], None]) -> None:
        self._end = end

    def close(self) -> None:
        """Call back no more."""
        self._end(self)


class Notifier:
    """Calls every callback after `notify`; keeps the connection alive while there is any."""

    def __init__(self, connect: Callable[[], object]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._callbacks: dict[Subscription, Callable[[], None]] = {}
        self._unexpected = Unexpected()
        self._changed = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, callback: Callable[[], None]) -> Subscription:
        """Call `callback` after changes until the subscription is closed."""
        subscription = Subscription(self._remove)
        with self._lock:
            self._callbacks[subscription] = callback
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="gpumod-unit-changes", daemon=True)
                self._thread.start()
        return subscription

    def notify(self) -> None:
        """Something changed. From any thread; never blocks."""
        self._changed.set()

    def close(self) -> None:
        """Call nobody any more, and end the thread."""
        with self._lock:
            self._callbacks.clear()
        self._end_thread_if_idle()

    def _remove(self, subscription: Subscription) -> None:
        with self._lock:
            self._callbacks.pop(subscription, None)
        self._end_thread_if_idle()

    def _end_thread_if_idle(self) -> None:
        with self._lock:
            thread = self._thread
            if self._callbacks or thread is None:
                return
        self._changed.set()
        if thread is not threading.current_thread():
            thread.join(_JOIN_S)

    def _run(self) -> None:
        connected = True
        while True:
            before, connected = connected, self._try_connect()
            # With a connection its signals and its end wake this; without one it is tried again.
            self._changed.wait(_IDLE_S if connected else _RETRY_S)
            told = self._changed.is_set() or connected > before
            self._changed.clear()
            with self._lock:
                callbacks = list(self._callbacks.values())
                if not callbacks:
                    self._thread = None
                    return
            for callback in callbacks if told else ():
                self._call(callback)

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # noqa: BLE001 - a dead thread would tell nobody of any change
            self._unexpected.tell(error)

    def _try_connect(self) -> bool:
        try:
            self._connect()
        except SystemdUnavailable:
            return False
        except Exception as error:  # noqa: BLE001 - as above
            self._unexpected.tell(error)
            return False
        return True
