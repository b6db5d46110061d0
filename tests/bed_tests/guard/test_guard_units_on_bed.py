"""The guard's units under a real user manager: who holds the ports, when, and what a switch leaves alone."""

import json
import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.bed.host import external_ip, gpu, http, install_unit, run, systemctl, unit_properties, wait_until

SOCKET, GUARD = "gpumod-guard.socket", "gpumod-guard.service"
URL = "http://127.0.0.1:7070"

pytestmark = pytest.mark.bed


def gpumod(*words: str, check: bool = True) -> str:
    done = run("gpumod", *words, check=check)
    return done.stdout + done.stderr


def active(unit: str) -> str:
    return unit_properties(unit, "ActiveState")["ActiveState"]


def put(name: str, text: str) -> None:
    path = Path.home() / ".config/gpumod/presets" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_installed_the_guard_answers_and_starts_with_the_user_manager() -> None:
    gpumod("template", "install", "--yes")
    assert (active(SOCKET), active(GUARD)) == ("active", "inactive")
    assert unit_properties(SOCKET, "UnitFileState")["UnitFileState"] == "enabled"
    assert http(f"{URL}/health")[0] == 200
    assert active(GUARD) == "active"
    assert http(f"http://{external_ip()}:7070/health", timeout_s=2)[0] == 0
    assert "/gpumod.slice/" not in unit_properties(GUARD, "ControlGroup")["ControlGroup"]


def test_a_router_is_reached_through_the_guard_and_on_no_port_of_its_own() -> None:
    gpumod("template", "install", "--yes")
    gpumod("mode", "switch", "code")
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod"
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "glm-code.sock").is_socket()
    loaded = [model["id"] for model in http(f"{URL}/models")[1]["data"] if model["status"]["value"] == "loaded"]
    assert loaded == ["GLM-4.7-Flash-UD-Q4_K_XL"]
    pid = unit_properties("glm-code.service", "MainPID")["MainPID"]
    assert f"pid={pid}," not in run("ss", "-Hltnp").stdout
    systemctl("stop", SOCKET, GUARD)
    assert http(f"{URL}/health")[0] == 0


def test_a_stale_socket_file_and_a_missing_folder_are_no_obstacle() -> None:
    gpumod("template", "install", "--yes")
    systemctl("start", "glm-code.service")
    path = Path(os.environ["XDG_RUNTIME_DIR"]) / "gpumod/glm-code.sock"
    wait_until(path.exists)
    systemctl("kill", "--signal=KILL", "glm-code.service")
    wait_until(lambda: unit_properties("glm-code.service", "SubState")["SubState"] != "running")
    assert path.exists()
    assert "ready" in gpumod("service", "restart", "glm-code")


def test_a_switch_to_blank_leaves_the_guard_alone() -> None:
    gpumod("template", "install", "--yes")
    gpumod("mode", "switch", "code")
    before = unit_properties(GUARD, "MainPID")
    gpumod("mode", "switch", "blank")
    http(f"{URL}/health")
    assert active(SOCKET) == active(GUARD) == "active"
    assert before["MainPID"] in ("0", unit_properties(GUARD, "MainPID")["MainPID"])
    listed = systemctl("list-units", "--type=service", "--state=active")
    assert not any(word in listed for word in ("vllm", "llama", "glm", "nemotron"))
    assert "gpumod-guard" not in json.dumps(json.loads(gpumod("service", "list", "--json")))


def test_the_socket_keeps_the_port_while_the_guard_restarts() -> None:
    gpumod("template", "install", "--yes")
    http(f"{URL}/health")
    lost, done = [], threading.Event()

    def ask() -> None:
        while not done.is_set():
            if http(f"{URL}/health")[0] != 200:
                lost.append(1)

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(3):
        systemctl("restart", GUARD)
    systemctl("kill", "--signal=KILL", GUARD)
    wait_until(lambda: http(f"{URL}/health")[0] == 200)
    done.set()
    asking.join()
    # The request that SIGKILL hit is lost, and no other.
    assert len(lost) <= 1


def test_two_routers_share_a_port_in_one_mode() -> None:
    put("small.yaml", "id: small\ndriver: llamacpp\nport: 7070\nvram_mb: 0\n")
    put("both.yaml", "id: both\nservices: [glm-code, small]\n")
    gpumod("template", "install", "--yes")
    gpumod("mode", "switch", "both")
    assert active("glm-code.service") == active("small.service") == "active"
    gpu().assert_never_overcommitted()


