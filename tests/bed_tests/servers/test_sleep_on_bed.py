"""A vLLM that sleeps when its mode is left: its memory is used by others, and nothing wakes it unasked."""

import json
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.bed.guarded import GLM, direct, guard_pid, ledger, statuses
from tests.bed.host import gpu, http, journal, run, unit_properties, wait_until

pytestmark = pytest.mark.bed

URL = "http://127.0.0.1:8200"
ROUTER = "http://127.0.0.1:7070"
PRESET = """id: sleeper
driver: vllm
port: 8200
model_id: Qwen/Qwen3-VL-Embedding-2B
vram_mb: 7500
on_leave: sleep
sleep_mode: l1
unit_vars:
  gpu_mem_util: 0.25
"""
MODES = {"doze": "[sleeper]", "idle": "[]"}
EMBED = {"model": "Qwen/Qwen3-VL-Embedding-2B", "input": "a"}


def gpumod(*words: str, expect: int = 0) -> Any:
    done = run("gpumod", *words, "--json")
    assert done.returncode == expect, done.stdout + done.stderr
    return json.loads(done.stdout)


def install(**presets: str) -> None:
    folder = Path.home() / ".config/gpumod/presets"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in presets.items():
        (folder / f"{name}.yaml").write_text(text)
    run("gpumod", "template", "install", "--yes", check=True)


@pytest.fixture(autouse=True)
def installed() -> Any:
    modes = {name: f"id: {name}\nservices: {services}\n" for name, services in MODES.items()}
    install(sleeper=PRESET, **modes)
    yield
    gpu().assert_never_overcommitted()


def is_asleep() -> bool:
    told: bool = direct("sleeper", "GET", "/is_sleeping").json["is_sleeping"]
    return told


def test_there_and_back_in_one_life() -> None:
    assert gpumod("mode", "switch", "doze")["started"] == ["sleeper"]
    pid = unit_properties("sleeper.service", "MainPID")
    there = gpumod("mode", "switch", "code")
    assert (there["slept"], there["stopped"], there["started"]) == (["sleeper"], [], ["glm-code"])
    assert is_asleep()
    assert "sleeping" in run("gpumod", "status", check=True).stdout
    assert "reached" in run("gpumod", "mode", "status", check=True).stdout
    back = gpumod("mode", "switch", "doze")
    assert (back["woken"], back["started"], back["stopped"]) == (["sleeper"], [], ["glm-code"])
    assert unit_properties("sleeper.service", "MainPID") == pid
    assert http(f"{URL}/v1/embeddings", EMBED)[0] == 200
    assert gpumod("mode", "switch", "blank")["stopped"] == ["sleeper"]


def test_who_asks_at_the_guard_is_admitted_or_refused() -> None:
    gpumod("mode", "switch", "doze")
    gpumod("mode", "switch", "code")
    assert http(f"{URL}/wake_up", {})[0] == 503
    assert http(f"{URL}/v1/embeddings", EMBED)[0] == 503
    assert http(f"{URL}/collective_rpc", {})[0] in (403, 404)
    assert is_asleep()
    assert gpumod("service", "wake", "sleeper", expect=3)["outcome"] == "refused"
    gpumod("service", "stop", "glm-code")
    assert http(f"{URL}/v1/embeddings", EMBED)[0] == 200
    assert not is_asleep()


def promised(service: str) -> int:
    """MiB on GPU 0 that the unit's running processes are promised, by the ledger on disk."""
    mine = [one for one in ledger() if one["unit"] == f"{service}.service" and not one["model"] and one["invocation"]]
    return int(sum(one["needs"].get("0", 0) for one in mine)) >> 20


def is_awake_on_the_card() -> None:
    """One that is put to sleep before its memory shows gives nothing back that could be measured."""
    wait_until(lambda: gpu().used_mib() > 4600, what="its memory is there again")


def started_by_hand() -> None:
    run("systemctl", "--user", "start", "glm-code.service", check=True)
    wait_until(lambda: direct("glm-code", "GET", "/health").status == 200, what="the router answers")


def test_a_sleep_through_the_guard_gives_its_room_to_others_until_it_asks_again() -> None:
    gpumod("mode", "switch", "doze")
    assert promised("sleeper") == 7500
    assert http(f"{URL}/sleep?level=2", {})[0] == 400
    assert http(f"{URL}/sleep", {})[0] == 200
    assert promised("sleeper") < 2048
    # A stranger to the switch: it is admitted, since the memory is there.
    started_by_hand()
    assert http(f"{ROUTER}/models/load", {"model": GLM})[0] == 200
    wait_until(lambda: statuses("glm-code")[GLM] == "loaded")
    status, body = http(f"{URL}/wake_up", {})
    assert (status, body["error"]["type"]) == (503, "insufficient_vram")
    assert "glm-code" in body["error"]["message"]
    refused = gpumod("service", "wake", "sleeper", expect=3)
    assert "insufficient VRAM" in refused["errors"][0]["message"]
    assert is_asleep()
    assert promised("sleeper") < 2048
    gpumod("service", "stop", "glm-code")
    assert http(f"{URL}/wake_up", {})[0] == 200
    assert promised("sleeper") == 7500
    assert not is_asleep()


