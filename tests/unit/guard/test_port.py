"""A port's front: who waits for a model uses it."""

import asyncio
import json
from collections.abc import Callable, Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web

from gpumod_tui.core.models import DriverKind, ModelStatus, Service
from gpumod_tui.guard.llamacpp.port import Front
from gpumod_tui.guard.llamacpp.routers import Answer
from gpumod_tui.guard.llamacpp.routes import Kind, Route
from gpumod_tui.guard.loads import Full, Load, Loads
from gpumod_tui.guard.server.body_budget import Body
from gpumod_tui.guard.server.metrics import Counts
from tests.unit.guard.test_loads import PlayedGate, PlayedRouter, session_in_loop

pytestmark = pytest.mark.usefixtures("session_in_loop")
__all__ = ("session_in_loop",)

EVICTING = Service("r", "r.service", DriverKind.LLAMACPP, default_model="a", unit_vars={"evict": True})


class BusyRouter(PlayedRouter):
    """The moment it has loaded a model, somebody asks for the other one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.service = EVICTING
        self.really = {}
        self.at_load: Callable[[], None] = lambda: None

    async def look(self) -> bool:
        return True

    async def ask(self, method: str, path: str, post: Any = None, *, timeout_s: float = 0.0) -> Answer:
        if path == "/models/unload":
            self.asked.append(f"{path} {post['model']}")
            self.really[post["model"]] = "unloaded"
            self.note(post["model"], ModelStatus.UNLOADED)
            return Answer(200, b'{"success":true}')
        answer = await super().ask(method, path, post, timeout_s=timeout_s)
        if path == "/models/load":
            self.at_load()
        return answer


def test_a_model_is_not_evicted_before_those_who_waited_for_it_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        router = BusyRouter(tmp_path)
        loads = Loads(PlayedGate(0.0), Counts())

        async def renew() -> None: ...

        front = Front(lambda name: tmp_path / name, loads, Counts(), PlayedGate(0.0), renew)
        front.routers = [router]
        served: list[str] = []
        others: list[Load] = []

        async def forward(*_args: object, **_more: object) -> web.Response:
            await asyncio.sleep(0.05)
            served.append(router.states["b"])
            return web.Response()

        monkeypatch.setattr("gpumod_tui.guard.llamacpp.port.forward", forward)
        router.at_load = lambda: others.append(loads.begin(router, "a"))
        request: Any = SimpleNamespace(headers={})
        route = Route(Kind.USE)
        answer = await front._use(request, route, "/v1/chat/completions", "b", "", Body(b"{}"), "application/json")
        assert answer.status == 200
        assert served == ["loaded"]
        assert await others[0].done == Full("r", 1, ("b",), evicts=True)
        assert router.asked == ["/models/load b"]

        # Served, it is idle, and gives way.
        again = loads.begin(router, "a")
        router.at_load = lambda: None
        await again.done
        assert router.asked[1:] == ["/models/unload b", "/models/load a"]
        await loads.close()

    asyncio.run(run())


class HopelessGate(PlayedGate):
    def would_fit(self, unit: str, model: str, without: Collection[str]) -> bool:
        assert (unit, model, tuple(without)) == ("r.service", "a", ("b",))
        return False


def test_an_idle_model_stays_where_its_room_would_not_do(tmp_path: Path) -> None:
    async def run() -> None:
        router = BusyRouter(tmp_path)
        router.really["b"] = "loaded"
        router.note("b", ModelStatus.LOADED)
        loads = Loads(HopelessGate(0.0), Counts())
        assert await loads.begin(router, "a").done == Full("r", 1, ("b",), evicts=True)
        assert router.asked == []
        await loads.close()

    asyncio.run(run())


def passed(router: PlayedRouter, *said: web.Response, folder: Path, monkeypatch: pytest.MonkeyPatch) -> web.Response:
    """What a client is told where the router says this."""
    left = list(said)

    async def forward(*_args: object, **_more: object) -> web.Response:
        return left.pop(0)

    async def renew() -> None: ...

    async def run() -> web.StreamResponse:
        loads = Loads(PlayedGate(0.0), Counts())
        front = Front(lambda name: folder / name, loads, Counts(), PlayedGate(0.0), renew)
        front.routers = [router]
        request: Any = SimpleNamespace(headers={}, method="POST")
        try:
            return await front._pass(request, router, "a", "/v1/chat/completions", Body(b"{}"))
        finally:
            await loads.close()

    monkeypatch.setattr("gpumod_tui.guard.llamacpp.port.forward", forward)
    monkeypatch.setattr("gpumod_tui.guard.llamacpp.port._NEWS_S", 0.2)
    answer = asyncio.run(run())
    assert isinstance(answer, web.Response)
    return answer


CUT_OFF = b"proxy error: Failed to read connection"


class Ending(PlayedRouter):
    """Has a model loaded whose process ends, or does not, by the time it is asked for its models."""

    def __init__(self, folder: Path, *, ends: bool) -> None:
        super().__init__(folder)
        self.really = {"a": "unloaded" if ends else "loaded"}
        self.states["a"] = ModelStatus.LOADED

    async def look(self) -> bool:
        return True


def test_a_model_that_was_unloaded_past_the_guard_while_it_was_asked_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = web.Response(status=500, body=CUT_OFF)
    answer = passed(Ending(tmp_path, ends=True), said, folder=tmp_path, monkeypatch=monkeypatch)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert json.loads(bytes(answer.body))["error"]["type"] == "interrupted"  # type: ignore[arg-type]


def test_a_model_that_was_unloaded_through_the_guard_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = Ending(tmp_path, ends=True)
    router.dismissed.add("a")
    said = web.Response(status=500, body=CUT_OFF)
    assert passed(router, said, folder=tmp_path, monkeypatch=monkeypatch).status == 400


def test_a_model_that_runs_on_has_failed_as_its_router_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = web.Response(status=500, body=CUT_OFF)
    assert passed(Ending(tmp_path, ends=False), said, folder=tmp_path, monkeypatch=monkeypatch) is said


def test_what_a_server_cannot_read_is_the_clients_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '{"error":{"code":500,"message":"Failed to parse messages: no","type":"server_error"}}'
    said = web.Response(status=500, body=text.encode())
    answer = passed(Ending(tmp_path, ends=False), said, folder=tmp_path, monkeypatch=monkeypatch)
    told = json.loads(bytes(answer.body))["error"]  # type: ignore[arg-type]
    assert (answer.status, told["code"], told["type"]) == (400, 400, "invalid_request_error")
    assert told["message"] == "Failed to parse messages: no"
