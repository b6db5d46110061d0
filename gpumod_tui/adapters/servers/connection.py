"""HTTP over loopback with a limit on the whole exchange. Apart from _http.py so that http.client loads at first use."""

import http.client
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LOOPBACK: Final = "127.0.0.1"
MEANWHILE_S: Final = 0.05
"""How often who waits for a long answer is heard."""
_BODY_BYTES: Final = 16 * 1024 * 1024

Address = int | Path
"""A TCP port on loopback, or a unix socket."""


class _TimedSocket(socket.socket):
    """Every read ends at the deadline: a server that trickles bytes would outlast a limit per read."""

    deadline: float | None = None
    meanwhile: Callable[[], None] | None = None

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0) -> int:
        if self.meanwhile is not None:
            self._wait(self.meanwhile)
        if self.deadline is not None:
            self.settimeout(max(self.deadline - time.monotonic(), 0.001))
        return super().recv_into(buffer, nbytes, flags)

    def _wait(self, meanwhile: Callable[[], None]) -> None:
        """Until there is something to read, or the deadline has passed."""
        readable = select.poll()
        readable.register(self, select.POLLIN)
        while not readable.poll(MEANWHILE_S * 1000):
            meanwhile()
            if self.deadline is not None and time.monotonic() >= self.deadline:
                return


class Connection(http.client.HTTPConnection):
    """One connection to a server on this host; proxies of the environment have no say."""

    def __init__(
        self,
        address: Address,
        *,
        connect_s: float,
        read_s: float | None,
        idle_s: float = 0.0,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        """`read_s` limits the whole answer; None: only the silence between two reads, to `idle_s`."""
        super().__init__(LOOPBACK, address if isinstance(address, int) else None)
        self._address = address
        self._connect_s = connect_s
        self._read_s = read_s
        self._idle_s = idle_s
        self._meanwhile = meanwhile
        self._timed: _TimedSocket | None = None

    def connect(self) -> None:
        """Raises: OSError."""
        unix = isinstance(self._address, Path)
        self.sock = self._timed = timed = _TimedSocket(socket.AF_UNIX if unix else socket.AF_INET)
        try:
            timed.settimeout(self._connect_s)
            timed.connect(str(self._address) if unix else (LOOPBACK, self._address))
        except OSError:
            timed.close()
            raise
        timed.settimeout(self._read_s or self._idle_s)
        timed.meanwhile = self._meanwhile
        if self._read_s is not None:
            timed.deadline = time.monotonic() + self._read_s

    def exchange(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body. Raises: OSError, http.client.HTTPException."""
        try:
            self.request(method, path, body=body, headers=headers)
            answer = self.getresponse()
            return answer.status, answer.read(_BODY_BYTES)
        finally:
            self.close()

    def interrupt(self) -> None:
        """End a read that another thread waits in."""
        # http.client lets go of `sock` as soon as the answer owns the stream.
        if self._timed is not None:
            self._timed.shutdown(socket.SHUT_RDWR)
