"""Bodies under way take bounded memory together, and where it is short one of them always goes on."""

import asyncio
import contextlib
import os
import tracemalloc
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gpumod_tui.guard.http import forward as forwarding
from gpumod_tui.guard.http.body import LIMIT_BYTES
from gpumod_tui.guard.http.forward import BODY, forward, read_body, read_form
from gpumod_tui.guard.http.head import BadRequest
from gpumod_tui.guard.server.app import Guard
from gpumod_tui.guard.server.body_budget import _LINE, ROOM_BYTES, Body, Room
from gpumod_tui.guard.server.connections import Crowd, Server

MIB = 1024**2


async def refused(work: Awaitable[None]) -> BadRequest | None:
    try:
        await work
    except BadRequest as error:
        return error
    return None


def test_one_always_goes_on_and_the_others_wait_for_what_it_leaves() -> None:
    async def run() -> None:
        room = Room(limit_bytes=30, last_bytes=10, wait_s=5.0)
        first, second, third = room.body(), room.body(), room.body()
        await first.grow(8)
        await second.grow(8)
        await third.grow(4)
        await first.grow(2)
        assert room.used_bytes == 22, "the first that finds the open part full has the last piece"
        waiting = [asyncio.create_task(one.grow(6)) for one in (second, third)]
        await asyncio.sleep(0)
        await first.grow(2)
        assert not any(task.done() for task in waiting)
        first.let_go()
        await waiting[0]
        await waiting[1]
        assert room.used_bytes == 24
        for one in (second, third):
            one.let_go()
            one.let_go()
        assert room.used_bytes == 0

    asyncio.run(run())


def test_nobody_is_overtaken_and_who_leaves_holds_up_nobody() -> None:
    async def run() -> None:
        room = Room(limit_bytes=20, last_bytes=10, wait_s=5.0)
        owner, large, small = room.body(), room.body(), room.body()
        await owner.grow(10)
        await owner.grow(9)
        line = [asyncio.create_task(large.grow(10)), asyncio.create_task(small.grow(1))]
        await asyncio.sleep(0)
        line[0].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await line[0]
        assert not line[1].done(), "there is still no room"
        owner.let_go()
        await line[1]
        assert room.used_bytes == 1

    asyncio.run(run())


def test_a_turn_that_does_not_come_and_a_line_that_is_too_long_are_told_to_come_again() -> None:
    async def run() -> None:
        room = Room(limit_bytes=20, last_bytes=10, wait_s=0.3)
        owner = room.body()
        await owner.grow(20)
        waiting = [asyncio.create_task(refused(room.body().grow(1))) for _ in range(_LINE)]
        await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        outcomes = [await refused(room.body().grow(1)), *await asyncio.gather(*waiting)]
        assert asyncio.get_running_loop().time() - began < 3
        for told in outcomes:
            assert told is not None
            assert (told.status, told.kind, dict(told.headers or {})) == (503, "busy", {"Retry-After": "2"})
        assert room.used_bytes == 20

    asyncio.run(run())


# -- real requests


class Upstream:
    """Keeps what it is sent until it is told to answer."""

    def __init__(self) -> None:
        self.answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = self._ok
        self.url = ""

    async def _ok(self, request: web.BaseRequest) -> web.StreamResponse:
        size = 0
        async for chunk in request.content.iter_any():
            size += len(chunk)
        return web.Response(text=str(size))


def proxied(
    work: Callable[[str, Upstream], Awaitable[None]],
    handle: Callable[[web.BaseRequest, aiohttp.ClientSession], Awaitable[web.StreamResponse]],
) -> None:
    """A guard that does nothing but `handle`, before a server."""

    async def run() -> None:
        upstream = Upstream()
        behind = web.ServerRunner(web.Server(lambda request: upstream.answer(request)))
        await behind.setup()
        await web.TCPSite(behind, "127.0.0.1", 0).start()
        upstream.url = f"http://127.0.0.1:{behind.addresses[0][1]}"
        session = aiohttp.ClientSession(upstream.url, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))
        guard: Any = SimpleNamespace(_counts=SimpleNamespace(requests=dict.fromkeys(range(600), 0)))
        guard._handle = lambda _port, request: handle(request, session)

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            return await Guard.handle(guard, 7070, request)

        front = web.ServerRunner(Server(answer, Crowd(100), access_log=None))
        await front.setup()
        await web.TCPSite(front, "127.0.0.1", 0).start()
        try:
            await asyncio.wait_for(work(f"http://127.0.0.1:{front.addresses[0][1]}", upstream), 60)
        finally:
            await session.close()
            await front.cleanup()
            await behind.cleanup()

    asyncio.run(run())


@pytest.fixture
def upstream_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    """`forward` names a host of its own, as it asks a unix socket."""
    monkeypatch.setattr(forwarding, "URL", lambda target, encoded: target.removeprefix("http://127.0.0.1"))


pytestmark = pytest.mark.usefixtures("upstream_is_local")


async def passes(request: web.BaseRequest, session: aiohttp.ClientSession) -> web.StreamResponse:
    return await forward(request, session, "/", body=await read_body(request))


