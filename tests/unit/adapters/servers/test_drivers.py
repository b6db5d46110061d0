"""How each kind of server is understood, played by a small HTTP server."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.adapters.servers import driver_for, drivers_over
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import DriverKind, Health, ModelState, ModelStatus, Service
from tests.bed.host import wait_until

Route = tuple[int, Any]


class TcpServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has heard enough and goes is what some tests are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class UnixServer(TcpServer):
    address_family = socket.AF_UNIX

    def __init__(self, path: Path, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(str(path), handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        return self.socket.accept()[0], ("unix", 0)


class Server:
    """Answers by table; what it was asked is kept."""

    def __init__(self, path: Path | None = None) -> None:
        """`path`: a unix socket instead of a port."""
        self.routes: dict[str, Route | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.answer("GET")

            def do_POST(self) -> None:
                self.answer("POST")

            def answer(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                server.asked.append((f"{method} {self.path}", dict(self.headers), json.loads(body) if body else None))
                route = server.routes.get(f"{method} {self.path}", (404, {"error": {"message": "File Not Found"}}))
                if callable(route):
                    route(self)
                    return
                data = route[1] if isinstance(route[1], bytes) else json.dumps(route[1]).encode()
                self.send_response(route[0])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: object) -> None: ...

        self.http = TcpServer(("127.0.0.1", 0), Handler) if path is None else UnixServer(path, Handler)
        self.port = self.http.server_address[1]
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def service(kind: DriverKind, port: int | None, **more: Any) -> Service:
    return Service(id="srv", name="srv", driver=kind, port=port, **more)


def health(service: Service) -> Health:
    return driver_for(service).probe(service).health


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    return port


@pytest.mark.parametrize("kind", list(DriverKind))
def test_a_server_that_is_not_there_is_down(kind: DriverKind, free_port: int) -> None:
    probe = driver_for(service(kind, free_port)).probe(service(kind, free_port))
    assert probe.health is Health.DOWN
    assert "connection refused" in probe.detail


@pytest.mark.parametrize("kind", [DriverKind.VLLM])
def test_a_server_that_hangs_is_down_within_its_limit(kind: DriverKind) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        probe = driver_for(service(kind, 1)).probe(service(kind, silent.getsockname()[1]))
    assert probe.health is Health.DOWN
    assert "no answer in time" in probe.detail


def test_a_server_that_trickles_is_cut_off(server: Server) -> None:
    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(300):
            try:
                handler.wfile.write(b"X: y\r\n")
            except OSError:
                return
            time.sleep(0.1)

    server.routes["GET /health"] = trickle
    began = time.monotonic()
    assert health(service(DriverKind.FASTAPI, server.port)) is Health.DOWN
    assert time.monotonic() - began < 15, "all of it takes 30 s"


@pytest.mark.parametrize(
    ("status", "llamacpp", "fastapi", "vllm"),
    [
        (200, Health.READY, Health.READY, Health.LOADING),
        (503, Health.LOADING, Health.LOADING, Health.DEAD),
        (404, Health.LOADING, Health.LOADING, Health.LOADING),
        (500, Health.LOADING, Health.LOADING, Health.LOADING),
    ],
)
def test_what_a_status_means(server: Server, status: int, llamacpp: Health, fastapi: Health, vllm: Health) -> None:
    server.routes["GET /health"] = (status, {"error": {"message": "Loading model"}})
    assert health(service(DriverKind.LLAMACPP, server.port)) is llamacpp
    assert health(service(DriverKind.FASTAPI, server.port)) is fastapi
    assert health(service(DriverKind.VLLM, server.port)) is vllm


def test_vllm_is_ready_when_it_serves_models(server: Server) -> None:
    vllm = service(DriverKind.VLLM, server.port)
    server.routes["GET /health"] = (200, b"")
    server.routes["GET /v1/models"] = (200, {"data": [{"id": "Qwen/Q"}, {"no": "id"}]})
    assert health(vllm) is Health.READY
    assert driver_for(vllm).models(vllm) == (ModelState("Qwen/Q", ModelStatus.LOADED),)
    with pytest.raises(ServerError, match="cannot be loaded"):
        driver_for(vllm).load(vllm, "other")
    with pytest.raises(ServerError, match="cannot unload"):
        driver_for(vllm).unload(vllm, "Qwen/Q")


def test_no_answer_is_an_error_without_status(free_port: int) -> None:
    for kind in (DriverKind.LLAMACPP, DriverKind.VLLM):
        with pytest.raises(ServerError, match="refused") as caught:
            driver_for(service(kind, 1)).models(service(kind, free_port))
        assert caught.value.status is None


def test_the_api_key_is_read_at_use(server: Server, tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    router = service(DriverKind.LLAMACPP, server.port, api_key_file=key_file)
    server.routes["GET /health"] = (200, {})
    assert driver_for(router).probe(router).health is Health.DOWN
    assert server.asked == []
    for key in ("first", "second"):
        key_file.write_text(f"{key}\nanother\n")
        assert health(router) is Health.READY
        assert server.asked[-1][1]["Authorization"] == f"Bearer {key}"
    server.routes["GET /models"] = (401, {"error": {"message": "Invalid API Key"}})
    with pytest.raises(ServerError, match="Invalid API Key") as caught:
        driver_for(router).models(router)
    assert (caught.value.status, "api_key_file" in caught.value.hint) == (401, True)


def test_proxies_of_the_environment_have_no_say(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.routes["GET /health"] = (200, {})
    assert health(service(DriverKind.FASTAPI, server.port)) is Health.READY


ARGS = ["llama-server", "--port", "0", "--model", "/models/m.gguf", "--alias", "m"]


def test_a_routers_models(server: Server) -> None:
    router = service(DriverKind.LLAMACPP, server.port)
    listed = [
        {"id": "m", "status": {"value": "loaded", "args": ARGS}, "meta": {"size": 5}},
        {"id": "f", "status": {"value": "unloaded", "args": [], "failed": True, "exit_code": 1}},
        {"id": "n", "status": {"value": "hibernating"}},
        {"id": "o"},
        "odd",
    ]
    server.routes["GET /models"] = (200, {"data": listed})
    assert driver_for(router).models(router) == (
        ModelState("m", ModelStatus.LOADED, path=Path("/models/m.gguf")),
        ModelState("f", ModelStatus.UNLOADED, exit_code=1),
        ModelState("n", ModelStatus.UNKNOWN),
        ModelState("o", ModelStatus.UNKNOWN),
    )
    for answer in (b"<html>", {"data": 5}, [1]):
        server.routes["GET /models"] = (200, answer)
        with pytest.raises(ServerError, match="no list of models"):
            driver_for(router).models(router)


@pytest.mark.parametrize(
    ("status", "accepted"), [("loading", True), ("loaded", True), ("unloaded", False), ("sleeping", False)]
)
def test_already_running_is_believed_only_when_it_is_so(server: Server, status: str, accepted: bool) -> None:
    router = service(DriverKind.LLAMACPP, server.port)
    server.routes["POST /models/load"] = (400, {"error": {"message": "model is already running"}})
    server.routes["GET /models"] = (200, {"data": [{"id": "m", "status": {"value": status}}]})
    if accepted:
        driver_for(router).load(router, "m")
    else:
        with pytest.raises(ServerError, match="already running") as caught:
            driver_for(router).load(router, "m")
        assert caught.value.status == 400
    assert server.asked[0][0] == "POST /models/load"
    assert server.asked[0][1]["Content-Type"] == "application/json"
    assert server.asked[0][2] == {"model": "m"}


def test_whoever_waits_for_a_load_to_begin_is_heard_meanwhile() -> None:
    class Enough(Exception):
        pass

    def enough() -> None:
        raise Enough

    with socket.create_server(("127.0.0.1", 0)) as silent:
        router = service(DriverKind.LLAMACPP, silent.getsockname()[1])
        with pytest.raises(Enough):
            driver_for(router).load(router, "m", enough)


@pytest.mark.parametrize("status", [404, 500])
def test_a_refused_load_gives_the_servers_reason(server: Server, status: int) -> None:
    router = service(DriverKind.LLAMACPP, server.port)
    server.routes["POST /models/load"] = (status, {"error": {"message": "model limit reached"}})
    with pytest.raises(ServerError, match="model limit reached") as caught:
        driver_for(router).load(router, "m")
    assert caught.value.status == status


def test_an_unload_of_what_is_not_loaded_is_done(server: Server) -> None:
    router = service(DriverKind.LLAMACPP, server.port)
    server.routes["POST /models/unload"] = (400, {"error": {"message": "model is not running"}})
    server.routes["GET /models"] = (200, {"data": [{"id": "m", "status": {"value": "unloaded"}}]})
    driver_for(router).unload(router, "m")
    with pytest.raises(ServerError):
        driver_for(router).unload(router, "unknown")


def test_a_single_models_state_is_its_servers(server: Server, free_port: int) -> None:
    path = Path("/models/one.gguf")
    single = service(DriverKind.LLAMACPP, server.port, model_path=path)
    for status, expected in ((503, ModelStatus.LOADING), (200, ModelStatus.LOADED)):
        server.routes["GET /health"] = (status, {})
        assert driver_for(single).models(single) == (ModelState("one", expected, path=path),)
    with pytest.raises(ServerError):
        driver_for(single).models(service(DriverKind.LLAMACPP, free_port, model_path=path))


def event(model: str, kind: str, **data: Any) -> bytes:
    return b"data: " + json.dumps({"model": model, "event": kind, "data": data}).encode() + b"\n\n"


def test_a_load_is_followed_over_a_broken_stream(server: Server) -> None:
    router = service(DriverKind.LLAMACPP, server.port)
    loading = {"stages": ["text_model"], "current": "text_model", "value": 0.5}
    streams = [
        [event("m", "model_status", status="loading"), b": comment\n", b"data: {broken\n", b"data: [1]\n"],
        [event("m", "status_change", status="loading", progress=loading)],
        [event("m", "status_change", status="unloaded", exit_code=1)],
    ]
    done = threading.Event()

    def stream(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        if streams:
            for part in streams.pop(0):
                handler.wfile.write(part)
        else:
            done.wait(10)

    server.routes["GET /models/sse"] = stream
    server.routes["GET /models"] = (200, {"data": [{"id": "m", "status": {"value": "loading", "args": ARGS}}]})
    seen: list[ModelState] = []
    with closing(driver_for(router).follow_models(router, seen.append)):
        wait_until(lambda: bool(seen) and seen[-1].exit_code == 1)
    done.set()
    path = Path("/models/m.gguf")
    # After each reconnect the model is asked for: "loading" without progress comes in between, perhaps said twice.
    assert [state for state, _ in groupby(seen)][:2] == [
        ModelState("m", ModelStatus.LOADING, path=path),
        ModelState("m", ModelStatus.LOADING, progress=0.5, stage="text_model", path=path),
    ]
    assert seen[-1] == ModelState("m", ModelStatus.UNLOADED, exit_code=1, path=path)


def test_a_follower_closes_at_once_while_it_waits_for_an_event(server: Server) -> None:
    router = service(DriverKind.LLAMACPP, server.port)
    connected, done = threading.Event(), threading.Event()

    def stream(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        connected.set()
        done.wait(60)

    server.routes["GET /models/sse"] = stream
    server.routes["GET /models"] = (200, {"data": [{"id": "m", "status": {"value": "loaded"}}]})
    seen: list[ModelState] = []
    follower = driver_for(router).follow_models(router, seen.append)
    assert connected.wait(30)
    wait_until(lambda: len(seen) == 1)
    began = time.monotonic()
    follower.close()
    follower.close()
    assert time.monotonic() - began < 30
    done.set()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("gpumod-models")]


def test_servers_without_a_stream_are_asked_again(server: Server) -> None:
    single = service(DriverKind.LLAMACPP, server.port, model_path=Path("/m/one.gguf"))
    server.routes["GET /health"] = (503, {})
    seen: list[ModelState] = []
    with closing(driver_for(single).follow_models(single, seen.append)):
        wait_until(lambda: len(seen) == 1)
        server.routes["GET /health"] = (200, {})
        wait_until(lambda: len(seen) == 2)
    assert [state.status for state in seen] == [ModelStatus.LOADING, ModelStatus.LOADED]
    for kind in (DriverKind.VLLM, DriverKind.FASTAPI, DriverKind.COMMAND):
        driver_for(service(kind, server.port)).follow_models(service(kind, server.port), seen.append).close()


def test_a_command_is_ready_when_its_port_accepts(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as no_http:
        port = no_http.getsockname()[1]
        assert health(service(DriverKind.COMMAND, port, health_endpoint="")) is Health.READY
    assert health(service(DriverKind.COMMAND, None)) is Health.READY
    assert health(service(DriverKind.COMMAND, server.port)) is Health.READY
    server.routes["GET /health"] = (503, {})
    assert health(service(DriverKind.COMMAND, server.port)) is Health.LOADING
    assert health(service(DriverKind.COMMAND, server.port, health_endpoint="/up")) is Health.LOADING
    server.routes["GET /up"] = (204, b"")
    assert health(service(DriverKind.COMMAND, server.port, health_endpoint="/up")) is Health.READY


def test_http_is_loaded_only_when_something_is_asked() -> None:
    script = (
        "import sys; from gpumod_tui.adapters.servers import driver_for;"
        "from gpumod_tui.core.models import DriverKind, Service;"
        "[driver_for(Service('a', 'a', kind)) for kind in DriverKind];"
        "print([name for name in ('http.client', 'httpx', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_guarded_service_is_reached_through_its_socket_and_never_through_its_port(
    server: Server, tmp_path: Path
) -> None:
    """On its port the guard answers: it would report itself healthy, and ask itself for loads."""
    drivers = drivers_over(lambda service_id: tmp_path / f"{service_id}.sock")
    router = service(DriverKind.LLAMACPP, server.port)
    driver = drivers(router)
    server.routes["GET /health"] = (200, {})
    down = driver.probe(router)
    assert down.health is Health.DOWN
    assert str(tmp_path / "srv.sock") in down.detail
    behind = Server(tmp_path / "srv.sock")
    try:
        loaded = {"data": [{"id": "m", "status": {"value": "loaded"}}]}
        behind.routes |= {"GET /health": (200, {}), "GET /models": (200, loaded), "POST /models/load": (200, {})}
        behind.routes["POST /models/unload"] = (200, {})
        behind.routes["GET /models/sse"] = (200, event("m", "status_change", status="unloaded"))
        assert driver.probe(router).health is Health.READY
        driver.load(router, "m")
        driver.unload(router, "m")
        seen: list[ModelState] = []
        with closing(driver.follow_models(router, seen.append)):
            wait_until(lambda: [state.status for state in seen][:2] == [ModelStatus.LOADED, ModelStatus.UNLOADED])
        assert server.asked == []
    finally:
        behind.close()
    sleeper = service(DriverKind.VLLM, server.port, unit_vars={"enable_sleep_mode": True})
    assert drivers(sleeper).probe(sleeper).health is Health.DOWN
    single = service(DriverKind.LLAMACPP, server.port, model_path=Path("/m.gguf"))
    assert drivers(single).probe(single).health is Health.READY
