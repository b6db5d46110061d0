"""How servers are put to sleep and woken over their unix sockets: every wait ends, and no answer is taken for a yes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.adapters.servers import drivers_over
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import DriverKind, OnLeave, Service
from gpumod_tui.core.ports import ServerDriver
from tests.unit.adapters.servers.test_drivers import Server

VLLM = Service("srv", "srv", DriverKind.VLLM, port=1, on_leave=OnLeave.SLEEP, stop_timeout_s=60, startup_timeout_s=60)
HASTY = replace(VLLM, stop_timeout_s=0.5, startup_timeout_s=0.5)
ROUTER = Service("srv", "srv", DriverKind.LLAMACPP, port=1)
SINGLE = Service("srv", "srv", DriverKind.LLAMACPP, port=1, model_path=Path("/m.gguf"))
FASTAPI = Service("srv", "srv", DriverKind.FASTAPI, port=1)


class Stop(Exception):
    """Somebody has had enough."""


def nothing() -> None:
    """Nobody waits for anything else."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "srv.sock")
    yield server
    server.close()


@pytest.fixture
def driver(server: Server, tmp_path: Path) -> ServerDriver:
    return drivers_over(lambda name: tmp_path / f"{name}.sock")(VLLM)


def routers(tmp_path: Path, service: Service) -> ServerDriver:
    return drivers_over(lambda name: tmp_path / f"{name}.sock")(service)


HANGS_S = 120


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(HANGS_S)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(10 * HANGS_S):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.1)


def garbage(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff no HTTP\r\n\r\n")
    handler.close_connection = True


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


def asked(server: Server) -> list[str]:
    return [what for what, _, _ in server.asked]


def test_a_vllm_sleeps_at_its_level_and_is_woken_in_one_go(server: Server, driver: ServerDriver) -> None:
    server.routes = {"POST /sleep?level=1": (200, b""), "POST /wake_up": (200, b"")}
    driver.sleep(VLLM, nothing)
    driver.wake(VLLM, nothing)
    assert asked(server) == ["POST /sleep?level=1", "POST /wake_up"]


def test_a_vllm_whose_weights_were_dropped_loads_them_again(server: Server, driver: ServerDriver) -> None:
    deep = Service("srv", "srv", DriverKind.VLLM, port=1, on_leave=OnLeave.SLEEP, sleep_mode="l2")
    steps = ["POST /wake_up?tags=weights", "POST /collective_rpc", "POST /wake_up?tags=kv_cache"]
    server.routes = {"POST /sleep?level=2": (200, b""), **dict.fromkeys(steps, (200, b""))}
    driver.sleep(deep, nothing)
    driver.wake(deep, nothing)
    assert asked(server) == ["POST /sleep?level=2", *steps]
    assert server.asked[2][2] == {"method": "reload_weights"}


def test_weights_that_are_not_loaded_again_are_no_wake(server: Server, driver: ServerDriver) -> None:
    deep = Service("srv", "srv", DriverKind.VLLM, port=1, on_leave=OnLeave.SLEEP, sleep_mode="l2")
    server.routes = {"POST /wake_up?tags=weights": (200, b""), "POST /collective_rpc": (500, {"detail": "no file"})}
    with pytest.raises(ServerError, match=r"collective_rpc.*no file"):
        driver.wake(deep, nothing)
    assert "POST /wake_up?tags=kv_cache" not in asked(server)


@pytest.mark.parametrize("route", [hang, trickle, garbage, hang_up, (500, {"detail": "engine is dead"}), (404, b"{")])
@pytest.mark.parametrize("verb", ["sleep", "wake"])
def test_no_answer_is_taken_for_a_yes_and_none_is_waited_for_long(
    server: Server, driver: ServerDriver, verb: str, route: Any
) -> None:
    server.routes = {"POST /sleep?level=1": route, "POST /wake_up": route}
    began = time.monotonic()
    with pytest.raises(ServerError):
        getattr(driver, verb)(HASTY, nothing)
    assert time.monotonic() - began < HANGS_S / 2


@pytest.mark.parametrize("route", [hang, trickle])
@pytest.mark.parametrize("verb", ["sleep", "wake"])
def test_who_waits_is_heard_and_ends_the_wait(
    server: Server, driver: ServerDriver, verb: str, route: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    server.routes = {"POST /sleep?level=1": route, "POST /wake_up": route}
    heard = []

    def meanwhile() -> None:
        heard.append(time.monotonic())
        if len(heard) == 3:
            raise Stop

    with pytest.raises(Stop):
        getattr(driver, verb)(VLLM, meanwhile)
    assert len(heard) == 3


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ((200, {"is_sleeping": True}), True),
        ((200, {"is_sleeping": False}), False),
        ((404, b""), False),
        ((200, {"is_sleeping": "yes"}), None),
        ((200, [True]), None),
        ((200, b"\xff"), None),
        ((200, b""), None),
        ((500, {"is_sleeping": False}), None),
    ],
)
def test_whether_it_sleeps_is_told_or_unknown(server: Server, driver: ServerDriver, route: Any, said: Any) -> None:
    server.routes = {"GET /is_sleeping": route}
    assert driver.is_sleeping(VLLM) is said


