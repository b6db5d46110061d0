"""Xid errors of one GPU, as NVML reports them to whoever registered before; the kernel log needs root."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from gpumod_tui.core.models import Xid

_XID: Final = 8
"""NVML's event type for critical Xid errors."""
_KEPT: Final = 16
_AT_ONCE: Final = 16


class XidWatch:
    """Call its methods one at a time, under the lock that guards NVML."""

    def __init__(self, call: Callable[..., Any], faults: tuple[type[Exception], ...]) -> None:
        """`call` takes the name of an NVML function and its arguments; `faults` are what it raises."""
        self._call = call
        self._faults = faults
        self._events: Any = None
        self._seen: deque[Xid] = deque(maxlen=_KEPT)
        self._tells = False

    def begin(self, handle: Any) -> None:
        """Have this GPU report from now on; where it cannot, `xids` stays None."""
        self.end()
        try:
            self._events = self._call("nvmlEventSetCreate")
            self._call("nvmlDeviceRegisterEvents", handle, _XID, self._events)
            self._tells = True
        except self._faults:
            self.end()

    def end(self) -> None:
        """Free what NVML holds for it; what was seen is kept."""
        events, self._events, self._tells = self._events, None, False
        if events is not None:
            try:
                self._call("nvmlEventSetFree", events)
            except self._faults:
                return

    def xids(self) -> tuple[Xid, ...] | None:
        """All that were reported, oldest first; None: none was, and it is not known whether there are any."""
        if self._tells:
            self._drain()
        return tuple(self._seen) if self._tells or self._seen else None

    def _drain(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                event = self._call("nvmlEventSetWait_v2", self._events, 0)
            except self._faults:
                # Its time-out, most of all: nothing more is there.
                return
            if event.eventType & _XID:
                self._seen.append(Xid(int(event.eventData), time.time()))
