"""A server takes the GPU that it was started for, whatever its preset has come to say: that is where there has to be
room."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.bed.guarded import GLM, ask, children, direct
from tests.bed.host import HOME, gpu, journal, run, systemctl, unit_properties, wait_until

CODE = "glm-code"
TWO = {"gpus": [{"name": "A", "uuid": "GPU-a"}, {"name": "B", "uuid": "GPU-b"}]}
PRESETS = HOME / ".config" / "gpumod" / "presets"

pytestmark = [pytest.mark.bed, pytest.mark.usefixtures("never_too_much")]


def preset(gpus: list[int], vram_mb: int | None = 20480, context_size: int = 4096, n_gpu_layers: int = -1) -> None:
    PRESETS.mkdir(parents=True, exist_ok=True)
    lines = [f"id: {CODE}", "driver: llamacpp", "port: 7070", f"default_model: {GLM}"]
    lines += [f"vram_mb: {vram_mb}"] if vram_mb is not None else []
    lines += [f"context_size: {context_size}", f"gpus: {json.dumps(gpus)}", "unit_vars:"]
    lines += [f"  n_gpu_layers: {n_gpu_layers}"]
    (PRESETS / f"{CODE}.yaml").write_text("\n".join(lines) + "\n")


def fill(index: int, mib: int) -> subprocess.Popen[bytes]:
    stranger = subprocess.Popen(["sleep", "600"])
    gpu().declare(stranger.pid, {index: mib})
    wait_until(lambda: gpu().used_mib(index) > mib)
    return stranger


@pytest.mark.bed(gpu=TWO)
@pytest.mark.parametrize("changed", [{"gpus": [1]}, {"gpus": [0], "vram_mb": 0}], ids=["elsewhere", "none"])
def test_a_load_is_not_admitted_on_a_gpu_that_its_router_was_not_started_for(changed: dict[str, object]) -> None:
    preset([0])
    run("gpumod", "template", "install", "--yes", check=True)
    systemctl("start", f"{CODE}.service")
    wait_until(lambda: direct(CODE, "GET", "/health").status == 200)
    stranger = fill(0, 8000)
    preset(**changed)  # type: ignore[arg-type]
    refused = ask("POST", "/v1/chat/completions", {"model": GLM, "messages": [], "max_tokens": 1})
    assert refused.status == 503, refused.body
    assert "set to GPU 0" in refused.json["error"]["message"]
    assert f"gpumod service restart {CODE}" in refused.json["error"]["message"]
    by_hand = run("gpumod", "service", "load", CODE, GLM)
    assert by_hand.returncode == 3, by_hand.stdout + by_hand.stderr
    assert not children(CODE)
    stranger.kill()


def test_a_load_is_not_admitted_where_its_router_has_more_context_than_the_preset_names() -> None:
    preset([0], context_size=8192)
    run("gpumod", "template", "install", "--yes", check=True)
    systemctl("start", f"{CODE}.service")
    wait_until(lambda: direct(CODE, "GET", "/health").status == 200)
    preset([0], vram_mb=8000)
    refused = ask("POST", "/models/load", {"model": GLM})
    assert refused.status == 503, refused.body
    assert "started with a context of 8192 and its preset says 4096" in refused.json["error"]["message"]
    assert not children(CODE)
    run("gpumod", "template", "install", CODE, "--yes", check=True)
    run("gpumod", "service", "restart", CODE, check=True)
    wait_until(lambda: GLM in children(CODE), what="it is admitted by what its preset says now")


def test_a_load_is_not_admitted_where_its_router_puts_more_layers_on_the_gpu_than_the_preset_says() -> None:
    preset([0], vram_mb=None)
    run("gpumod", "template", "install", "--yes", check=True)
    systemctl("start", f"{CODE}.service")
    wait_until(lambda: direct(CODE, "GET", "/health").status == 200)
    preset([0], vram_mb=None, n_gpu_layers=1)
    refused = ask("POST", "/models/load", {"model": GLM})
    assert refused.status == 503, refused.body
    assert "started with all layers on the GPU and its preset says 1" in refused.json["error"]["message"]
    by_hand = run("gpumod", "service", "load", CODE, GLM)
    assert by_hand.returncode == 3, by_hand.stdout + by_hand.stderr
    assert not children(CODE)
    run("gpumod", "template", "install", CODE, "--yes", check=True)
    run("gpumod", "service", "restart", CODE, check=True)
    wait_until(lambda: GLM in children(CODE), what="it is admitted by what its preset says now")


@pytest.mark.bed(gpu={"rules": [{"match": "--port 9105", "mib": 20000}]})
def test_a_unit_that_was_installed_for_more_than_its_preset_says_does_not_start() -> None:
    model = next((Path.home() / "models").glob("*GLM*.gguf"))

    def single(context_size: int, vram_mb: int, startup_timeout: int = 60) -> None:
        PRESETS.mkdir(parents=True, exist_ok=True)
        lines = ["id: single", "driver: llamacpp", "port: 9105", f"vram_mb: {vram_mb}", f"model_path: {model}"]
        lines += [f"context_size: {context_size}", f"startup_timeout: {startup_timeout}"]
        (PRESETS / "single.yaml").write_text("\n".join(lines) + "\n")

    single(8192, 20480)
    run("gpumod", "template", "install", "--yes", check=True)
    stranger = fill(0, 8000)
    single(512, 4096)
    systemctl("start", "single.service", check=False)
    assert unit_properties("single.service")["ActiveState"] == "inactive"
    said = [line for line in journal("single.service") if "refused" in line]
    assert "installed for other settings than its preset has now" in said[-1]
    assert "gpumod template install single --yes" in said[-1]
    switched = run("gpumod", "service", "start", "single")
    assert switched.returncode == 3, switched.stdout + switched.stderr
    assert "gpumod template install single --yes" in switched.stderr
    stranger.kill()
    wait_until(lambda: gpu().used_mib(0) < 1000)
    single(8192, 20480, startup_timeout=90)
    systemctl("start", "single.service")
    wait_until(lambda: gpu().used_mib(0) > 19000, what="a timeout is no reason")


@pytest.mark.bed(gpu={**TWO, "rules": [{"match": "--port 9105", "mib": 20000}]})
def test_a_unit_that_was_installed_for_another_gpu_does_not_start() -> None:
    model = next((Path.home() / "models").glob("*GLM*.gguf"))

    def single(index: int) -> None:
        PRESETS.mkdir(parents=True, exist_ok=True)
        lines = ["id: single", "driver: llamacpp", "port: 9105", "vram_mb: 20480", f"model_path: {model}"]
        (PRESETS / "single.yaml").write_text("\n".join([*lines, f"gpus: [{index}]"]) + "\n")

    single(0)
    run("gpumod", "template", "install", "--yes", check=True)
    stranger = fill(0, 8000)
    single(1)
    systemctl("start", "single.service", check=False)
    assert unit_properties("single.service")["ActiveState"] == "inactive"
    said = [line for line in journal("single.service") if "refused" in line]
    assert said
    assert "GPU 0" in said[-1]
    assert "gpumod template install single --yes" in said[-1]
    run("gpumod", "template", "install", "single", "--yes", check=True)
    systemctl("start", "single.service")
    wait_until(lambda: gpu().used_mib(1) > 19000)
    stranger.kill()