@pytest.mark.parametrize("route", [hang_up, garbage])
def test_no_answer_whether_it_sleeps_is_an_error(server: Server, driver: ServerDriver, route: Any) -> None:
    server.routes = {"GET /is_sleeping": route}
    with pytest.raises(ServerError):
        driver.is_sleeping(VLLM)


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    gone = routers(tmp_path, VLLM)
    for call in (gone.sleep, gone.wake):
        with pytest.raises(ServerError, match="refused"):
            call(VLLM, nothing)
    with pytest.raises(ServerError, match="refused"):
        gone.is_sleeping(VLLM)


def models(**status: str) -> tuple[int, Any]:
    return 200, {"data": [{"id": name, "status": {"value": value}} for name, value in status.items()]}


def test_a_router_unloads_what_runs_and_nothing_else(server: Server, tmp_path: Path) -> None:
    router = routers(tmp_path, ROUTER)
    server.routes = {
        "GET /models": models(a="loaded", b="unloaded", c="loading", d="sleeping", e="downloaded"),
        "POST /models/unload": (200, {"success": True}),
    }
    assert router.is_sleeping(ROUTER) is False
    router.sleep(ROUTER, nothing)
    assert [body["model"] for what, _, body in server.asked if what == "POST /models/unload"] == ["a", "c", "d"]
    server.routes["GET /models"] = models(a="unloaded", e="downloaded")
    assert router.is_sleeping(ROUTER) is True
    router.wake(ROUTER, nothing)


def test_a_router_that_refuses_to_unload_does_not_sleep(server: Server, tmp_path: Path) -> None:
    server.routes = {"GET /models": models(a="loaded"), "POST /models/unload": (500, {"error": {"message": "stuck"}})}
    with pytest.raises(ServerError, match="stuck"):
        routers(tmp_path, ROUTER).sleep(ROUTER, nothing)
    unreadable: list[tuple[int, object]] = [(200, b"{"), (200, []), (200, {"data": None}), (500, b"")]
    for route in unreadable:
        server.routes["GET /models"] = route
        with pytest.raises(ServerError):
            routers(tmp_path, ROUTER).is_sleeping(ROUTER)


@pytest.mark.parametrize("service", [SINGLE, FASTAPI])
def test_what_cannot_sleep_says_so(service: Service, tmp_path: Path) -> None:
    driver = routers(tmp_path, service)
    for call in (driver.sleep, driver.wake):
        with pytest.raises(ServerError, match="cannot"):
            call(service, nothing)
    with pytest.raises(ServerError):
        driver.is_sleeping(service)
