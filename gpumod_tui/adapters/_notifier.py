"""Change notices, coalesced, from a thread of their own: who is told may ask the bus without waiting for itself."""

import threading
from collections.abc import Callable
from typing import Final

from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.core.unexpected import Unexpected

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
