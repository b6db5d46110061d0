"""The bed keeps what it promises: a real user session, a GPU that behaves as a driver does, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pynvml
import pytest

from tests.bed.host import (
    cgroup_pids,
    external_ip,
    gpu,
    http,
    install_unit,
    journal,
    kill_cgroup,
    model_files,
    pids_named,
    run,
    systemctl,
    unit_properties,
    wait_until,
)
from tests.bed.plugin import ENTER, in_bed, require_bed

GLM = "GLM-4.7-Flash-UD-Q4_K_XL"
NEMOTRON = "Nemotron-3-Nano-30B-A3B-UD-Q4_K_XL"
ROUTER = "http://127.0.0.1:7070"
MIB = 1 << 20


@contextmanager
def nvml() -> Iterator[object]:
    """The first GPU's handle in a fresh life of the library."""
    pynvml.nvmlInit()
    try:
        yield pynvml.nvmlDeviceGetHandleByIndex(0)
    finally:
        pynvml.nvmlShutdown()


def start_router(*options: str) -> None:
    models, llama_server = Path.home() / "models", shutil.which("llama-server")
    command = (
        f"{llama_server} --models-dir {models} --no-models-autoload --host 127.0.0.1 --port 7070 {' '.join(options)}"
    )
    install_unit("router.service", f"[Service]\nType=exec\nExecStart={command}\nKillMode=control-group\n")
    systemctl("start", "router.service")
    wait_until(lambda: http(f"{ROUTER}/health")[0] == 200)


def model_state(name: str) -> str:
    _, answer = http(f"{ROUTER}/models")
    return next(str(model["status"]["value"]) for model in answer["data"] if model["id"] == name)


def load(name: str) -> None:
    assert http(f"{ROUTER}/models/load", {"model": name})[0] == 200
    wait_until(lambda: model_state(name) == "loaded")


def chat(name: str) -> dict[str, object]:
    body = {"model": name, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}
    status, answer = http(f"{ROUTER}/v1/chat/completions", body)
    assert status == 200, answer
    message: dict[str, object] = answer["choices"][0]["message"]
    return message


# --- the user session


@pytest.mark.bed
def test_units_run_under_a_real_user_manager_and_their_lines_reach_the_journal() -> None:
    install_unit("hello.service", "[Service]\nExecStart=/bin/sh -c 'echo one line; exec sleep 100'\n")
    systemctl("start", "hello.service")
    wait_until(lambda: "one line" in journal("hello.service"))
    state = unit_properties("hello.service")
    assert (state["ActiveState"], state["SubState"]) == ("active", "running")
    assert cgroup_pids("hello.service") == [int(state["MainPID"])]
    assert os.getuid() >= 1000

    kill_cgroup("hello.service")
    wait_until(lambda: unit_properties("hello.service")["Result"] == "signal")
    wait_until(lambda: any("Failed with result" in line for line in journal("hello.service")))


@pytest.mark.bed
def test_units_find_the_played_programs_by_the_managers_environment_alone() -> None:
    script = "command -v llama-server vllm nvidia-smi && nvidia-smi -L && python -c 'import pynvml; pynvml.nvmlInit()'"
    done = run("systemd-run", "--user", "--wait", "--pipe", "--quiet", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert "NVIDIA GeForce RTX 4090" in done.stdout


@pytest.mark.bed
def test_a_transient_scope_can_be_made() -> None:
    assert run("systemd-run", "--user", "--scope", "--quiet", "true").returncode == 0


# --- the played driver


@pytest.mark.bed(gpu={"release_s": 3.0})
def test_memory_comes_back_late_and_the_dead_process_is_listed_until_then() -> None:
    holder = subprocess.Popen(["sleep", "100"])
    gpu().declare(holder.pid, {0: 5000})
    wait_until(lambda: gpu().used_mib() == 5015)
    lived = time.time()
    holder.kill()
    holder.wait()
    with nvml() as handle:
        pids = [process.pid for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)]
        assert pids == [holder.pid]
        assert not Path(f"/proc/{holder.pid}").exists()
        wait_until(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used < 500 * MIB, interval_s=0.005)
        assert pynvml.nvmlDeviceGetComputeRunningProcesses(handle) == []
    free = gpu().timeline()[-1]
    assert (free["wanted_mib"], free["dead"]) == ([15.0], {})
    assert free["t"] - lived > 2.9


