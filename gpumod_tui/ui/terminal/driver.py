"""A terminal driver for lines that are slow, stop, or are gone: it drops frames instead of blocking the screen."""

import os
import selectors
import sys
import threading
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from textual._parser import ParseError
from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

QUEUE_BYTES: Final = 128 * 1024
"""Pending output from which on frames are dropped: some full screens."""
_LAST_WORDS_S: Final = 1.0
"""How long the end of the view waits for a terminal that does not read."""


class LossyWriter:
    """Writes in a thread of its own. `on_lost` is called once when the terminal is gone, `on_recovered` when it reads
    again after frames were dropped; both from that thread."""

    def __init__(self, fileno: int, on_lost: Callable[[], None], on_recovered: Callable[[], None]) -> None:
        self._fileno = fileno
        self._on_lost = on_lost
        self._on_recovered = on_recovered
        self._queue: deque[bytes] = deque()
        self._pending = 0
        self._dropped = False
        self._gone = False
        self._ending = False
        self._wake = threading.Condition()
        self.frames_dropped = 0
        self._thread = threading.Thread(target=self._run, name="gpumod-output", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        """Never blocks."""
        data = text.encode("utf-8", "replace")
        with self._wake:
            if self._gone:
                return
            if self._pending + len(data) > QUEUE_BYTES:
                self.frames_dropped += len(self._queue)
                self._queue.clear()
                self._pending = 0
                self._dropped = True
            self._queue.append(data)
            self._pending += len(data)
            self._wake.notify()

    def stop(self) -> None:
        """Write what is pending, if the terminal reads; idempotent."""
        with self._wake:
            self._ending = True
            self._wake.notify()
        self._thread.join(_LAST_WORDS_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._ending:
                    self._wake.wait()
                if not self._queue:
                    return
                data = self._queue.popleft()
                self._pending -= len(data)
                recovered = self._dropped and not self._queue
                if recovered:
                    self._dropped = False
            if not self._put(data):
                return
            if recovered and not self._ending:
                self._on_recovered()

    def _put(self, data: bytes) -> bool:
        view = memoryview(data)
        try:
            while view:
                count = os.write(self._fileno, view)
                view = view[count:]
        except OSError:
            with self._wake:
                self._gone = True
                self._queue.clear()
            self._on_lost()
            return False
        return True


class SurvivingDriver(LinuxDriver):
    """Ends the view, and nothing else, when the terminal is gone."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)
        self.writer: LossyWriter | None = None

    def write(self, data: str) -> None:
        """Queue output; never blocks."""
        if self.writer is None:
            self.writer = LossyWriter(sys.__stderr__.fileno() if sys.__stderr__ else 2, self._lost, self._recovered)
        self.writer.write(data)

    def _enable_mouse_support(self) -> None:
        """Presses and the wheel; not every movement, which on a slow line is more than all keys together."""
        if self._mouse:
            self.write("\x1b[?1000h\x1b[?1006h")

    def _disable_mouse_support(self) -> None:
        if self._mouse:
            self.write("\x1b[?1006l\x1b[?1000l")

    def close(self) -> None:
        """End both writers: ours, and the base class's, which was never given anything."""
        if self.writer is not None:
            self.writer.stop()
            self.writer = None
        super().close()

    def run_input_thread(self) -> None:
        """Read keys until the end is asked for, or the terminal is gone (end of file, EIO)."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        with selectors.DefaultSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                if selector.select(0.1):
                    try:
                        data = os.read(self.fileno, 4096)
                    except OSError:
                        data = b""
                    if not data:
                        self._lost()
                        return
                    for event in parser.feed(decode(data)):
                        self.process_message(event)
                for event in parser.tick():
                    self.process_message(event)
            try:
                for _event in parser.feed(""):
                    pass
            except (EOFError, ParseError):
                return

    def _lost(self) -> None:
        self._to_app("terminal_lost")

    def _recovered(self) -> None:
        self._to_app("repaint_all")

    def _to_app(self, name: str) -> None:
        try:
            self._loop.call_soon_threadsafe(getattr(self._app, name))
        except RuntimeError:
            # The loop has ended: the view is over already.
            return
