"""The guard: understands each request, hands it to the front of its port, and answers whatever goes wrong."""

import asyncio
import contextlib
import errno
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.text import in_one_line
from gpumod_tui.core.units.guard import guarded_ports
from gpumod_tui.guard.admission import Gate
from gpumod_tui.guard.http import responses
from gpumod_tui.guard.http.forward import let_go
from gpumod_tui.guard.http.head import BadRequest, check_origin, split_target
from gpumod_tui.guard.http.responses import fault, reply
from gpumod_tui.guard.llamacpp.port import Front
from gpumod_tui.guard.llamacpp.routers import UpstreamGone
from gpumod_tui.guard.llamacpp.routes import ROUTER, VLLM, Denied, Kind, find_route
from gpumod_tui.guard.loads import Loads
from gpumod_tui.guard.server.metrics import Counts, write
from gpumod_tui.guard.vllm import Sleepers

_FRESH_S: Final = 1.0
"""Age of what /health and the metrics tell, at most."""
_FIRST_LOOK_S: Final = 2.0
"""For routers to answer before the first client is answered; the ledger knows their processes without them."""
_WATCH_S: Final = 5.0
"""Between two measurements while memory is held: what a model takes after it was ready counts in its next life."""
_IDLE_S: Final = 30.0
"""Between two looks whether any is held."""


