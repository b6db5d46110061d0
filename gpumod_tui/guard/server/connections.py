"""Clients' connections: so many at most, and each has a limited time to say what it wants."""

import asyncio
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from aiohttp import web

PATIENCE_S: Final = 75.0
"""For the whole head of a request, from the connection or from the answer before, and for the next byte of its body.
Neither a body that goes on nor an answer has a limit."""
_DESCRIPTORS: Final = 65536
_OWN_DESCRIPTORS: Final = 128
"""Libraries, files, event streams of routers."""
_CONNECTIONS: Final = 4096
"""Each takes some ten KiB."""
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 54\r\nConnection: close\r\n\r\nthe guard has as many connections as it can; try again"
)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def connection_limit() -> int:
    """Raises this process's limit of open files as far as it may, and tells how many clients that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    # A client's request has a connection to a server.
    room = _DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    return max(1, min(_CONNECTIONS, (room - _OWN_DESCRIPTORS) // 2))


class Crowd:
    """All connections of all ports. Where one too many comes, the one that has been silent for longest goes."""

    def __init__(self, limit: int, patience_s: float = PATIENCE_S) -> None:
        self._limit = limit
        self._patience_s = patience_s
        self._all: dict[asyncio.BaseProtocol, asyncio.Transport] = {}
        self._silent: dict[asyncio.BaseProtocol, float] = {}
        """Since when, the longest first: those whose request, or the next byte of it, has still to come."""
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, connection: asyncio.BaseProtocol, transport: asyncio.Transport) -> None:
        """A new one."""
        if len(self._all) >= self._limit:
            if not self._silent:
                transport.write(_FULL)
                transport.close()
                return
            self._end(next(iter(self._silent)))
        self._all[connection] = transport
        self.rest(connection)

    def leave(self, connection: asyncio.BaseProtocol) -> None:
        """It is closed."""
        self._all.pop(connection, None)
        self._silent.pop(connection, None)

    def work(self, connection: asyncio.BaseProtocol) -> None:
        """It has said something, and what comes of it takes as long as it takes."""
        self._silent.pop(connection, None)

    def rest(self, connection: asyncio.BaseProtocol) -> None:
        """It is its turn to say something: to go on with its body, or, answered, to ask again."""
        if connection not in self._all:
            return
        loop = asyncio.get_running_loop()
        self._silent[connection] = loop.time()
        if self._sweeping is None:
            self._sweeping = loop.call_later(self._patience_s, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._silent:
            connection, since = next(iter(self._silent.items()))
            left_s = since + self._patience_s - loop.time()
            if left_s > 0:
                # Not for each of many: those of the next moments go together.
                self._sweeping = loop.call_later(max(left_s, self._patience_s / 50), self._sweep, loop)
                return
            self._end(connection)
        self._sweeping = None

    def _end(self, connection: asyncio.BaseProtocol) -> None:
        transport = self._all[connection]
        self.leave(connection)
        transport.abort()


CROWD: Final = web.RequestKey("crowd", Crowd)


async def heard(request: web.BaseRequest) -> AsyncIterator[bytes]:
    """A body as it comes; while nothing does, its connection counts as silent."""
    crowd, connection = request.get(CROWD), request.protocol
    while not request.content.at_eof():
        if crowd is None:
            yield await request.content.readany()
            continue
        crowd.rest(connection)
        try:
            chunk = await request.content.readany()
        finally:
            crowd.work(connection)
        yield chunk


class Server(web.Server):
    """Serves one port, as one of a crowd."""

    def __init__(self, handle: Handler, crowd: Crowd, **options: Any) -> None:
        super().__init__(self._handle, **options)
        self._answer = handle
        self._crowd = crowd

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Called by the connection itself, as the next is."""
        super().connection_made(handler, transport)
        self._crowd.enter(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """However it ended."""
        self._crowd.leave(handler)
        super().connection_lost(handler, exc)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        request[CROWD] = self._crowd
        self._crowd.work(connection)
        try:
            return await self._answer(request)
        finally:
            self._crowd.rest(connection)
