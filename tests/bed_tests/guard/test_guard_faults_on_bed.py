"""The guard and the door where a router hangs, a client leaves, an asker is killed: nobody else pays for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bed.guarded import (
    GLM,
    NEMOTRON,
    PORT,
    ask,
    chat,
    children,
    direct,
    guard_pid,
    known_ledger,
    ledger,
    runtime,
    start_guard,
    start_router,
    statuses,
    wait_delivered,
)
from tests.bed.host import HOME, copy_models, gpu, journal, run, systemctl, unit_properties, wait_until

pytestmark = [pytest.mark.bed, pytest.mark.usefixtures("never_too_much")]

CODE, NEMO = "glm-code", "nemotron-3-nano"
PRESETS = HOME / ".config" / "gpumod" / "presets"


def pid_of(service: str) -> int:
    return int(unit_properties(f"{service}.service", "MainPID")["MainPID"])


def preset(name: str, vram_mb: int, default: str, **more: Any) -> None:
    PRESETS.mkdir(parents=True, exist_ok=True)
    lines = [f"id: {name}", "driver: llamacpp", f"port: {PORT}", f"vram_mb: {vram_mb}", f"default_model: {default}"]
    lines += ["unit_vars:", *(f"  {key}: {json.dumps(value)}" for key, value in more.items())] if more else []
    (PRESETS / f"{name}.yaml").write_text("\n".join(lines) + "\n")


def entries(model: str) -> list[dict[str, Any]]:
    return [entry for entry in ledger() if entry["model"] == model]


@pytest.mark.bed
def test_a_router_that_hangs_holds_up_nobody_who_asks_for_another() -> None:
    known_ledger()
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    os.kill(pid_of(NEMO), signal.SIGSTOP)
    assert ask("GET", "/models", timeout_s=40).status == 200
    os.kill(guard_pid(), signal.SIGKILL)
    wait_until(lambda: not guard_pid())
    health = ask("GET", "/health", timeout_s=40)
    assert (health.status, health.json["status"]) == (200, "ok")
    assert ask("POST", "/v1/chat/completions", chat(GLM), timeout_s=40).status == 200
    listed = ask("GET", "/models", timeout_s=40)
    assert b'"value":"loaded"' in listed.body
    os.kill(pid_of(NEMO), signal.SIGCONT)
    wait_until(lambda: ask("GET", "/health").json["routers"] == 2, 60, what="it is known again")


@pytest.mark.bed
def test_a_client_that_leaves_during_its_unload_leaves_a_model_that_can_be_used() -> None:
    known_ledger()
    start_router(CODE)
    start_guard()
    body = json.dumps({"model": GLM}).encode()
    head = b"POST /models/unload HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    for _ in range(3):
        wait_until(lambda: ask("POST", "/v1/chat/completions", chat(GLM)).status == 200)
        # The guard's connections to the router are gone by then, so that it has to connect anew.
        time.sleep(6.5)
        with socket.create_connection(("127.0.0.1", PORT), 5) as client:
            client.sendall(head + body)
        wait_until(lambda: not children(CODE), what="what was asked for is done")
    wait_until(lambda: ask("POST", "/v1/chat/completions", chat(GLM)).status == 200)


@pytest.mark.bed(gpu={"rules": [{"match": r"--model \S*GLM", "mib": 15000, "grow_s": 3}]})
def test_what_a_model_takes_after_it_was_ready_counts_for_its_next_life() -> None:
    preset(CODE, 4096, GLM, models_max=4)
    run("gpumod", "template", "install", "--yes", check=True)
    systemctl("start", f"{CODE}.service")
    wait_until(lambda: direct(CODE, "GET", "/health").status == 200)
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    wait_until(lambda: gpu().used_mib() > 15000)
    assert ask("POST", "/models/unload", {"model": GLM}).status == 200
    wait_until(lambda: not children(CODE) and gpu().used_mib() < 100)
    stranger = subprocess.Popen(["sleep", "600"])
    gpu().declare(stranger.pid, {0: 12000})
    wait_until(lambda: gpu().used_mib() > 12000)
    refused = ask("POST", "/models/load", {"model": GLM})
    assert refused.status == 503, (Path.home() / ".local/state/gpumod/peaks.json").read_text()
    assert refused.json["error"]["need_mib"] >= 15000
    stranger.kill()


KILLED_BEFORE_ITS_LOAD = """
import os, sys
from gpumod_tui.adapters.servers.llamacpp import LlamaCppDriver
LlamaCppDriver.load = lambda *a, **k: os.kill(os.getpid(), 9)
from gpumod_tui.__main__ import main
sys.argv = ["gpumod", "mode", "switch", "code"]
main()
"""


@pytest.mark.bed
def test_a_switch_killed_before_its_load_is_sent_holds_up_the_next_start_for_a_moment_only() -> None:
    run("gpumod", "template", "install", "--yes", check=True)
    systemctl("start", f"{CODE}.service")
    wait_until(lambda: direct(CODE, "GET", "/health").status == 200)
    assert run(sys.executable, "-c", KILLED_BEFORE_ITS_LOAD).returncode == -9
    assert entries(GLM)
    started = run("gpumod", "service", "start", "devstral-small-2", timeout_s=90)
    assert started.returncode == 0, started.stdout + started.stderr
    assert not entries(GLM)
    run("gpumod", "mode", "switch", "blank", check=True)


LOADS_UNSEEN = f"""
from gpumod_tui.wiring import real_host
host = real_host()
host.admission.admit("{CODE}.service", "{GLM}")
service = host.registry.service("{CODE}")
host.drivers(service).load(service, "{GLM}")
"""


@pytest.mark.bed(
    gpu={"rules": [{"match": r"--model \S*GLM", "mib": 19968}, {"match": r"--model \S*Nemotron", "mib": 12000}]},
)
def test_a_load_that_waits_for_another_models_end_is_promised_when_its_asker_is_killed() -> None:
    """A full router calls it unloaded all the while."""
    copy_models(["tiny-b"], Path.home() / "models")
    preset(CODE, 20480, GLM, models_max=1)
    preset(NEMO, 12000, NEMOTRON)
    known_ledger()
    start_router(CODE, models_max=1)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat("tiny-b")).status == 200
    start_router(NEMO)
    os.kill(children(CODE)["tiny-b"], signal.SIGSTOP)
    asker = subprocess.Popen([sys.executable, "-c", LOADS_UNSEEN])
    wait_until(lambda: entries(GLM), what="it is admitted")
    stops = "stopping model instance name=tiny-b"
    wait_until(lambda: any(stops in line for line in journal(f"{CODE}.service")), what="its load is asked for")
    asker.kill()
    asker.wait()
    assert statuses(CODE)[GLM] == "unloaded"
    end = time.monotonic() + 60
    while time.monotonic() < end and statuses(CODE)[GLM] != "loaded":
        assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503
        time.sleep(0.3)
    assert statuses(CODE)[GLM] == "loaded", "it came up when the other one had been killed"
    assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503


def test_a_ledger_that_is_lost_while_a_router_hangs_forgets_no_load() -> None:
    known_ledger()
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    ask("GET", "/health")
    router = pid_of(CODE)
    os.kill(router, signal.SIGSTOP)
    threading.Thread(target=ask, args=("POST", "/models/load", {"model": GLM}), daemon=True).start()
    wait_until(lambda: entries(GLM), what="it is admitted")
    wait_delivered(CODE, guard_pid())
    (runtime() / "ledger.json").unlink()
    end = time.monotonic() + 8
    while time.monotonic() < end:
        assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503
        time.sleep(0.3)
    os.kill(router, signal.SIGCONT)
    wait_until(lambda: statuses(CODE)[GLM] == "loaded")
    assert ask("POST", "/models/load", {"model": NEMOTRON}).status == 503


SMALL = {"rules": [{"match": r"--model \S*(GLM|Nemotron)", "mib": 4000}]}


@pytest.mark.bed(gpu=SMALL)
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("HANGS", "the NVIDIA driver has not answered"),
        ("LIB_RM_VERSION_MISMATCH", "the NVIDIA driver was updated"),
        ("GPU_IS_LOST", "GPU is lost"),
    ],
)
def test_under_a_driver_that_fails_what_is_loaded_serves_on_and_what_is_not_is_refused(code: str, said: str) -> None:
    preset(CODE, 4096, GLM)
    preset(NEMO, 4096, NEMOTRON)
    known_ledger()
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    guard = guard_pid()
    gpu().config(faults=[{"function": function, "code": code} for function in ("*", "Init")])
    for path, body in (("/models/load", {"model": NEMOTRON}), ("/v1/chat/completions", chat(NEMOTRON))):
        refused = ask("POST", path, body)
        assert (refused.status, refused.json["error"]["type"]) == (503, "insufficient_vram")
        assert said in refused.json["error"]["message"]
        assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200
    assert ask("GET", "/health").status == 200
    assert set(children(CODE)) == {GLM}
    assert not children(NEMO)
    gpu().config(faults=[])
    wait_until(
        lambda: ask("POST", "/v1/chat/completions", chat(NEMOTRON)).status == 200,
        60,
        what=ask("POST", "/v1/chat/completions", chat(NEMOTRON)).body.decode(),
    )
    assert guard_pid() == guard


LOADS_LATE = f"""
import sys, time
from gpumod_tui.adapters.servers.llamacpp import LlamaCppDriver
send = LlamaCppDriver.load
def late(*a, **k):
    print("counted", flush=True)
    time.sleep(2)
    send(*a, **k)