@pytest.mark.bed(gpu={"hold": True})
def test_memory_can_be_kept_for_ever_and_let_go_by_the_test() -> None:
    holder = subprocess.Popen(["sleep", "100"])
    gpu().declare(holder.pid, {0: 5000})
    wait_until(lambda: gpu().used_mib() == 5015)
    holder.kill()
    holder.wait()
    time.sleep(1.5)
    assert gpu().used_mib() == 5015
    gpu().config(hold=False)
    wait_until(lambda: gpu().used_mib() == 15)


@pytest.mark.bed
def test_an_overcommitted_card_is_counted_though_nvml_never_shows_more_than_the_card() -> None:
    gpu().assert_never_overcommitted()
    gpu().config(processes=[{"pid": 1, "mib": 20000}, {"pid": 2, "mib": 20000}])
    stats = wait_until(lambda: (now := gpu().stats()).overcommitted_samples[0] and now)
    assert stats
    assert stats.high_water_mib == (40015.0,)
    with nvml() as handle:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        assert memory.free == 0
        assert memory.used == memory.total
    with pytest.raises(AssertionError, match="would have crashed"):
        gpu().assert_never_overcommitted()


@pytest.mark.bed
def test_used_includes_what_is_reserved_in_version_1_only() -> None:
    with nvml() as handle:
        first = pynvml.nvmlDeviceGetMemoryInfo(handle)
        second = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    assert first.total == second.total == first.used + first.free == 24564 * MIB
    assert (second.used, second.reserved) == (15 * MIB, 442 * MIB)
    assert second.free == first.free


@pytest.mark.bed(gpu={"gpus": [{"name": "A"}, {"name": "B", "total_mib": 8192, "temp_c": None}]})
def test_faults_appear_through_nvml_for_one_gpu_or_for_all() -> None:
    with nvml() as first:
        second = pynvml.nvmlDeviceGetHandleByIndex(1)
        assert pynvml.nvmlDeviceGetName(second) == "B"
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetTemperature(second, pynvml.NVML_TEMPERATURE_GPU)
        gpu().config(faults=[{"function": "*", "gpu": 1, "code": "GPU_IS_LOST"}])
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            pynvml.nvmlDeviceGetMemoryInfo(second)
        assert pynvml.nvmlDeviceGetMemoryInfo(first).total == 24564 * MIB
        gpu().config(faults=[{"function": "DeviceGetUtilizationRates", "code": 3}])
        for handle in (first, second):
            with pytest.raises(pynvml.NVMLError_NotSupported):
                pynvml.nvmlDeviceGetUtilizationRates(handle)
    gpu().config(faults=[{"function": "Init", "code": "LIB_RM_VERSION_MISMATCH"}])
    with pytest.raises(pynvml.NVMLError_LibRmVersionMismatch):
        pynvml.nvmlInit()
    smi = run("nvidia-smi")
    assert smi.returncode != 0
    assert "version mismatch" in smi.stdout


@pytest.mark.bed(gpu={"gpu": {"memory": False}, "process_memory": False, "processes": [{"pid": 1, "mib": 100}]})
def test_unified_memory_and_unknown_process_memory() -> None:
    with nvml() as handle:
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetMemoryInfo(handle)
        assert [process.usedGpuMemory for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)] == [None]


@pytest.mark.bed
def test_an_xid_event_reaches_who_waits_for_it() -> None:
    with nvml() as handle:
        events = pynvml.nvmlEventSetCreate()
        pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
        with pytest.raises(pynvml.NVMLError_Timeout):
            pynvml.nvmlEventSetWait_v2(events, 50)
        gpu().config(event={"data": 79})
        assert pynvml.nvmlEventSetWait_v2(events, 1000).eventData == 79
        pynvml.nvmlEventSetFree(events)


# --- the real llama-server on the played GPU


@pytest.mark.bed
def test_the_real_router_lists_loads_and_answers_with_reasoning_where_the_template_thinks() -> None:
    start_router("--models-max", "1", "--jinja", "--reasoning-format", "deepseek")
    assert [path.stem for path in model_files()] == [GLM, NEMOTRON]
    load(GLM)
    wait_until(lambda: gpu().used_mib() == 15 + 19968)
    assert chat(GLM)["content"]
    assert http(f"{ROUTER}/models/unload", {"model": GLM})[0] == 200
    wait_until(lambda: gpu().used_mib() == 15)
    load(NEMOTRON)
    assert chat(NEMOTRON)["reasoning_content"]
    assert http(f"http://{external_ip()}:7070/health")[0] == 0
    gpu().assert_never_overcommitted()


