"""Bytes between client and server: headers cleaned, streams as they come, the server let go when the client goes."""

import asyncio
import io
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from gpumod_tui.guard.http.body import LIMIT_BYTES, parse_form, parse_object
from gpumod_tui.guard.http.head import BadRequest, back, onward
from gpumod_tui.guard.http.json_scan import scan_object
from gpumod_tui.guard.llamacpp.routers import UpstreamGone
from gpumod_tui.guard.server.body_budget import ROOM, Body
from gpumod_tui.guard.server.connections import heard

_WHOLE_BYTES: Final = 64 * 1024
"""A known length up to this is sent in one piece."""
AT_ONCE_BYTES: Final = 64 * 1024
"""A JSON body up to this is read in one go."""
_KEPT_BYTES: Final = 1024 * 1024
"""Of a server's error: it may say what went wrong in whole, and beyond that passes as it comes."""
BODY: Final = web.RequestKey("body", Body)
_TURN: Final = asyncio.Lock()
JSON_TYPE: Final = "application/json"


async def read_body(request: web.BaseRequest) -> Body:
    """The whole body. Raises: BadRequest, status 413, 415, or 503 where there is no room for it."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadRequest("a compressed body is not read", 415)
    if (request.content_length or 0) > LIMIT_BYTES:
        raise _too_large()
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Only the answer itself counts as output.
        request.writer.output_size = 0
    body = request[BODY] = ROOM.body()
    # It gives out what it has gathered, where a join would hold a large body twice.
    gathered = io.BytesIO()
    size = 0
    try:
        async for chunk in heard(request):
            size += len(chunk)
            if size > LIMIT_BYTES:
                raise _too_large()
            await body.grow(len(chunk))
            gathered.write(chunk)
    except (aiohttp.ClientPayloadError, web.RequestPayloadError) as error:
        raise BadRequest("the body is damaged") from error
    body.data = gathered.getvalue()
    return body


def let_go(request: web.BaseRequest) -> None:
    """Its body is not needed any more."""
    body = request.pop(BODY, None)
    if body is not None:
        body.let_go()


async def read_object(request: web.BaseRequest, field: str = "") -> tuple[Body, dict[str, Any]]:
    """The body and its JSON object; of a large one the `model` alone. Raises: BadRequest.

    `field`: required; a large body is not searched for it.

    A large one is read piece by piece, and one after the other: nobody waits long for his turn, and memory is bounded.
    """
    body = await read_body(request)
    if len(body.data) <= AT_ONCE_BYTES:
        found = parse_object(body.data)
        if field and field not in found:
            raise BadRequest(f"'{field}' is required")
        return body, found
    async with _TURN:
        scan = scan_object(body.data)
        while True:
            try:
                next(scan)
            except StopIteration as end:
                return body, end.value
            await asyncio.sleep(0)


async def read_form(request: web.BaseRequest) -> tuple[Body, str, str]:
    """The body, written anew; the model that it names; its content type. Raises: BadRequest."""
    body = await read_body(request)
    form = parse_form(request.headers.get("Content-Type", ""), body.data)
    body.data = form.data
    return body, form.model, form.content_type


def _too_large() -> BadRequest:
    return BadRequest(f"the body is larger than {LIMIT_BYTES // 1024**2} MiB", 413)


async def forward(
    request: web.BaseRequest,
    session: aiohttp.ClientSession,
    target: str,
    *,
    body: Body | None = None,
    content_type: str = JSON_TYPE,
) -> web.StreamResponse:
    """Hand a request on and its answer back. `target`: the address as the guard understood it.

    The body is let go when the answer begins. Raises: UpstreamGone while nothing was answered yet.
    """
    headers = onward(request.headers.items())
    if body is not None:
        headers.append(("Content-Type", content_type))
    try:
        answer = await session.request(
            request.method,
            URL(f"http://127.0.0.1{target}", encoded=True),
            headers=headers,
            data=None if body is None else body.data,
            allow_redirects=False,
        )
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamGone(str(error) or type(error).__name__) from error
    if body is not None:
        body.let_go()
    async with answer:
        length = answer.content_length
        begun = b""
        if request.method == "HEAD" or answer.status >= 500 or (length is not None and length <= _WHOLE_BYTES):
            try:
                begun = await _begin(answer)
            except aiohttp.ClientError as error:
                raise UpstreamGone(str(error)) from error
            if answer.content.at_eof():
                return _whole(request, answer, begun)
        return await _stream(request, answer, begun)


async def _begin(answer: aiohttp.ClientResponse) -> bytes:
    """What there is, up to `_KEPT_BYTES` and a piece."""
    pieces: list[bytes] = []
    size = 0
    while size < _KEPT_BYTES and (piece := await answer.content.readany()):
        pieces.append(piece)
        size += len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _whole(request: web.BaseRequest, answer: aiohttp.ClientResponse, data: bytes) -> web.Response:
    whole = web.Response(status=answer.status, reason=answer.reason, body=data)
    _replace(whole, back(answer.headers.items()))
    if request.method == "HEAD" and answer.content_length is not None:
        whole.headers["Content-Length"] = str(answer.content_length)
    return whole


async def _stream(request: web.BaseRequest, answer: aiohttp.ClientResponse, begun: bytes) -> web.StreamResponse:
    """As it comes, after what has come."""
    stream = web.StreamResponse(status=answer.status, reason=answer.reason)
    _replace(stream, back(answer.headers.items()))
    if answer.content_length is not None:
        stream.content_length = answer.content_length
    await stream.prepare(request)
    try:
        if begun:
            await stream.write(begun)
        async for chunk in answer.content.iter_any():
            await stream.write(chunk)
    except aiohttp.ClientError:
        # The head has left: a second answer on this connection would be taken for part of the first.
        if request.transport is not None:
            request.transport.abort()
        return stream
    await stream.write_eof()
    return stream


def _replace(response: web.StreamResponse, headers: list[tuple[str, str]]) -> None:
    response.headers.clear()
    for name, value in headers:
        response.headers.add(name, value)
