"""One public port with the routers behind it."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import ModelStatus, Service
from gpumod_tui.core.units.guard import GuardAction
from gpumod_tui.guard.admission import Gate
from gpumod_tui.guard.http import responses
from gpumod_tui.guard.http.body import checked_name, model_in
from gpumod_tui.guard.http.forward import JSON_TYPE, forward, read_form, read_object
from gpumod_tui.guard.http.head import BadRequest, given_key, join_target
from gpumod_tui.guard.http.responses import fault, not_loaded, refuse, reply, unauthorized
from gpumod_tui.guard.llamacpp.chat import check_messages, unreadable
from gpumod_tui.guard.llamacpp.events import Audience
from gpumod_tui.guard.llamacpp.routers import Answer, Candidate, Router, UpstreamGone, choose, merged
from gpumod_tui.guard.llamacpp.routes import Kind, Route
from gpumod_tui.guard.llamacpp.sessions import Conversations
from gpumod_tui.guard.loads import Full, Loads, NotBegun, Ready
from gpumod_tui.guard.server.api_keys import Keys
from gpumod_tui.guard.server.body_budget import Body
from gpumod_tui.guard.server.metrics import Counts

_OTHERS_S: Final = 2.0
"""For the routers of a port that have not answered when one of them has."""
_LIST_S: Final = 5.0
"""For a router's part of the list of models."""
_NEWS_S: Final = 1.0
"""For a router to notice that a model's process has ended."""
_CUT_OFF: Final = b"proxy error"
"""A router's words for a process that was ended under its request, or is not reached."""
_CONVERSATION: Final = "X-Conversation-Id"
_NEVER: Final = {"autoload": "false"}
"""Goes with every request: whatever a router was started with, it loads nothing because of one."""


