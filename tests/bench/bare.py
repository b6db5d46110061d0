"""The least that a proxy does, and the played server behind both proxies. Each runs in a process of its own.

`python -m tests.bench.bare server|proxy PORT SOCKET`. It imports no more than such a proxy needs, for the guard is
compared with that.
"""

import asyncio
import sys
import time

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, UnixConnector, web

MODEL = "GLM-4.7-Flash-UD-Q4_K_XL"
TOKENS, TOKENS_A_SECOND = 450, 150
TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"token"}}],"object":"chat.completion.chunk"}\n\n'


async def server(port: int, socket: str) -> None:
    """A router with one loaded model, on a port and on its unix socket."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/models":
            return web.json_response({"data": [{"id": MODEL, "status": {"value": "loaded", "args": []}}]})
        if request.path == "/props":
            return web.json_response({"role": "router", "max_instances": 1})
        if request.path == "/models/sse" or b'"stream"' in await request.read():
            stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await stream.prepare(request)
            if request.path == "/models/sse":
                await asyncio.sleep(3600)
            began = time.monotonic()
            for number in range(TOKENS):
                await stream.write(TOKEN)
                await asyncio.sleep(max(0.0, began + (number + 1) / TOKENS_A_SECOND - time.monotonic()))
            return stream
        return web.json_response({"choices": [{"message": {"content": "Hi"}}]})

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await web.UnixSite(runner, socket).start()
    await asyncio.Event().wait()


async def proxy(port: int, socket: str) -> None:
    """From a port to the unix socket."""
    session = ClientSession(
        connector=UnixConnector(socket, limit=0),
        timeout=ClientTimeout(total=None),
        auto_decompress=False,
        cookie_jar=DummyCookieJar(),
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/health":
            return web.json_response({"status": "ok"})
        url = f"http://127.0.0.1{request.raw_path}"
        async with session.request(request.method, url, data=await request.read()) as answer:
            if answer.content_length is not None:
                return web.Response(status=answer.status, body=await answer.read(), content_type=answer.content_type)
            stream = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await stream.prepare(request)
            async for chunk in answer.content.iter_any():
                await stream.write(chunk)
            return stream

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run({"server": server, "proxy": proxy}[sys.argv[1]](int(sys.argv[2]), sys.argv[3]))
