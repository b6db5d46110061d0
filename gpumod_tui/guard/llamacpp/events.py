"""Events of all routers, told on to every client that listens."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

_LOOK_S: Final = 1.0
_BACKLOG: Final = 2000
"""Events that a slow client may lag behind; beyond it is let go, and asks for the models when it comes back."""


class Audience:
    """Who listens to one port's events."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[bytes | None]] = set()
        self._closed = False

    async def stream(self, request: web.BaseRequest, look: Callable[[], Awaitable[object]]) -> web.StreamResponse:
        """Tell one client until it leaves, or all have to; `look` at what runs is taken while nothing happens."""
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await stream.prepare(request)
        if request.method == "HEAD":
            return stream
        queue = self._join()
        try:
            while True:
                try:
                    async with asyncio.timeout(_LOOK_S):
                        event = await queue.get()
                except TimeoutError:
                    # A router that has come up meanwhile is to be heard, too.
                    await look()
                    continue
                if event is None:
                    break
                await stream.write(b"data: " + event + b"\n\n")
        finally:
            self._listeners.discard(queue)
        await stream.write_eof()
        return stream

    def hear(self, event: bytes) -> None:
        """Tell everybody."""
        for queue in list(self._listeners):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._dismiss(queue)

    def close(self) -> None:
        """Such a stream has no end of its own: the guard's end would wait for it."""
        self._closed = True
        for queue in list(self._listeners):
            self._dismiss(queue)

    def _join(self) -> "asyncio.Queue[bytes | None]":
        """Events from now on; None: there are no more."""
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_BACKLOG)
        if self._closed:
            queue.put_nowait(None)
        self._listeners.add(queue)
        return queue

    def _dismiss(self, queue: "asyncio.Queue[bytes | None]") -> None:
        self._listeners.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)