def test_one_that_is_restarted_by_hand_while_it_sleeps_is_admitted_anew_or_refused() -> None:
    gpumod("mode", "switch", "doze")
    assert http(f"{URL}/sleep", {})[0] == 200
    before = unit_properties("sleeper.service", "InvocationID")
    run("systemctl", "--user", "restart", "sleeper.service", check=True)
    assert unit_properties("sleeper.service", "InvocationID") != before
    wait_until(lambda: direct("sleeper", "GET", "/health").status == 200, 30, what="it serves")
    assert promised("sleeper") == 7500
    assert not is_asleep()
    assert http(f"{URL}/sleep", {})[0] == 200
    assert promised("sleeper") < 2048
    started_by_hand()
    assert http(f"{ROUTER}/models/load", {"model": GLM})[0] == 200
    wait_until(lambda: statuses("glm-code")[GLM] == "loaded")
    run("systemctl", "--user", "restart", "sleeper.service")
    assert unit_properties("sleeper.service", "ActiveState")["ActiveState"] == "inactive"
    wait_until(lambda: any("gpumod: refused" in line for line in journal("sleeper.service")), what="it is logged")
    assert promised("sleeper") == 0


def test_memory_that_does_not_come_back_stays_promised() -> None:
    gpumod("mode", "switch", "doze")
    gpu().config(vllm={"sleep_fails": True})
    assert http(f"{URL}/sleep", {})[0] == 200
    assert promised("sleeper") == 7500
    started_by_hand()
    assert http(f"{ROUTER}/models/load", {"model": GLM})[0] == 503
    wait_until(lambda: any("stays promised" in line for line in journal("gpumod-guard.service")), what="it is logged")


def test_many_that_wake_it_at_once_are_one_wake_and_a_stopped_guard_keeps_others_from_turning_it() -> None:
    install(sleeper=PRESET + "stop_timeout: 3\n")
    gpumod("mode", "switch", "doze")
    gpumod("service", "sleep", "sleeper")
    with ThreadPoolExecutor(9) as many:
        asked = [many.submit(http, f"{URL}/v1/embeddings", EMBED) for _ in range(8)]
        woken = many.submit(gpumod, "service", "wake", "sleeper")
        assert [one.result()[0] for one in asked] == [200] * 8
        assert woken.result()["success"]
        is_awake_on_the_card()
        assert http(f"{URL}/sleep", {})[0] == 200
        gpu().config(vllm={"wake_s": 8})
        asking = many.submit(http, f"{URL}/v1/embeddings", EMBED, timeout_s=90)
        wait_until(lambda: promised("sleeper") == 7500, what="the guard's wake is admitted")
        os.kill(guard_pid(), signal.SIGSTOP)
        refused = gpumod("service", "sleep", "sleeper", expect=1)
        os.kill(guard_pid(), signal.SIGCONT)
        assert "another process" in refused["errors"][0]["message"]
        assert asking.result()[0] == 200
    assert promised("sleeper") == 7500


def test_a_guard_killed_between_sleep_and_measure_promises_too_much_until_it_is_put_to_sleep_again() -> None:
    gpumod("mode", "switch", "doze")
    http(f"{URL}/is_sleeping")
    gpu().config(vllm={"sleep_fails": True})
    threading.Thread(target=http, args=(f"{URL}/sleep", {}), daemon=True).start()
    wait_until(is_asleep, what="it says that it sleeps")
    os.kill(guard_pid(), signal.SIGKILL)
    assert promised("sleeper") == 7500
    gpu().config(vllm={"sleep_fails": False})
    assert http(f"{URL}/wake_up", {})[0] == 200
    is_awake_on_the_card()
    assert http(f"{URL}/sleep", {})[0] == 200
    assert promised("sleeper") < 2048


def test_weights_that_were_dropped_are_loaded_again() -> None:
    install(sleeper=PRESET.replace("l1", "l2"))
    gpumod("mode", "switch", "doze")
    for sleep, wake in (
        (lambda: gpumod("service", "sleep", "sleeper"), lambda: gpumod("service", "wake", "sleeper")),
        (lambda: http(f"{URL}/sleep", {}), lambda: http(f"{URL}/wake_up", {})),
        (lambda: http(f"{URL}/sleep?level=2", {}), lambda: None),
    ):
        sleep()
        assert is_asleep()
        assert promised("sleeper") < 2048
        wake()
        assert http(f"{URL}/v1/embeddings", EMBED)[0] == 200
        assert promised("sleeper") == 7500
        is_awake_on_the_card()


