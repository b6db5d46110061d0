"""Room for the bodies of requests under way: so many bytes for all of them, and turns where it is short."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from gpumod_tui.guard.http.body import LIMIT_BYTES
from gpumod_tui.guard.http.head import BadRequest

ROOM_BYTES: Final = 4 * LIMIT_BYTES
TURN_S: Final = 10.0
"""For a body that finds no room; those before it leave when their server has them."""
_LINE: Final = 64
"""Bodies that wait at most: what each of their connections has read ahead is not counted."""
_SOON_S: Final = "2"


@dataclass(eq=False, slots=True)
class Body:
    """One request's body while it is read, and until it is handed on."""

    data: bytes = b""
    room: "Room | None" = None
    taken_bytes: int = 0
    """Of the room."""

    async def grow(self, more: int) -> None:
        """Before so many bytes are kept. Raises: BadRequest, status 503, where there is no room in time."""
        if self.room is not None:
            await self.room.take(self, more)

    def let_go(self) -> None:
        """Nobody needs it any more."""
        self.data = b""
        if self.room is not None:
            self.room.give_back(self)


@dataclass(eq=False, slots=True)
class _Waiting:
    body: Body
    more: int
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class Room:
    """The last piece, as large as one body may become, is for one body alone: so there is always one that goes on."""

    def __init__(self, limit_bytes: int = ROOM_BYTES, last_bytes: int = LIMIT_BYTES, wait_s: float = TURN_S) -> None:
        self._open_bytes = limit_bytes - last_bytes
        self._wait_s = wait_s
        self._first: Body | None = None
        """The one that may use the last piece."""
        self._line: deque[_Waiting] = deque()
        self.used_bytes = 0

    def body(self) -> Body:
        """An empty one."""
        return Body(room=self)

    async def take(self, body: Body, more: int) -> None:
        """As `Body.grow`."""
        # Nobody overtakes those who wait, but for the one whose end they wait for.
        if (self._line and body is not self._first) or not self._may(body, more):
            await self._wait(body, more)
        else:
            self._grant(body, more)

    def give_back(self, body: Body) -> None:
        """All that it has taken."""
        self.used_bytes -= body.taken_bytes
        body.taken_bytes = 0
        if self._first is body:
            self._first = None
        self._serve()

    def _may(self, body: Body, more: int) -> bool:
        if self.used_bytes + more <= self._open_bytes:
            return True
        if self._first is None:
            self._first = body
        return self._first is body

    def _grant(self, body: Body, more: int) -> None:
        self.used_bytes += more
        body.taken_bytes += more

    def _serve(self) -> None:
        while self._line and self._may(self._line[0].body, self._line[0].more):
            one = self._line.popleft()
            self._grant(one.body, one.more)
            one.granted.set()

    async def _wait(self, body: Body, more: int) -> None:
        if len(self._line) >= _LINE:
            raise _busy()
        with self._in_line(_Waiting(body, more)) as one, contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._wait_s):
                await one.granted.wait()
        if not one.granted.is_set():
            raise _busy()

    @contextmanager
    def _in_line(self, one: _Waiting) -> Iterator[_Waiting]:
        self._line.append(one)
        try:
            yield one
        finally:
            if not one.granted.is_set():
                self._line.remove(one)
                self._serve()


def _busy() -> BadRequest:
    text = "the guard holds as many bytes of other requests as it may; try again"
    return BadRequest(text, 503, kind="busy", headers={"Retry-After": _SOON_S})


ROOM: Final = Room()
"""For all ports."""