LlamaCppDriver.load = late
from gpumod_tui.__main__ import main
sys.argv = ["gpumod", "service", "load", "{CODE}", "{GLM}"]
main()
"""


@pytest.mark.bed(gpu=SMALL)
def test_of_a_load_by_hand_and_one_through_the_guard_the_second_finds_the_router_full() -> None:
    """Past its limit the router would end the first one, which nobody uses yet."""
    copy_models(["tiny-b"], Path.home() / "models")
    preset(CODE, 4096, GLM, models_max=1)
    run("gpumod", "template", "install", "--yes", check=True)
    systemctl("start", f"{CODE}.service")
    wait_until(lambda: ask("GET", "/health").status == 200)
    by_hand = subprocess.Popen([sys.executable, "-c", LOADS_LATE], stdout=subprocess.PIPE, text=True)
    assert by_hand.stdout is not None
    assert "counted" in by_hand.stdout.readline()
    refused = ask("POST", "/v1/chat/completions", chat("tiny-b"))
    assert (refused.status, refused.json["error"]["type"]) == (503, "model_limit"), refused
    assert by_hand.wait(60) == 0
    assert statuses(CODE)[GLM] == "loaded"
    assert set(children(CODE)) == {GLM}
    run("gpumod", "mode", "switch", "blank", check=True)


SECOND = 7071


def second_guard(port: int) -> subprocess.Popen[str]:
    """As somebody starts it in a shell."""
    words = [sys.executable, "-m", "gpumod_tui", "guard", "--port", str(port)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.bed
def test_a_second_guard_on_the_port_of_the_first_says_what_is_wrong_and_the_first_serves_on() -> None:
    known_ledger()
    start_router(CODE)
    start_guard()
    wait_until(lambda: ask("GET", "/health").json["routers"] == 1, what="it knows the router")
    second = second_guard(PORT)
    said, _ = second.communicate(timeout=60)
    assert second.returncode not in (0, None)
    assert str(PORT) in said
    assert "gpumod-guard.socket holds the ports" in said
    assert "Traceback" not in said
    assert ask("POST", "/v1/chat/completions", chat(GLM)).status == 200


@pytest.mark.bed
def test_two_guards_before_the_same_routers_never_admit_more_than_there_is() -> None:
    """A preset was moved to another port, and the guard of before still runs."""
    for name, default in ((CODE, GLM), (NEMO, NEMOTRON)):
        preset(name, 20480, default)
    known_ledger()
    start_router(CODE)
    start_router(NEMO)
    start_guard()
    wait_until(lambda: ask("GET", "/health").json["routers"] == 2, what="it knows both")
    for name, default in ((CODE, GLM), (NEMO, NEMOTRON)):
        text = (PRESETS / f"{name}.yaml").read_text()
        (PRESETS / f"{name}.yaml").write_text(text.replace(str(PORT), str(SECOND)))
        assert default in text
    second = second_guard(SECOND)
    wait_until(lambda: ask("GET", "/health", port=SECOND).status == 200, 60, what="the second guard serves")
    for _ in range(5):
        answers: dict[tuple[int, str], int] = {}

        def load(port: int, model: str, answers: dict[tuple[int, str], int] = answers) -> None:
            answers[port, model] = ask("POST", "/v1/chat/completions", chat(model), port=port).status

        asking = [
            threading.Thread(target=load, args=(port, model)) for port in (PORT, SECOND) for model in (GLM, NEMOTRON)
        ]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        (loaded,) = [*children(CODE), *children(NEMO)]
        assert {model for (_, model), status in answers.items() if status == 200} == {loaded}, answers
        assert set(answers.values()) <= {200, 503}, answers
        assert ask("POST", "/models/unload", {"model": loaded}, port=SECOND).status == 200
        wait_until(lambda: not children(CODE) and not children(NEMO) and gpu().used_mib() < 100, 60)
    second.terminate()
    assert second.wait(60) == 0