@pytest.mark.bed(gpu={"rules": [{"match": "--model \\S*GLM", "mib": 20000, "load_s": 1.0, "grow_s": 0.5}]})
def test_a_load_lasts_as_long_as_the_test_wants_it_to() -> None:
    start_router()
    began = time.monotonic()
    load(GLM)
    assert time.monotonic() - began > 0.9
    grown = [entry["wanted_mib"][0] for entry in gpu().timeline()]
    assert grown == sorted(grown)
    assert len(grown) > 10


# --- the played vLLM

EMBEDDING = (
    "/usr/bin/env vllm serve Qwen/Qwen3-VL-Embedding-2B --host 127.0.0.1 --port 8200 --gpu-memory-utilization 0.25"
)


def start_vllm(command: str = EMBEDDING, environment: str = "") -> None:
    # Not in a unit's KillMode=control-group hands: the orphaned engine is what the test is about.
    text = "[Service]\nType=exec\nKillMode=process\nSuccessExitStatus=143\nSyslogIdentifier=%n\n"
    text += f"ExecStart={command}\n{environment}\n"
    install_unit("vllm.service", text)
    systemctl("start", "vllm.service")


@pytest.mark.bed
def test_vllm_refuses_connections_while_it_loads_then_embeds_and_ends_well_on_sigterm() -> None:
    start_vllm()
    assert http("http://127.0.0.1:8200/health")[0] == 0
    wait_until(lambda: http("http://127.0.0.1:8200/health")[0] == 200)
    body = {"input": "test", "model": "Qwen/Qwen3-VL-Embedding-2B"}
    _, answer = http("http://127.0.0.1:8200/v1/embeddings", body)
    assert len(answer["data"][0]["embedding"]) == 2048
    assert gpu().used_mib() == 15 + 4700
    systemctl("stop", "vllm.service")
    assert unit_properties("vllm.service")["Result"] == "success"
    wait_until(lambda: gpu().used_mib() == 15)
    lines = "\n".join(journal("vllm.service"))
    progress = ["Starting to load model", "Loading weights took", "Available KV cache", "Application startup complete"]
    positions = [lines.index(line) for line in progress]
    assert positions == sorted(positions)


@pytest.mark.bed
def test_the_engine_outlives_a_killed_api_server_and_keeps_its_memory() -> None:
    start_vllm()
    wait_until(lambda: http("http://127.0.0.1:8200/health")[0] == 200)
    os.kill(int(unit_properties("vllm.service")["MainPID"]), signal.SIGKILL)
    wait_until(lambda: http("http://127.0.0.1:8200/health")[0] == 0)
    time.sleep(1.2)
    (engine,) = pids_named("VLLM::EngineCore")
    assert gpu().used_mib() == 15 + 4700
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: gpu().used_mib() == 15)


@pytest.mark.bed(gpu={"processes": [{"pid": 1, "mib": 20000}]})
def test_vllm_does_not_start_when_less_than_its_share_is_free() -> None:
    start_vllm()
    wait_until(lambda: unit_properties("vllm.service")["ActiveState"] == "failed")
    text = "\n".join(journal("vllm.service"))
    assert "is less than desired GPU memory utilization" in text
    assert "EngineCore failed to start" in text
    assert gpu().used_mib() == 20015


@pytest.mark.bed
def test_vllm_sleeps_and_wakes() -> None:
    start_vllm(f"{EMBEDDING} --enable-sleep-mode", "Environment=VLLM_SERVER_DEV_MODE=1")
    wait_until(lambda: http("http://127.0.0.1:8200/health")[0] == 200)
    assert http("http://127.0.0.1:8200/sleep?level=1", {})[0] == 200
    wait_until(lambda: gpu().used_mib() == 15 + 900)
    assert http("http://127.0.0.1:8200/is_sleeping")[1] == {"is_sleeping": True}
    assert http("http://127.0.0.1:8200/wake_up", {})[0] == 200
    wait_until(lambda: gpu().used_mib() == 15 + 4700)


# --- seen from outside

outside = pytest.mark.skipif(in_bed(), reason="looks at beds from outside")