class Guard:
    """All guarded ports of one user."""

    def __init__(self, host: Engine, socket_of: Callable[[str], Path]) -> None:
        """`socket_of`: where the service of an id listens."""
        self._socket_of = socket_of
        self._counts = Counts()
        self._gate = Gate(host)
        self._loads = Loads(self._gate, self._counts)
        self._fronts: dict[int, Front] = {}
        self._sleepers: dict[int, Sleepers] = {}
        self._adopt(host.registry)
        self._health: dict[int, tuple[float, bytes]] = {}
        self._figures: tuple[float, str] = (float("-inf"), "")

    @property
    def ports(self) -> tuple[int, ...]:
        """Ports that services stand behind."""
        return tuple(sorted({*self._fronts, *self._sleepers}))

    def _adopt(self, registry: ServiceRegistry) -> None:
        services = [service for service in registry.services.values() if service.is_guarded]
        for port in guarded_ports(services):
            here = [service for service in services if service.port == port]
            routers = [service for service in here if service.is_router]
            sleepers = [service for service in here if not service.is_router]
            if routers:
                if port not in self._fronts:
                    self._fronts[port] = Front(self._socket_of, self._loads, self._counts, self._gate, self._renew)
                self._fronts[port].adopt(routers)
            if sleepers:
                if port not in self._sleepers:
                    self._sleepers[port] = Sleepers(self._socket_of, self._loads, self._gate, self._counts)
                self._sleepers[port].adopt(sleepers)

    async def _renew(self) -> None:
        """Whatever is decided is decided on the presets as they are on disk."""
        self._adopt(await self._loads.read(self._gate.catalog))

    async def take_stock(self) -> None:
        """Settle the ledger with every running router, before anybody is answered."""
        try:
            stock = await self._loads.call(self._gate.stock)
            for text in stock.news:
                _tell(text)
        except GpumodError as error:
            _tell(f"stock cannot be taken, and loads are refused until it can: {error}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_LOOK_S):
                await asyncio.gather(*(front.running() for front in self._fronts.values()))

    async def watch(self) -> None:
        """Measure what any managed unit holds, often while one holds some; ends when cancelled."""
        pause_s = _WATCH_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = _IDLE_S
            # Also what no guard stands before takes memory, and nobody else may be there to measure it.
            with contextlib.suppress(GpumodError):
                stock = await self._loads.call(self._gate.stock)
                for text in stock.news:
                    _tell(text)
                if any(unit.measured or unit.models for unit in stock.look.live.values()):
                    pause_s = _WATCH_S

    async def handle(self, port: int, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request that came in on a port."""
        try:
            response = await self._handle(port, request)
        except BadRequest as error:
            response = fault(error.status, error.kind, str(error), error.headers)
        except UpstreamGone as error:
            response = _crowded() if _is_out_of_files(error.__cause__) else self._gone(str(error))
        except (ConnectionResetError, TimeoutError) as error:
            response = self._gone(str(error) or "no answer in time")
        except Exception as error:  # noqa: BLE001  a fault of ours ends one request, not the guard
            _tell(f"{request.method} {request.path}: {type(error).__name__}: {error}")
            response = fault(500, "server_error", "the guard failed; its journal says why")
        finally:
            let_go(request)
        self._counts.requests[response.status] += 1
        return response

    async def close(self) -> None:
        """Let go of everything."""
        await self._loads.close()
        for front in self._fronts.values():
            await front.close()
        for sleepers in self._sleepers.values():
            await sleepers.close()

    def dismiss(self) -> None:
        """End the streams that have no end of their own, so that a stop need not wait for them."""
        for front in self._fronts.values():
            front.dismiss()

    async def _handle(self, port: int, request: web.BaseRequest) -> web.StreamResponse:
        path, query = split_target(request.raw_path)
        if port not in self._fronts and port not in self._sleepers:
            await self._renew()
        front, sleepers = self._fronts.get(port), self._sleepers.get(port)
        if sleepers is not None and (front is None or not await front.running()):
            front = None
        table = VLLM if front is None else ROUTER
        if request.method == "OPTIONS":
            check_origin(request.headers, is_page=False)
            return web.Response(status=204, headers={"Allow": "GET, HEAD, POST, DELETE, OPTIONS"})
        route = find_route(table, request.method, path)
        is_page = not isinstance(route, Denied) and route.kind is Kind.PAGE
        check_origin(request.headers, is_page=is_page)
        if isinstance(route, Denied):
            kind = "not_found_error" if route.status == 404 else "method_not_allowed"
            headers = {"Allow": ", ".join(route.allow)} if route.allow else None
            return fault(route.status, kind, route.message, headers)
        if route.kind is Kind.REFUSED:
            return fault(403, "forbidden", route.reason)
        if route.kind is Kind.HEALTH and front is not None:
            return await self._tell_health(port, front)
        if route.kind is Kind.METRICS:
            return await self._tell_figures()
        if front is not None:
            return await front.handle(request, route, path, query)
        if sleepers is not None:
            if route.kind in (Kind.SLEEP, Kind.WAKE):
                await self._renew()
            return await sleepers.handle(request, route, path, query)
        return self._gone(f"no service stands behind port {port}: gpumod template install")

    async def _tell_health(self, port: int, front: Front) -> web.Response:
        at, body = self._health.get(port, (float("-inf"), b""))
        if time.monotonic() - at > _FRESH_S:
            await self._renew()
            try:
                async with asyncio.timeout(_FRESH_S):
                    running = await front.running()
            except TimeoutError:
                running = [router for router in front.routers if router.is_certain]
            mode = await self._loads.read(self._gate.mode)
            body = responses.dump({"status": "ok", "routers": len(running), "mode": mode})
            self._health[port] = (time.monotonic(), body)
        return reply(body)

    async def _tell_figures(self) -> web.Response:
        at, text = self._figures
        if time.monotonic() - at > _FRESH_S:
            text = await self._loads.call(functools.partial(_figures, self._gate, self._counts))
            self._figures = (time.monotonic(), text)
        return web.Response(body=text.encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    def _gone(self, message: str) -> web.Response:
        return fault(502, "router_gone", message)


def _is_out_of_files(cause: BaseException | None) -> bool:
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)


def _crowded() -> web.Response:
    message = "the guard has as many connections as it can; try again"
    return fault(503, "crowded", message, {"Retry-After": str(responses.SOON_S)})


def _figures(gate: Gate, counts: Counts) -> str:
    try:
        look, commitments = gate.measured()
    except GpumodError as error:
        _tell(f"metrics: {error}")
        return write(counts, None, {}, gate.mode(), gate.tallies())
    return write(counts, look, commitments, gate.mode(), gate.tallies())


def _tell(message: str) -> None:
    """One line for the journal, as a warning: systemd reads the level from the `<N>` before it."""
    print(in_one_line(f"<4>gpumod-guard: {message}"), file=sys.stderr, flush=True)
