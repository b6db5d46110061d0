"""LlamaCppDriver against real llama-servers, VllmDriver against the played one."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gpumod_tui.adapters.servers import driver_for, drivers_over
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import DriverKind, Health, ModelState, ModelStatus, Service
from tests.bed.host import copy_models, model_files, run, wait_until

pytestmark = pytest.mark.bed

ROUTER = Service(id="router", name="router", driver=DriverKind.LLAMACPP, port=7070)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def llama(*options: str, port: int = 7070) -> list[str]:
    return ["llama-server", "--host", "127.0.0.1", "--port", str(port), *options]


def wait_ready(service: Service) -> None:
    wait_until(lambda: driver_for(service).probe(service).health is Health.READY, what="the server is ready")


def status(service: Service, model: str) -> ModelStatus | None:
    return next((state.status for state in driver_for(service).models(service) if state.id == model), None)


def test_a_routers_model_is_loaded_followed_and_unloaded() -> None:
    folder = Path.home() / "models"
    names = [path.stem for path in model_files()]
    assert driver_for(ROUTER).probe(ROUTER).health is Health.DOWN
    seen: list[ModelState] = []
    driver = driver_for(ROUTER)
    with (
        closing(driver.follow_models(ROUTER, seen.append)),
        running(*llama("--models-dir", str(folder), "--models-max", "1", "--no-models-autoload")) as server,
    ):
        wait_ready(ROUTER)
        assert {(state.id, state.status) for state in driver.models(ROUTER)} == {
            (name, ModelStatus.UNLOADED) for name in names
        }
        assert {state.path for state in driver.models(ROUTER)} == set(model_files())
        wait_until(lambda: len(seen) >= len(names))
        driver.load(ROUTER, names[0])
        driver.load(ROUTER, names[0])
        wait_until(lambda: status(ROUTER, names[0]) is ModelStatus.LOADED)
        wait_until(lambda: any(state.id == names[0] and state.status is ModelStatus.LOADED for state in seen))
        mine = [state for state in seen if state.id == names[0]]
        assert any(state.status is ModelStatus.LOADING for state in mine)
        assert any(state.progress is not None and state.stage for state in mine)
        # With room for one, a second load evicts the first.
        driver.load(ROUTER, names[1])
        wait_until(lambda: status(ROUTER, names[1]) is ModelStatus.LOADED)
        assert status(ROUTER, names[0]) is ModelStatus.UNLOADED
        driver.unload(ROUTER, names[1])
        wait_until(lambda: status(ROUTER, names[1]) is ModelStatus.UNLOADED)
        driver.unload(ROUTER, names[1])
        with pytest.raises(ServerError) as caught:
            driver.load(ROUTER, "unknown")
        assert caught.value.status == 404
        server.kill()
        wait_until(lambda: driver.probe(ROUTER).health is Health.DOWN)


def test_a_failed_load_shows_its_exit_code(tmp_path: Path) -> None:
    copy_models(["broken"], tmp_path)
    (tmp_path / "broken.gguf").write_bytes((tmp_path / "broken.gguf").read_bytes()[:4096])
    driver = driver_for(ROUTER)
    seen: list[ModelState] = []
    with running(*llama("--models-dir", str(tmp_path), "--no-models-autoload")):
        wait_ready(ROUTER)
        with closing(driver.follow_models(ROUTER, seen.append)):
            wait_until(lambda: bool(seen))
            driver.load(ROUTER, "broken")
            wait_until(lambda: bool(seen[-1].exit_code), what="the failure is followed")
        (state,) = driver.models(ROUTER)
    assert state.status is ModelStatus.UNLOADED
    assert state.exit_code not in (0, None)
    assert seen[-1].status is ModelStatus.UNLOADED


def test_a_follower_goes_on_after_a_restart() -> None:
    driver = driver_for(ROUTER)
    name = model_files()[0].stem
    seen: list[ModelState] = []
    command = llama("--models-dir", str(Path.home() / "models"), "--no-models-autoload")
    with closing(driver.follow_models(ROUTER, seen.append)):
        for _ in range(2):
            seen.clear()
            with running(*command):
                wait_ready(ROUTER)
                driver.load(ROUTER, name)
                wait_until(lambda: any(state.status is ModelStatus.LOADED for state in seen))


def test_a_key_is_sent_with_every_call(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("s3cret\n")
    command = llama(
        "--models-dir", str(Path.home() / "models"), "--no-models-autoload", "--api-key-file", str(key_file)
    )
    with_key = Service(id="r", name="r", driver=DriverKind.LLAMACPP, port=7070, api_key_file=key_file)
    name = model_files()[0].stem
    with running(*command):
        wait_ready(with_key)
        driver_for(with_key).load(with_key, name)
        wait_until(lambda: status(with_key, name) is ModelStatus.LOADED)
        seen: list[ModelState] = []
        with closing(driver_for(with_key).follow_models(with_key, seen.append)):
            wait_until(lambda: bool(seen))
        with pytest.raises(ServerError) as caught:
            driver_for(ROUTER).load(ROUTER, name)
        assert caught.value.status == 401


def test_a_single_model_server() -> None:
    path = model_files()[0]
    single = Service(id="one", name="one", driver=DriverKind.LLAMACPP, port=7071, model_path=path)
    with running(*llama("--model", str(path), port=7071)):
        wait_ready(single)
        (state,) = driver_for(single).models(single)
    assert (state.id, state.status, state.path) == (path.stem, ModelStatus.LOADED, path)


def test_a_played_vllm() -> None:
    service = Service(id="v", name="v", driver=DriverKind.VLLM, port=8200)
    driver = driver_for(service)
    assert driver.probe(service).health is Health.DOWN
    command = ["vllm", "serve", "Qwen/Qwen3-VL-Embedding-2B", "--port", "8200", "--host", "127.0.0.1"]
    with running(*command):
        wait_ready(service)
        assert [state.id for state in driver.models(service)] == ["Qwen/Qwen3-VL-Embedding-2B"]
        with pytest.raises(ServerError):
            driver.load(service, "other")


def test_a_router_on_a_unix_socket_serves_its_models(tmp_path: Path) -> None:
    """Its children listen on ports of their own, whatever the router listens on."""
    path = tmp_path / "router.sock"
    driver = drivers_over(lambda _id: path)(ROUTER)
    name = model_files()[0].stem
    command = ["llama-server", "--host", str(path), "--models-dir", str(Path.home() / "models")]
    with running(*command, "--no-models-autoload"):
        wait_until(lambda: driver.probe(ROUTER).health is Health.READY)
        driver.load(ROUTER, name)
        wait_until(lambda: any(state.status is ModelStatus.LOADED for state in driver.models(ROUTER)))
        ask = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        done = run(
            "curl", "-s", "--unix-socket", path, "-H", "Content-Type: application/json", "-d", json.dumps(ask),
            "http://localhost/v1/chat/completions",
        )  # fmt: skip
        assert json.loads(done.stdout)["choices"][0]["message"]["role"] == "assistant"