def enter(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    return subprocess.Popen([str(ENTER), "--", *command], env=environment, stdout=subprocess.PIPE, text=True)


def first_line(bed: subprocess.Popen[str]) -> str:
    assert bed.stdout
    return bed.stdout.readline()


def traces(bed: int) -> list[str]:
    """What there is on this machine of the bed whose enter has this pid."""
    roots = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup")]
    found = [str(path) for root in roots for path in root.glob(f"gpumod-bed.{bed}")]
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"gpumod-bed.{bed}/" in (folder / "cgroup").read_text():
                found.append(f"{folder.name} {(folder / 'cmdline').read_text()!r}")
        except OSError:
            continue
    return found


@outside
def test_two_beds_use_the_same_port_at_once() -> None:
    require_bed()
    script = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 7070)); print('listening', flush=True);"
        "sys.stdin.read(); print('done')"
    )
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [str(ENTER), "--", "python", "-c", script]
    pipe = subprocess.PIPE
    beds = [subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) for _ in range(2)]
    for bed in beds:
        assert first_line(bed) == "listening\n"
    for bed in beds:
        output, _ = bed.communicate()
        assert (output, bed.returncode) == ("done\n", 0)


@outside
@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGHUP])
def test_nothing_is_left_behind(number: signal.Signals | None) -> None:
    require_bed()
    mounts = Path("/proc/self/mounts").read_text()
    ending = "systemd-run --user -q sleep 1000; (setsid sleep 1000 &); echo ready"
    bed = enter("bash", "-c", ending if number is None else f"{ending}; sleep 1000")
    assert first_line(bed) == "ready\n"
    if number is not None:
        assert len(traces(bed.pid)) > 4
        bed.send_signal(number)
    assert bed.wait(60) == (0 if number is None else 128 + number)
    assert traces(bed.pid) == []
    assert Path("/proc/self/mounts").read_text() == mounts


@outside
def test_a_killed_bed_takes_its_processes_along_and_the_next_one_sweeps_up() -> None:
    require_bed()
    bed = enter("bash", "-c", "echo ready; sleep 1000")
    assert first_line(bed) == "ready\n"
    bed.kill()
    bed.wait()
    wait_until(lambda: not any(" " in trace for trace in traces(bed.pid)))
    enter("true").communicate()
    assert traces(bed.pid) == []


@outside
def test_the_command_has_the_callers_streams_and_its_status_is_passed_on() -> None:
    require_bed()
    environment = {**os.environ, "PYTHON": sys.executable}
    command = [
        str(ENTER),
        "--env",
        "GREETING=hello there",
        "--",
        "sh",
        "-c",
        'echo "$GREETING"; cat; echo no >&2; exit 7',
    ]
    done = subprocess.run(command, env=environment, input="input", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello there\ninput", "no\n")


@outside
def test_the_marker_reports_every_kind_of_end() -> None:
    require_bed()
    sample = Path(ENTER).with_name("samples") / "outcomes.py"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", str(sample)]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(command, cwd=ENTER.parents[2], env=environment, capture_output=True, text=True)
    text = done.stdout
    assert "3 failed, 1 passed, 1 skipped, 1 error" in text, text
    assert "a reason of its own" in text
    assert "a reason to skip" in text
    assert "a broken fixture" in text
    assert "the bed ended with exit code 0 before the test did" in text
    assert "the test did not end within 10 s" in text
    assert "in test_hangs" in text


@outside
@pytest.mark.parametrize("marked", [True, False], ids=["in a bed", "without one"])
def test_what_is_skipped_fails_in_ci_and_says_why(marked: bool, tmp_path: Path) -> None:
    require_bed()
    sample = Path(ENTER).with_name("samples") / "outcomes.py"
    if not marked:
        sample = tmp_path / "test_sample.py"
        sample.write_text("import pytest\ndef test_skips(): pytest.skip('a reason to skip')\n")
    plugins = ["-p", "no:cacheprovider", *(() if marked else ("-p", "tests.bed.plugin"))]
    command = [sys.executable, "-m", "pytest", *plugins, str(sample), "-k", "test_skips"]
    done = subprocess.run(
        command, cwd=ENTER.parents[2], env={**os.environ, "CI": "true"}, capture_output=True, text=True
    )
    assert "1 failed" in done.stdout, done.stdout
    assert " skipped" not in done.stdout
    assert "CI must not skip: a reason to skip" in done.stdout
    assert done.returncode == 1
