"""Connections without a request, or too many of them, keep nobody from being served."""

import asyncio
import errno
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.guard.llamacpp.routers import UpstreamGone
from gpumod_tui.guard.server.app import Guard
from gpumod_tui.guard.server.connections import Crowd, Server, connection_limit, heard

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Box:
    """A server whose answer to /slow waits to be told."""

    def __init__(self, port: int, crowd: Crowd, go_on: asyncio.Event) -> None:
        self.port = port
        self.crowd = crowd
        self.go_on = go_on

    async def connect(self) -> Connection:
        return await asyncio.open_connection("127.0.0.1", self.port)


def served(work: Callable[[Box], Awaitable[None]], *, limit: int, patience_s: float = 60.0) -> None:
    async def run() -> None:
        go_on = asyncio.Event()

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            if request.path == "/slow":
                await go_on.wait()
            size = sum([len(chunk) async for chunk in heard(request)])
            return web.Response(text=f"served {size}")

        crowd = Crowd(limit, patience_s)
        server = Server(answer, crowd, access_log=None)
        runner = web.ServerRunner(server)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            await asyncio.wait_for(work(Box(runner.addresses[0][1], crowd, go_on)), 60)
        finally:
            go_on.set()
            await runner.cleanup()

    asyncio.run(run())


async def ask(connection: Connection, path: bytes = b"") -> bytes:
    """The status line; empty: closed without an answer."""
    reader, writer = connection
    writer.write(GET % path)
    return await status(reader)


async def status(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionResetError):
        return b""
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
    await reader.readexactly(length)
    return head.split(b"\r\n")[0]


OK = b"HTTP/1.1 200 OK"


def test_where_one_too_many_comes_the_longest_silent_goes() -> None:
    async def work(box: Box) -> None:
        first, second, third = [await box.connect() for _ in range(3)]
        assert await ask(first) == OK
        fourth = await box.connect()
        assert await ask(fourth) == OK
        assert await ask(first) == OK, "it has asked since, and the second has not"
        assert await second[0].read() == b""
        assert await ask(third) == OK
        assert len(box.crowd) == 3

    served(work, limit=3)


def test_who_is_being_served_stays_and_the_newcomer_is_told_to_come_again() -> None:
    async def work(box: Box) -> None:
        slow = [await box.connect() for _ in range(2)]
        for _, writer in slow:
            writer.write(GET % b"slow")
        await asyncio.sleep(0.1)
        reader, _ = await box.connect()
        assert await status(reader) == b"HTTP/1.1 503 Service Unavailable"
        assert await reader.read() == b""
        box.go_on.set()
        assert [await status(reader) for reader, _ in slow] == [OK, OK]
        assert await ask(await box.connect()) == OK, "they rest, and one gives way"

    served(work, limit=2)


def test_a_head_has_a_limited_time_also_where_it_comes_drop_by_drop_and_an_answer_has_not() -> None:
    async def work(box: Box) -> None:
        silent, dripping, slow = [await box.connect() for _ in range(3)]
        slow[1].write(GET % b"slow")
        dripping[1].write(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            while True:
                await asyncio.sleep(0.05)
                dripping[1].write(b"a")

        task = asyncio.create_task(drip())
        assert await silent[0].read() == b""
        assert await status(dripping[0]) == b""
        task.cancel()
        assert len(box.crowd) == 1
        box.go_on.set()
        assert await status(slow[0]) == OK
        assert await slow[0].read() == b"", "it has nothing more to say"
        assert len(box.crowd) == 0

    served(work, limit=10, patience_s=2.0)


POST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"


def test_bodies_that_do_not_come_keep_nobody_out() -> None:
    async def work(box: Box) -> None:
        promised = [await box.connect() for _ in range(3)]
        for _, writer in promised:
            writer.write(POST % 10)
            await asyncio.sleep(0.05)
        promised[0][1].write(b"x")
        await asyncio.sleep(0.05)
        assert await ask(await box.connect()) == OK
        assert await promised[1][0].read() == b"", "the first has gone on since"
        promised[0][1].write(b"x" * 9)
        assert await status(promised[0][0]) == OK

    served(work, limit=3)


def test_a_body_has_a_limited_time_for_each_byte_and_none_for_the_whole() -> None:
    async def work(box: Box) -> None:
        silent, slow, waiting = [await box.connect() for _ in range(3)]
        silent[1].write(POST % 10 + b"xxx")
        slow[1].write(POST % 10)
        waiting[1].write((POST % 3).replace(b"POST /", b"POST /slow") + b"x")
        for _ in range(10):
            await asyncio.sleep(0.15)
            slow[1].write(b"x")
        assert await status(slow[0]) == OK
        assert await silent[0].read() == b""
        box.go_on.set()
        waiting[1].write(b"xx")
        assert await status(waiting[0]) == OK, "nobody listened to it"

    served(work, limit=10, patience_s=0.5)


def test_the_limit_of_open_files_is_raised_as_far_as_it_may() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        limit = connection_limit()
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raised == min(hard, 65536)
        assert 2 * limit < raised
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(("number", "told"), [(errno.EMFILE, 503), (errno.ENOENT, 502)])
def test_a_guard_without_files_does_not_call_the_router_gone(number: int, told: int, tmp_path: Path) -> None:
    async def run() -> None:
        host: Any = SimpleNamespace(registry=ServiceRegistry())
        guard = Guard(host, lambda name: tmp_path / name)

        async def fail(_port: int, _request: object) -> web.StreamResponse:
            raise UpstreamGone("glm-code: no") from OSError(number, "no")

        guard._handle = fail  # type: ignore[method-assign, assignment]
        request: Any = {}
        answer = await guard.handle(7070, request)
        assert answer.status == told
        assert ("Retry-After" in answer.headers) == (told == 503)
        await guard.close()

    asyncio.run(run())