def test_bodies_of_many_requests_at_once_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(limit_bytes=12 * MIB, last_bytes=4 * MIB, wait_s=30.0)
    monkeypatch.setattr(forwarding, "ROOM", room)
    most = 0
    data = os.urandom(4 * MIB)

    async def handle(request: web.BaseRequest, session: aiohttp.ClientSession) -> web.StreamResponse:
        nonlocal most
        body = await read_body(request)
        most = max(most, room.used_bytes)
        await asyncio.sleep(0.02)
        return await forward(request, session, "/", body=body)

    async def work(url: str, _upstream: Upstream) -> None:
        async with aiohttp.ClientSession() as client:

            async def one() -> str:
                async with client.post(url, data=data) as answer:
                    return await answer.text()

            assert set(await asyncio.gather(*(one() for _ in range(20)))) == {str(len(data))}
        assert 4 * MIB <= most <= 12 * MIB
        assert room.used_bytes == 0

    proxied(work, handle)


def test_a_body_is_held_once_and_not_while_it_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    monkeypatch.setattr(forwarding, "ROOM", room)
    go_on, answering = asyncio.Event(), asyncio.Event()
    size = 16 * MIB
    peak = 0

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        async for _ in request.content.iter_any():
            pass
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"token")
        answering.set()
        await go_on.wait()
        return response

    async def handle(request: web.BaseRequest, session: aiohttp.ClientSession) -> web.StreamResponse:
        nonlocal peak
        body = await read_body(request)
        peak = tracemalloc.get_traced_memory()[1]
        return await forward(request, session, "/", body=body)

    async def pieces() -> Any:
        for _ in range(size // 65536):
            yield b"x" * 65536

    async def work(url: str, upstream: Upstream) -> None:
        upstream.answer = stream
        async with aiohttp.ClientSession() as client:
            tracemalloc.start()
            task = asyncio.create_task(client.post(url, data=pieces(), headers={"Content-Length": str(size)}))
            await answering.wait()
            async with await task as answer:
                assert await answer.content.readany() == b"token"
                left, _ = tracemalloc.get_traced_memory()
                assert room.used_bytes == 0
                go_on.set()
                await answer.read()
            tracemalloc.stop()
        assert peak < 1.5 * size
        assert left < size / 4

    proxied(work, handle)


def test_a_form_is_copied_once(monkeypatch: pytest.MonkeyPatch) -> None:
    head = b'--B\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n'
    head += b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    data = head + os.urandom(16 * MIB) + b"\r\n--B--\r\n"

    async def read(_request: object) -> Body:
        return Body(data)

    monkeypatch.setattr(forwarding, "read_body", read)
    request: Any = SimpleNamespace(headers={"Content-Type": "multipart/form-data; boundary=B"})

    async def run() -> tuple[Body, str, int]:
        tracemalloc.start()
        body, model, _ = await read_form(request)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return body, model, peak

    body, model, peak = asyncio.run(run())
    assert model == "m"
    assert len(body.data) > 16 * MIB
    assert peak < 1.2 * len(data)


@pytest.mark.parametrize("ends", ["refused", "gone", "too large"])
def test_whatever_becomes_of_a_request_its_room_is_given_back(ends: str, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    monkeypatch.setattr(forwarding, "ROOM", room)
    monkeypatch.setattr(forwarding, "LIMIT_BYTES", 2 * MIB)

    async def handle(request: web.BaseRequest, _session: aiohttp.ClientSession) -> web.StreamResponse:
        body = await read_body(request)
        assert request[BODY] is body
        assert room.used_bytes == len(body.data) == MIB
        if ends == "gone":
            await asyncio.sleep(30)
        raise BadRequest("no")

    async def work(url: str, _upstream: Upstream) -> None:
        async with aiohttp.ClientSession() as client:
            data = b"x" * (MIB if ends != "too large" else 3 * MIB)

            async def pieces() -> Any:
                yield data

            asked = client.post(url, data=pieces(), timeout=aiohttp.ClientTimeout(total=0.5 if ends == "gone" else 30))
            with contextlib.suppress(TimeoutError):
                async with asked as answer:
                    assert answer.status == (413 if ends == "too large" else 400)
        await asyncio.sleep(0.1)
        assert room.used_bytes == 0

    if ends == "gone":
        monkeypatch.setattr(Server, "__init__", _cancelling(Server.__init__))
    proxied(work, handle)


def _cancelling(init: Any) -> Any:
    return lambda *args, **more: init(*args, **more, handler_cancellation=True)


def test_there_is_room_for_several_of_the_largest() -> None:
    assert ROOM_BYTES >= 4 * LIMIT_BYTES


# -- answers


@pytest.mark.parametrize("size", [10, 100_000, 5 * MIB])
def test_a_servers_error_passes_whole_whatever_its_size_and_is_not_gathered(size: int) -> None:
    data = os.urandom(size)
    kept = 0

    async def fail(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=500)
        await response.prepare(request)
        for start in range(0, size, 65536):
            await response.write(data[start : start + 65536])
        return response

    async def handle(request: web.BaseRequest, session: aiohttp.ClientSession) -> web.StreamResponse:
        nonlocal kept
        response = await passes(request, session)
        if isinstance(response, web.Response) and isinstance(response.body, bytes):
            kept = len(response.body)
        return response

    async def work(url: str, upstream: Upstream) -> None:
        upstream.answer = fail
        async with aiohttp.ClientSession() as client, client.post(url, data=b"{}") as answer:
            assert answer.status == 500
            assert await answer.read() == data
        assert kept == (size if size < MIB else 0)

    proxied(work, handle)