def test_changed_ports_are_taken_over_and_the_last_guarded_service_takes_the_guard_with_it() -> None:
    gpumod("template", "install", "--yes")
    http(f"{URL}/health")
    put("moved.yaml", "id: glm-code\ndriver: llamacpp\nport: 7171\nvram_mb: 20480\n")
    said = gpumod("template", "install", "--yes")
    assert f"{SOCKET}: restarted, since its ports changed" in said
    assert http("http://127.0.0.1:7171/health")[0] == http(f"{URL}/health")[0] == 200
    for name in ("glm-code", "nemotron-3-nano"):
        put(f"{name}.yaml", f"id: {name}\ndriver: llamacpp\nport: 7070\nvram_mb: 1\nmodel_path: ~/m.gguf\n")
    (Path.home() / ".config/gpumod/presets/moved.yaml").unlink()
    assert f"{SOCKET}: disabled and stopped" in gpumod("template", "install", "--yes")
    assert http(f"{URL}/health")[0] == 0
    assert unit_properties(SOCKET, "LoadState")["LoadState"] == "not-found"


def test_a_port_that_a_stranger_holds_is_named_and_stops_a_switch_before_anything() -> None:
    with socket.create_server(("127.0.0.1", 7070)):
        done = run("gpumod", "template", "install", "--yes")
        assert done.returncode == 1
        assert re.search(rf"could not take its ports: port 7070 is held by python.* pid {os.getpid()} ", done.stderr)
        refused = run("gpumod", "mode", "switch", "code")
        assert refused.returncode == 3
        assert "port 7070 of glm-code is taken by" in refused.stderr
    gpumod("mode", "switch", "code")
    assert active(SOCKET) == "active", "the server's start brought it up"
    assert http(f"{URL}/health")[0] == 200


def test_a_router_from_before_the_guard_gives_up_its_port_when_it_is_restarted() -> None:
    command = f"llama-server --models-dir {Path.home()}/models --no-models-autoload --host 127.0.0.1 --port 7070"
    program = run("bash", "-c", "command -v llama-server").stdout.strip()
    old = command.replace("llama-server", program, 1)
    install_unit("glm-code.service", f"[Service]\nType=exec\nSlice=gpumod.slice\nExecStart={old}\n")
    systemctl("start", "glm-code.service")
    wait_until(lambda: http(f"{URL}/health")[0] == 200)
    done = run("gpumod", "template", "install", "--yes", "--force")
    assert done.returncode == 1
    assert "gpumod service restart glm-code" in done.stderr
    gpumod("service", "restart", "glm-code")
    assert active(SOCKET) == "active"
    assert http(f"{URL}/health")[1]["status"] == "ok"


# It takes its memory late: the promise alone keeps the other one out.
LATE = {"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968, "grow_s": 3}


@pytest.mark.bed(gpu={"release_s": 0.2, "rules": [LATE]})
def test_a_start_by_hand_and_a_load_in_the_same_moment_are_not_both_admitted() -> None:
    gpumod("template", "install", "--yes")
    systemctl("start", "glm-code.service")
    wait_until(lambda: http(f"{URL}/models")[0] == 200, 60, what="the router answers")
    model = {"model": "GLM-4.7-Flash-UD-Q4_K_XL"}
    for lead_s in (0.0, 0.2, 0.4, 0.8):
        statuses: list[int] = []
        barrier = threading.Barrier(2)

        def start(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            systemctl("start", "devstral-small-2.service", check=False)

        def load(barrier: threading.Barrier = barrier, statuses: list[int] = statuses, lead_s: float = lead_s) -> None:
            barrier.wait()
            # A check begins with an interpreter: the start gets a lead, so that either may be first.
            time.sleep(lead_s)
            statuses.append(http(f"{URL}/models/load", model, timeout_s=60)[0])

        both = [threading.Thread(target=start), threading.Thread(target=load)]
        for one in both:
            one.start()
        for one in both:
            one.join()
        started = active("devstral-small-2.service") == "active"
        assert (statuses, started) in (([200], False), ([503], True))
        if started:
            # All that it takes: what was promised to it is there.
            wait_until(lambda: gpu().used_mib() > 13000, 60, what="it holds its memory")
            systemctl("stop", "devstral-small-2.service")
        else:
            wait_until(lambda: gpu().used_mib() > 19000, 60, what="it holds its memory")
            assert http(f"{URL}/models/unload", model)[0] == 200
        wait_until(lambda: gpu().used_mib() < 100, 60, what="all memory is back")
    gpu().assert_never_overcommitted()