class Front:
    """Decides for each request which router gets it, and whether it may."""

    def __init__(
        self,
        socket_of: Callable[[str], Path],
        loads: Loads,
        counts: Counts,
        gate: Gate,
        renew: Callable[[], Awaitable[None]],
    ) -> None:
        """`renew`: has what presets say now adopted, before anything is decided by it."""
        self._audience = Audience()
        self.routers: list[Router] = []
        self._socket_of = socket_of
        self._loads = loads
        self._counts = counts
        self._gate = gate
        self._renew = renew
        self._conversations = Conversations()

    def adopt(self, services: Iterable[Service]) -> None:
        """What the presets of the routers behind this port say. One that is not among them stays, as it was known."""
        known = {router.service.id: router for router in self.routers}
        for service in services:
            router = known.get(service.id)
            if router is None:
                self.routers.append(Router(service, self._socket_of(service.id), self._audience.hear))
                continue
            if router.service.api_key_file != service.api_key_file:
                router.keys = Keys(service.api_key_file)
            router.service = service

    async def running(self) -> list[Router]:
        """Routers that answer; their states are right. One that hangs is waited for only where no other answers."""
        if all(router.is_certain for router in self.routers):
            return list(self.routers)
        looks = {asyncio.ensure_future(router.look()): router for router in self.routers}
        pending, limit_s = set(looks), None
        while pending:
            done, pending = await asyncio.wait(pending, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                break
            if any(look.result() for look in done):
                limit_s = _OTHERS_S
        for look in pending:
            look.cancel()
        return [router for look, router in looks.items() if look not in pending and look.result()]

    async def handle(
        self, request: web.BaseRequest, route: Route, path: str, query: dict[str, str]
    ) -> web.StreamResponse:
        """Raises: BadRequest, UpstreamGone."""
        key = given_key(request.headers)
        kept = {name: query[name] for name in route.query if name in query}
        match route.kind:
            case Kind.USE | Kind.STEER:
                body, asked = await read_object(request, route.field)
                if route.is_chat:
                    check_messages(asked)
                target = join_target(path, kept | _NEVER)
                return await self._use(request, route, target, model_in(asked), key, body, JSON_TYPE)
            case Kind.TRANSCRIBE:
                body, model, content_type = await read_form(request)
                return await self._use(request, route, join_target(path, _NEVER), model, key, body, content_type)
            case Kind.ASK | Kind.PROPS:
                if not kept.get("model"):
                    if route.kind is Kind.ASK:
                        raise BadRequest("model name is missing from the request")
                    return await self._any(request, path, key)
                router, name = await self._where(kept["model"], key)
                if not _is_loaded(router, name):
                    return not_loaded()
                return await self._pass(request, router, name, join_target(path, kept | _NEVER))
            case Kind.MODELS:
                if query.get("reload"):
                    await self._check_allowed(GuardAction.RELOAD, "a reload can end loaded models")
                return await self._models(key, "/models?reload=1" if query.get("reload") else "/models")
            case Kind.LOAD | Kind.UNLOAD:
                _, asked = await read_object(request)
                model = model_in(asked)
                return await (self._load if route.kind is Kind.LOAD else self._unload)(model, key)
            case Kind.DOWNLOAD:
                await self._check_allowed(GuardAction.DOWNLOAD, "models are downloaded by hand")
                body, asked = await read_object(request)
                model_in(asked)
                routers = await self._open_to(key)
                if len(routers) > 1:
                    names = ", ".join(one.service.id for one in routers)
                    raise BadRequest(f"{names} could download it: let only one run", 409, kind="ambiguous")
                return await forward(request, routers[0].session, path, body=body)
            case Kind.DELETE:
                await self._check_allowed(GuardAction.DELETE, "models are deleted by hand")
                router, name = await self._where(checked_name(kept.get("model", "")), key, unknown=404)
                if router.states[name] in _RUNNING:
                    raise BadRequest(f"model '{name}' is running: unload it first", 409)
                return await forward(request, router.session, join_target(path, {"model": name}))
            case Kind.EVENTS:
                return await self._events(request, key)
            case Kind.SESSION | Kind.SESSIONS:
                return await self._session(request, route, path, kept, key)
            case Kind.PAGE:
                return await self._any(request, path, None)
            case _:
                return await self._any(request, path, key)

    async def close(self) -> None:
        """Let go of all routers."""
        await asyncio.gather(*(router.close() for router in self.routers))

    def dismiss(self) -> None:
        """End what has no end of its own."""
        self._audience.close()

    # -- models -----------------------------------------------------------------------------------------------------

    async def _use(
        self,
        request: web.BaseRequest,
        route: Route,
        target: str,
        model: str,
        key: str,
        body: Body,
        content_type: str,
    ) -> web.StreamResponse:
        router, name = await self._where(model, key, fresh=True)
        if not _is_loaded(router, name) and route.kind is Kind.STEER:
            return not_loaded()
        # Who waits for a model uses it: it is not unloaded for another before it has answered.
        with _using(router, name):
            if not _is_loaded(router, name):
                outcome = await asyncio.shield(self._loads.begin(router, name).done)
                if not isinstance(outcome, Ready):
                    return self._refuse(outcome, router)
            if _CONVERSATION in request.headers:
                self._conversations.remember(request.headers[_CONVERSATION], router)
            return await self._pass(request, router, name, target, body, content_type)

    async def _pass(
        self,
        request: web.BaseRequest,
        router: Router,
        name: str,
        target: str,
        body: Body | None = None,
        content_type: str = JSON_TYPE,
    ) -> web.StreamResponse:
        """Hand on what is for a loaded model."""
        ends = router.ends[name]
        with _using(router, name):
            response = await forward(request, router.session, target, body=body, content_type=content_type)
        said = response.body if isinstance(response, web.Response) and response.status == 500 else None
        if not isinstance(said, bytes):
            return response
        if said.startswith(_CUT_OFF):
            return await self._explain(router, name, ends) or response
        text = unreadable(said)
        return response if text is None else fault(400, "invalid_request_error", text)

    async def _explain(self, router: Router, name: str, ends: int) -> web.Response | None:
        """What became of a model that was cut off from a request; None: it runs. `ends`: its ends before that."""
        if name in router.dismissed:
            return fault(400, "invalid_request_error", f"model '{name}' was unloaded while it was asked")
        with contextlib.suppress(UpstreamGone, TimeoutError):
            await router.refresh()
            # A router finds out a moment later than its clients.
            await router.wait(name, lambda _: router.ends[name] != ends, _NEWS_S)
        if router.ends[name] == ends:
            return None
        text = f"model '{name}' was unloaded, or its process ended, while it was asked"
        return fault(503, "interrupted", text, {"Retry-After": str(responses.SOON_S)})

    async def _where(self, model: str, key: str, *, unknown: int = 400, fresh: bool = False) -> tuple[Router, str]:
        """The router to ask, and the model's own id there. `fresh`: it may have to be loaded.

        Raises: BadRequest, UpstreamGone.
        """
        for router in self.routers:
            if router.is_certain and _is_loaded(router, model) and router.keys.accept(key):
                return router, model
        if fresh:
            await self._renew()
        found: dict[str, tuple[Router, str]] = {}
        candidates = []
        for router in await self._open_to(key):
            name = router.name(model)
            if name is not None:
                default = router.service.default_model
                found[router.service.id] = (router, name)
                candidates.append(Candidate(router.service.id, router.states[name], default in (name, model)))
        chosen = choose(candidates)
        if isinstance(chosen, tuple):
            if not chosen:
                kind = "not_found_error" if unknown == 404 else "invalid_request_error"
                text = "model is not found" if unknown == 404 else f"model '{model}' not found"
                raise BadRequest(text, unknown, kind=kind)
            names = ", ".join(chosen)
            raise BadRequest(f"model '{model}' could be loaded by {names}: load it in one first", 409, kind="ambiguous")
        router, name = found[chosen]
        if name in router.ending:
            await router.wait_ended(name)
        return router, name

    async def _open_to(self, key: str) -> list[Router]:
        """Running routers that the client may ask. Raises: BadRequest, UpstreamGone."""
        running = await self.running()
        if not running:
            ids = ", ".join(router.service.id for router in self.routers)
            raise UpstreamGone(f"no router runs behind this port ({ids}): gpumod mode switch, or gpumod service start")
        allowed = [router for router in running if router.keys.accept(key)]
        if not allowed:
            raise BadRequest("Invalid API Key", 401, kind="authentication_error")
        return allowed

    async def _load(self, model: str, key: str) -> web.Response:
        router, name = await self._where(model, key, unknown=404, fresh=True)
        under_way = self._loads.find(router, name)
        if router.states[name] in _RUNNING and (under_way is None or under_way.begun.done()):
            await router.refresh()
            if under_way is not None and router.states.get(name) not in _RUNNING:
                # It was ended a moment ago, and those who wait for it are being told.
                await asyncio.shield(under_way.done)
        if self._loads.find(router, name) is not None or router.states.get(name) in _RUNNING:
            return fault(400, "invalid_request_error", "model is already running")
        outcome = await asyncio.shield(self._loads.begin(router, name).begun)
        if isinstance(outcome, Answer):
            return reply(outcome.body, outcome.status)
        return self._refuse(outcome, router)

    async def _unload(self, model: str, key: str) -> web.Response:
        router, name = await self._where(model, key)
        # Who asked may leave; half an unload would be left behind.
        answer = await self._loads.see_through(self._end(router, name))
        return reply(answer.body, answer.status)

    async def _end(self, router: Router, name: str) -> Answer:
        with contextlib.suppress(GpumodError):
            # The most it took is known at its end alone.
            await self._loads.call(self._gate.stock)
        before = name in router.dismissed
        router.dismissed.add(name)
        answer = await router.unload(name)
        if answer.status != 200 and not before:
            router.dismissed.discard(name)
        return answer

    def _refuse(self, outcome: NotBegun, router: Router) -> web.Response:
        loaded = [
            (name, other.service.id)
            for other in self.routers
            for name in other.states
            if _is_loaded(other, name) and isinstance(outcome, Full) <= (other is router)
        ]
        return refuse(outcome, self._counts, loaded=loaded, mode=self._gate.mode_for(router.service.unit))

    async def _check_allowed(self, action: GuardAction, why: str) -> None:
        """Raises: BadRequest."""
        if action not in await self._loads.read(self._gate.allowed):
            text = f"{why}, unless config.yaml says guard_allow: [{action}]"
            raise BadRequest(text, 403, kind="forbidden")

    async def _models(self, key: str, target: str) -> web.Response:
        """One entry an id: that of the router which a request for it would go to."""
        await self._renew()
        running = await self.running()
        allowed = [router for router in running if router.keys.accept(key)]
        if running and not allowed:
            return unauthorized()
        told = await asyncio.gather(
            *(router.ask("GET", target, timeout_s=_LIST_S) for router in allowed), return_exceptions=True
        )
        return reply(responses.dump({"data": merged(list(zip(allowed, told, strict=True))), "object": "list"}))

    # -- the rest ---------------------------------------------------------------------------------------------------

    async def _any(self, request: web.BaseRequest, path: str, key: str | None) -> web.StreamResponse:
        """Any router; the one that has a model loaded, if there is one. `key` None: the page is for everybody."""
        allowed = await self._open_to(key) if key is not None else await self.running()
        if not allowed:
            await self._open_to("")
        router = max(allowed, key=lambda one: any(_is_loaded(one, name) for name in one.states))
        return await forward(request, router.session, join_target(path, _NEVER if key is not None else {}))

    async def _events(self, request: web.BaseRequest, key: str) -> web.StreamResponse:
        await self._open_to(key)
        return await self._audience.stream(request, self.running)

    async def _session(
        self, request: web.BaseRequest, route: Route, path: str, kept: dict[str, str], key: str
    ) -> web.StreamResponse:
        return await self._conversations.ask(request, route, path, kept, await self._open_to(key))


_RUNNING: Final = (ModelStatus.LOADED, ModelStatus.LOADING, ModelStatus.SLEEPING)


@contextmanager
def _using(router: Router, model: str) -> Iterator[None]:
    """The model is not idle meanwhile."""
    router.used_at[model] = time.monotonic()
    router.in_use[model] = router.in_use.get(model, 0) + 1
    try:
        yield
    finally:
        router.in_use[model] -= 1
        router.used_at[model] = time.monotonic()


def _is_loaded(router: Router, model: str) -> bool:
    return router.states.get(model) is ModelStatus.LOADED and model not in router.ending