def test_a_wake_that_hangs_is_cancelled() -> None:
    install(sleeper=PRESET + "stop_timeout: 2\n")
    gpumod("mode", "switch", "doze")
    gpumod("service", "sleep", "sleeper")
    gpu().config(vllm={"wake_s": 60})
    waking = subprocess.Popen(["gpumod", "service", "wake", "sleeper"], stderr=subprocess.PIPE, text=True)
    wait_until(lambda: promised("sleeper") == 7500, what="the wake is admitted")
    waking.send_signal(signal.SIGINT)
    said = waking.communicate(timeout=60)[1]
    assert waking.returncode == 130, said
    # Its engine still wakes, and would not fall asleep again in time.
    assert unit_properties("sleeper.service", "ActiveState")["ActiveState"] == "inactive"
    assert gpumod("service", "start", "sleeper")["success"]
    assert promised("sleeper") == 7500


CODE = """id: glm-code
driver: llamacpp
port: 7070
vram_mb: 20480
default_model: GLM-4.7-Flash-UD-Q4_K_XL
on_leave: sleep
sleep_mode: router
unit_vars:
  models_max: 2
"""


def test_a_router_sleeps_by_unloading_and_wakes_by_loading() -> None:
    gpumod("mode", "switch", "code")
    pid = unit_properties("glm-code.service", "MainPID")
    assert gpumod("service", "sleep", "glm-code")["slept"] == ["glm-code"]
    assert statuses("glm-code")[GLM] == "unloaded"
    assert gpu().used_mib() < 600, "the NVIDIA driver has given it back"
    assert gpumod("service", "sleep", "glm-code")["success"]
    assert gpumod("service", "wake", "glm-code")["success"]
    assert statuses("glm-code")[GLM] == "loaded"
    assert gpumod("service", "wake", "glm-code")["success"]
    assert unit_properties("glm-code.service", "MainPID") == pid


def test_a_router_whose_room_is_taken_is_not_woken() -> None:
    gpumod("mode", "switch", "code")
    gpumod("service", "sleep", "glm-code")
    gpumod("service", "start", "sleeper")
    refused = gpumod("service", "wake", "glm-code", expect=3)
    assert "insufficient VRAM" in refused["errors"][0]["message"]
    assert any(holder["unit"] == "sleeper.service" for holder in refused["errors"][0]["holders"])
    assert statuses("glm-code")[GLM] == "unloaded"
    assert http(f"{ROUTER}/models/load", {"model": GLM})[0] == 503
    gpumod("service", "stop", "sleeper")
    assert gpumod("service", "wake", "glm-code")["success"]


def test_a_router_that_is_left_unloads_and_serves_again_when_its_mode_is_back() -> None:
    install(**{"glm-code": CODE})
    gpumod("mode", "switch", "code")
    pid = unit_properties("glm-code.service", "MainPID")
    there = gpumod("mode", "switch", "doze")
    assert (there["slept"], there["stopped"], there["started"]) == (["glm-code"], [], ["sleeper"])
    assert http(f"{ROUTER}/models/load", {"model": GLM})[0] == 503
    assert "reached" in run("gpumod", "mode", "status", check=True).stdout
    back = gpumod("mode", "switch", "code")
    assert (back["slept"], back["stopped"], back["started"]) == (["sleeper"], [], [])
    assert statuses("glm-code")[GLM] == "loaded"
    assert unit_properties("glm-code.service", "MainPID") == pid
    assert set(gpumod("mode", "switch", "blank")["stopped"]) == {"glm-code", "sleeper"}


def test_by_hand() -> None:
    gpumod("mode", "switch", "doze")
    assert gpumod("service", "sleep", "sleeper")["slept"] == ["sleeper"]
    said = run("gpumod", "mode", "status", check=True).stdout
    assert "partial" in said
    assert "sleeper sleeps" in said
    assert gpumod("service", "wake", "sleeper")["woken"] == ["sleeper"]
    assert not is_asleep()


def test_a_word_without_memory_ends_in_a_stop() -> None:
    gpumod("mode", "switch", "doze")
    gpu().config(vllm={"sleep_fails": True})
    result = gpumod("mode", "switch", "code")
    assert (result["slept"], result["stopped"]) == ([], ["sleeper"])
    assert any("did not come back" in warning for warning in result["warnings"])
