"""Servers that can sleep (vLLM): their API passes, and whatever wakes one is admitted first."""

import asyncio
import functools
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web

from gpumod_tui.core.admission.decide import Granted
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import Service
from gpumod_tui.core.servers.vllm import Request, sleep_request, wake_requests
from gpumod_tui.core.text import in_one_line
from gpumod_tui.core.vram.sleep import GRACE_S
from gpumod_tui.guard.admission import Gate, Promise
from gpumod_tui.guard.http.forward import JSON_TYPE, forward, read_form, read_object
from gpumod_tui.guard.http.head import BadRequest, given_key, join_target
from gpumod_tui.guard.http.responses import fault, refuse, unauthorized
from gpumod_tui.guard.llamacpp.routers import ASK_S, UpstreamGone, open_session
from gpumod_tui.guard.llamacpp.routes import Kind, Route
from gpumod_tui.guard.loads import Loads
from gpumod_tui.guard.server.api_keys import Keys
from gpumod_tui.guard.server.body_budget import Body
from gpumod_tui.guard.server.metrics import Counts

_LOOK_S: Final = 0.2
"""Between two process lists: each takes a driver-wide lock in NVML for milliseconds."""


class Sleeper:
    """One such server."""

    def __init__(self, service: Service, socket: Path) -> None:
        self.service = service
        self.keys = Keys(service.api_key_file)
        self.session = open_session(socket)
        self.turning = asyncio.Lock()
        """Held while it goes to sleep or wakes."""

    async def is_asleep(self) -> bool:
        """Asked each time: it can be sent to sleep on its socket. Raises: UpstreamGone."""
        status, body = await self.ask("GET", "/is_sleeping", ASK_S)
        if status == 404:
            return False
        try:
            return json.loads(body)["is_sleeping"] is not False
        except (ValueError, KeyError, TypeError):
            raise UpstreamGone(f"{self.service.id}: GET /is_sleeping: HTTP {status}") from None

    async def order(self, requests: Sequence[Request], limit_s: float) -> tuple[int, bytes]:
        """One after the other, to the first that is refused; the last answer. Raises: UpstreamGone."""
        end = time.monotonic() + limit_s
        answer = (0, b"")
        for target, data in requests:
            answer = await self.ask("POST", target, max(end - time.monotonic(), ASK_S), data)
            if answer[0] != 200:
                break
        return answer

    async def ask(
        self, method: str, target: str, timeout_s: float, data: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Raises: UpstreamGone."""
        key = self.keys.first()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            async with asyncio.timeout(timeout_s):
                async with self.session.request(
                    method, f"http://server{target}", headers=headers, json=None if data is None else dict(data)
                ) as answer:
                    return answer.status, await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamGone(f"{self.service.id}: {str(error) or 'no answer in time'}") from error


class Sleepers:
    """Those that share one port: at most one is up, or the request's model names it."""

    def __init__(
        self,
        socket_of: Callable[[str], Path],
        loads: Loads,
        gate: Gate,
        counts: Counts,
    ) -> None:
        self._all: list[Sleeper] = []
        self._socket_of = socket_of
        self._loads = loads
        self._gate = gate
        self._counts = counts

    def adopt(self, services: Sequence[Service]) -> None:
        """As `Front.adopt`."""
        known = {server.service.id: server for server in self._all}
        for service in services:
            server = known.get(service.id)
            if server is None:
                self._all.append(Sleeper(service, self._socket_of(service.id)))
                continue
            if server.service.api_key_file != service.api_key_file:
                server.keys = Keys(service.api_key_file)
            server.service = service

    async def handle(
        self, request: web.BaseRequest, route: Route, path: str, query: dict[str, str]
    ) -> web.StreamResponse:
        """Raises: BadRequest, UpstreamGone."""
        body: Body | None = None
        content_type = JSON_TYPE
        model: object = None
        if route.kind is Kind.USE:
            body, asked = await read_object(request)
            model = asked.get("model")
        elif route.kind is Kind.TRANSCRIBE:
            body, model, content_type = await read_form(request)
        elif request.method == "POST":
            body = Body()
        server = await self._find(model)
        if route.kind in (Kind.USE, Kind.TRANSCRIBE, Kind.SLEEP, Kind.WAKE):
            if not server.keys.accept(given_key(request.headers)):
                return unauthorized()
            if route.kind is Kind.SLEEP:
                return await self._sleep(server, query.get("level"))
            woken = await self._awake(server)
            if woken is not None:
                return woken
            if route.kind is Kind.WAKE:
                return web.Response(status=200)
        kept = {name: query[name] for name in route.query if name in query}
        return await forward(request, server.session, join_target(path, kept), body=body, content_type=content_type)

    async def close(self) -> None:
        """Let go of all."""
        await asyncio.gather(*(server.session.close() for server in self._all))

    async def _find(self, model: object) -> Sleeper:
        if len(self._all) == 1:
            return self._all[0]
        up = []
        for server in self._all:
            try:
                await server.ask("GET", "/is_sleeping", ASK_S)
                up.append(server)
            except UpstreamGone:
                continue
        named = [server for server in up if server.service.model_id == model]
        found = named or up
        if not found:
            raise UpstreamGone("none of the servers behind this port runs")
        if len(found) > 1:
            names = ", ".join(server.service.id for server in found)
            raise BadRequest(f"it could be for {names}: name the model", 409, kind="ambiguous")
        return found[0]

    async def _sleep(self, server: Sleeper, level: str | None) -> web.Response:
        own = str(server.service.sleep_level)
        if level is not None and level != own:
            raise BadRequest(f"{server.service.id} sleeps at level {own}, as its preset says")
        return await asyncio.shield(asyncio.ensure_future(self._put_to_sleep(server)))

    async def _put_to_sleep(self, server: Sleeper) -> web.Response:
        """Answered when its memory is measured as back, or does not come back in time."""
        service = server.service
        async with self._turn(server):
            # One that sleeps already may be promised more than it holds.
            asleep = await server.is_asleep()
            promise = await self._loads.call(functools.partial(self._gate.before_sleep, service, asleep=asleep))
            # A wake that was asked for before is done first: a server takes its orders in their order.
            status, body = await server.order([sleep_request(service.sleep_level)], service.stop_timeout_s)
            if status == 200:
                await self._take_back(server, promise)
        return web.Response(status=status, body=body)

    @asynccontextmanager
    async def _turn(self, server: Sleeper) -> AsyncIterator[None]:
        """Nobody else puts it to sleep or wakes it meanwhile. Raises: BadRequest."""
        unit = server.service.unit
        end = time.monotonic() + server.service.startup_timeout_s
        try:
            async with server.turning:
                while (turn := await self._loads.call(functools.partial(self._gate.try_turn, unit))) is None:
                    if time.monotonic() >= end:
                        raise BadRequest(f"{server.service.id} is being put to sleep or woken", 503, kind="busy")
                    await asyncio.sleep(_LOOK_S)
                try:
                    yield
                finally:
                    turn.close()
        except GpumodError as error:
            raise BadRequest(str(error), 503, kind="unavailable") from error

    async def _take_back(self, server: Sleeper, promise: Promise) -> None:
        """It is promised less once its memory is back, and never before: until then its room is nobody else's."""
        unit = server.service.unit
        end = time.monotonic() + GRACE_S
        try:
            while not await self._loads.call(functools.partial(self._gate.has_given_back, unit, promise)):
                if time.monotonic() >= end:
                    raise UpstreamGone(f"its memory did not come back within {GRACE_S:g} s")
                await asyncio.sleep(_LOOK_S)
            shrunk = await server.is_asleep() and await self._loads.call(
                functools.partial(self._gate.shrink, unit, promise)
            )
            why = "" if shrunk else "it is about to wake"
        except (GpumodError, UpstreamGone) as error:
            why = str(error)
        if why:
            _tell(f"{server.service.id} stays promised its whole need: {why}")

    async def _awake(self, server: Sleeper) -> web.Response | None:
        """Wake it if that is admitted; None: it is awake. What a client's leaving would cut off goes on by itself."""
        if not await server.is_asleep():
            return None
        return await asyncio.shield(asyncio.ensure_future(self._wake(server)))

    async def _wake(self, server: Sleeper) -> web.Response | None:
        service = server.service
        async with self._turn(server):
            if not await server.is_asleep():
                return None
            held = await self._loads.call(functools.partial(self._gate.before_wake, service))
            verdict = await self._loads.call(functools.partial(self._gate.decide_wake, service.unit))
            if not isinstance(verdict, Granted):
                return refuse(verdict, self._counts, loaded=(), mode=self._gate.mode_for(service.unit))
            self._counts.admitted(service.id, service.model_id or service.id)
            status, _ = await server.order(wake_requests(service.sleep_level), service.startup_timeout_s)
            if status != 200 or await server.is_asleep():
                # It has answered, so that nothing of this wake is still on its way.
                await self._take_back(server, Promise(frozenset({verdict.commitment.id}), held))
                return fault(500, "wake_failed", f"{service.id} does not wake (HTTP {status})")
        return None


def _tell(message: str) -> None:
    print(in_one_line(f"gpumod-guard: {message}"), file=sys.stderr, flush=True)
