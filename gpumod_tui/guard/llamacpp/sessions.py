"""Conversations that llama-server keeps: which router has which, so that their sessions are asked of the right one."""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from gpumod_tui.guard.http import responses
from gpumod_tui.guard.http.forward import AT_ONCE_BYTES, forward, read_object
from gpumod_tui.guard.http.head import BadRequest, join_target
from gpumod_tui.guard.http.responses import reply
from gpumod_tui.guard.llamacpp.routers import Answer, Router
from gpumod_tui.guard.llamacpp.routes import Kind, Route
from gpumod_tui.guard.server.body_budget import Body

_REMEMBERED: Final = 1000


class Conversations:
    """The routers of the last conversations, by the id that clients give them."""

    def __init__(self) -> None:
        self._routers: OrderedDict[str, Router] = OrderedDict()

    def remember(self, conversation: str, router: Router) -> None:
        """It goes on there."""
        self._routers[conversation] = router
        self._routers.move_to_end(conversation)
        while len(self._routers) > _REMEMBERED:
            self._routers.popitem(last=False)

    async def ask(
        self, request: web.BaseRequest, route: Route, path: str, kept: dict[str, str], allowed: Sequence[Router]
    ) -> web.StreamResponse:
        """The answer of the router that has the conversation; a list of sessions is that of all. Raises: BadRequest."""
        body: Body | None = None
        if route.kind is Kind.SESSIONS:
            body, asked = await read_object(request)
            if len(body.data) > AT_ONCE_BYTES:
                raise BadRequest(f"the body is larger than {AT_ONCE_BYTES // 1024} KiB", 413)
            if len(allowed) > 1:
                told = await asyncio.gather(*(router.ask("POST", path, asked) for router in allowed))
                return reply(responses.dump([one for answer in told for one in _list(answer)]))
        known = self._routers.get(kept.get("conv_id", ""))
        router = known if known in allowed and known is not None else allowed[0]
        return await forward(request, router.session, join_target(path, kept), body=body)


def _list(answer: Answer) -> list[Any]:
    try:
        found = json.loads(answer.body)
    except ValueError:
        return []
    return found if isinstance(found, list) else []
