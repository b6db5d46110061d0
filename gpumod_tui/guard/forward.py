"""Bytes between client and server: headers cleaned, streams as they come, the server let go when the client goes."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from gpumod_tui.guard.body import LIMIT_BYTES, parse_object
from gpumod_tui.guard.requests import BadRequest, back, onward
from gpumod_tui.guard.scan import scan_object
from gpumod_tui.guard.upstreams import UpstreamGone

_WHOLE_BYTES: Final = 64 * 1024
"""A known length up to this is sent in one piece."""
AT_ONCE_BYTES: Final = 64 * 1024
"""A JSON body up to this is read in one go."""
_TURN: Final = asyncio.Lock()
JSON_TYPE: Final = "application/json"


async def read_body(request: web.BaseRequest) -> bytes:
    """The whole body. Raises: BadRequest, status 413 or 415."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise BadRequest("a compressed body is not read", 415)
    if (request.content_length or 0) > LIMIT_BYTES:
        raise _too_large()
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # Only the answer itself counts as output.
        request.writer.output_size = 0
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > LIMIT_BYTES:
                raise _too_large()
            chunks.append(chunk)
    except (aiohttp.ClientPayloadError, web.RequestPayloadError) as error:
        raise BadRequest("the body is damaged") from error
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_object(request: web.BaseRequest, field: str = "") -> tuple[bytes, dict[str, Any]]:
    """The body and its JSON object; of a large one the `model` alone. Raises: BadRequest.

    `field`: required; a large body is not searched for it.

    A large one is read piece by piece, and one after the other: nobody waits long for his turn, and memory is bounded.
    """
    data = await read_body(request)
    if len(data) <= AT_ONCE_BYTES:
        found = parse_object(data)
        if field and field not in found:
            raise BadRequest(f"'{field}' is required")
        return data, found
    async with _TURN:
        scan = scan_object(data)
        while True:
            try:
                next(scan)
            except StopIteration as end:
                return data, end.value
            await asyncio.sleep(0)


def _too_large() -> BadRequest:
    return BadRequest(f"the body is larger than {LIMIT_BYTES // 1024**2} MiB", 413)


async def forward(
    request: web.BaseRequest,
    session: aiohttp.ClientSession,
    target: str,
    *,
    data: bytes | None = None,
    content_type: str = JSON_TYPE,
    extra: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """Hand a request on and its answer back. `target`: the address as the guard understood it.

    Raises: UpstreamGone while nothing was answered yet.
    """
    headers = onward(request.headers.items())
    if data is not None:
        headers.append(("Content-Type", content_type))
    if extra:
        headers.extend(extra.items())
    try:
        answer = await session.request(
            request.method,
            URL(f"http://127.0.0.1{target}", encoded=True),
            headers=headers,
            data=data,
            allow_redirects=False,
        )
    except (aiohttp.ClientError, OSError) as error:
        raise UpstreamGone(str(error) or type(error).__name__) from error
    async with answer:
        length = answer.content_length
        headers = back(answer.headers.items())
        if request.method == "HEAD" or answer.status >= 500 or (length is not None and length <= _WHOLE_BYTES):
            try:
                body = await answer.read()
            except aiohttp.ClientError as error:
                raise UpstreamGone(str(error)) from error
            whole = web.Response(status=answer.status, reason=answer.reason, body=body)
            _replace(whole, headers)
            if request.method == "HEAD" and length is not None:
                whole.headers["Content-Length"] = str(length)
            return whole
        stream = web.StreamResponse(status=answer.status, reason=answer.reason)
        _replace(stream, headers)
        if length is not None:
            stream.content_length = length
        await stream.prepare(request)
        try:
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
