"""Preset files: what loads, what is refused and how that is said, and what is kept parsed."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gpumod_tui.adapters.files.paths import Places
from gpumod_tui.adapters.files.presets import check_files, load_registry
from gpumod_tui.core.catalog.parse import parse_preset
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.catalog.schema import json_schema
from gpumod_tui.core.catalog.validation import Fault
from gpumod_tui.core.errors import PresetInvalid
from gpumod_tui.core.models import DriverKind, OnLeave
from gpumod_tui.core.text import MIB

HOME = Path("/home/someone")
CHECKOUT = Path(__file__).parents[4]
SOURCE = Path("/presets/x.yaml")
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in ("ab", "bc", "cd", "de", "ef")
)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(*(tmp_path / name for name in ("config", "state", "cache", "units", "runtime")))


@pytest.fixture
def put(places: Places) -> Callable[[str, str | bytes], Path]:
    """Writes one of the user's presets."""

    def write(name: str, content: str | bytes) -> Path:
        path = places.config / "presets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def load(places: Places, **environ: str) -> ServiceRegistry:
    return load_registry(places, {"HOME": str(HOME), **environ})


def faults(**document: object) -> dict[str, Fault]:
    """Faults by key of a service that would be sound without what is given here."""
    sound: dict[str, object] = {"id": "x", "driver": "llamacpp", "port": 7070}
    return {fault.key: fault for fault in parse_preset({**sound, **document}, SOURCE, HOME).faults}


def vllm(**unit_vars: object) -> dict[str, Fault]:
    return faults(driver="vllm", model_id="org/model", unit_vars=unit_vars)


def test_packaged_presets_are_what_the_procedure_names(places: Places) -> None:
    registry = load(places)
    assert registry.problems == ()
    assert registry.warnings == ()
    assert {mode: registry.modes[mode].services for mode in registry.modes} == {
        "blank": (),
        "rag": ("vllm-embedding",),
        "code": ("glm-code",),
        "nemotron": ("nemotron-3-nano",),
    }
    ports = {service.id: service.port for service in registry.services.values()}
    assert ports == {"vllm-embedding": 8200, "glm-code": 7070, "nemotron-3-nano": 7070, "devstral-small-2": 8000}
    for name, model in (
        ("glm-code", "GLM-4.7-Flash-UD-Q4_K_XL"),
        ("nemotron-3-nano", "Nemotron-3-Nano-30B-A3B-UD-Q4_K_XL"),
    ):
        router = registry.service(name)
        assert router.is_router
        assert router.default_model == model
        assert router.context_size
        assert router.unit_vars["n_gpu_layers"] is not None
    card_bytes = (24564 - 442 - 15) * MIB
    for service in registry.services.values():
        assert service.vram_bytes is not None
        assert service.vram_bytes + 512 * MIB <= card_bytes
        assert not any(word in service.name.lower() for word in ("vllm", "llama", "glm", "nemotron"))


def test_a_preset_of_the_original_loads_unchanged() -> None:
    parsed = parse_preset(
        {
            "id": "old-router",
            "name": "Old router",
            "driver": "llamacpp",
            "port": 7070,
            "vram_mb": 20000,
            "kv_cache_per_1k": 64,
            "model_id": "org/Model-GGUF",
            "health_endpoint": "/health",
            "startup_timeout": 120,
            "supports_sleep": True,
            "sleep_mode": "router",
            "unit_vars": {
                "models_dir": "$HOME/bin",
                "models_max": 1,
                "no_models_autoload": True,
                "default_model": "Model-Q4",
                "ctx_size": 8192,
                "n_cpu_moe": 12,
                "threads": 16,
                "jinja": True,
                "flash_attn": True,
                "n_gpu_layers": -1,
                "extra_args": "--parallel 5 --grammar 'a b'",
            },
        },
        SOURCE,
        HOME,
    )
    assert parsed.faults == ()
    assert parsed.service is not None
    service = parsed.service
    assert service.is_router
    assert service.models_dir == HOME / "bin"
    assert service.default_model == "Model-Q4"
    assert (service.vram_bytes, service.context_size, service.startup_timeout_s) == (20000 * MIB, 8192, 120.0)
    assert service.unit_vars["extra_args"] == ["--parallel", "5", "--grammar", "a b"]
    assert service.on_leave is OnLeave.STOP
    old_mode: dict[str, object] = {"id": "m", "name": "M", "description": None, "services": [], "total_vram_mb": 0}
    assert parse_preset(old_mode, SOURCE, HOME).mode is not None


def test_a_model_path_makes_a_single_model_wherever_it_stands() -> None:
    for document in ({"model_path": "~/m.gguf"}, {"unit_vars": {"model_path": "${HOME}/m.gguf"}}):
        parsed = parse_preset({"id": "x", "driver": "llamacpp", "port": 1, **document}, SOURCE, HOME)
        assert parsed.service is not None
        assert parsed.service.model_path == HOME / "m.gguf"
        assert not parsed.service.is_router
    both = faults(model_path="/a.gguf", unit_vars={"model_path": "/b.gguf"})
    assert both["unit_vars.model_path"].expected == "the same as model_path, '/a.gguf'"


def test_no_vram_is_a_real_zero_and_not_given_is_unknown() -> None:
    zero = parse_preset({"id": "x", "driver": "llamacpp", "port": 1, "vram_mb": 0}, SOURCE, HOME).service
    unknown = parse_preset({"id": "x", "driver": "llamacpp", "port": 1}, SOURCE, HOME).service
    assert zero is not None
    assert zero.vram_bytes == 0
    assert unknown is not None
    assert unknown.vram_bytes is None


@pytest.mark.parametrize(
    ("document", "key", "expected"),
    [
        ({"port": True}, "port", "1 to 65535"),
        ({"port": 65536}, "port", "1 to 65535"),
        ({"port": "7070"}, "port", "1 to 65535"),
        ({"vram_mb": -1}, "vram_mb", "MiB"),
        ({"vram_mb": float("nan")}, "vram_mb", "MiB"),
        ({"vram_mb": True}, "vram_mb", "MiB"),
        ({"startup_timeout": float("inf")}, "startup_timeout", "seconds"),
        ({"startup_timeout": 0}, "startup_timeout", "seconds"),
        ({"id": "Upper"}, "id", "a to z"),
        ({"id": "x" * 50}, "id", "a to z"),
        ({"id": "line\n"}, "id", "a to z"),
        ({"id": 7}, "id", "a to z"),
        ({"driver": "vlm"}, "driver", "vllm (did you mean that?)"),
        ({"driver": ["vllm"]}, "driver", "one of llamacpp, vllm, fastapi, command"),
        ({"vram": 5}, "vram", "vram_mb (did you mean that?)"),
        ({"unit_vars": {"gpu_layers": 5}}, "unit_vars.gpu_layers", "n_gpu_layers (did you mean that?)"),
        ({"unit_vars": ["a"]}, "unit_vars", "a mapping"),
        ({"sleep_mode": "deep"}, "sleep_mode", "one of none, l1, l2, router"),
        ({"on_leave": "sleep"}, "on_leave", "sleep_mode"),
        ({"gpus": [0, 0]}, "gpus", "each GPU once"),
        ({"gpus": [-1]}, "gpus[0]", "NVML indices"),
        ({"gpus": []}, "gpus", "NVML indices"),
        ({"health_endpoint": "health"}, "health_endpoint", "begins with /"),
        ({"name": "two\nlines"}, "name", "control characters"),
        ({"name": "\ud800"}, "name", "control characters"),
        ({"unit_vars": {"extra_args": "\ufffe"}}, "unit_vars.extra_args", "shell"),
        ({"model_path": "$MODELS/x.gguf"}, "model_path", "no other variable"),
        ({"model_path": "m.gguf"}, "model_path", "absolute path"),
        ({"model_path": "$HOMELESS/m.gguf"}, "model_path", "no other variable"),
        ({"model_path": "~other/m.gguf"}, "model_path", "absolute path"),
        ({"model_path": "/a.gguf", "default_model": "m"}, "default_model", "router"),
        ({"unit_vars": {"no_models_autoload": False}}, "unit_vars.no_models_autoload", "asks nobody"),
        ({"unit_vars": {"host": "0.0.0.0"}}, "unit_vars.host", "127.0.0.1"),
        ({"unit_vars": {"extra_args": 'a "b'}}, "unit_vars.extra_args", "shell"),
        ({"unit_vars": {"extra_args": "a\0"}}, "unit_vars.extra_args", "NUL"),
        ({"env": {"A B": "x"}}, "env.A B", "letters, digits"),
        ({"env": {"A": True}}, "env", "strings or numbers"),
        ({"env": {"A": float("inf")}}, "env", "strings or numbers"),
        ({"env": {"A": "x\x1b"}}, "env.A", "without a word"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "1"}}, "env.CUDA_VISIBLE_DEVICES", "gpus"),
        ({"env": {"LLAMA_ARG_HOST": "0.0.0.0"}}, "env.LLAMA_ARG_HOST", "extra_args"),
        ({"env": {"OLLAMA_HOST": "0.0.0.0:11434"}}, "env.OLLAMA_HOST", "loopback"),
        ({"env": {"GPUMOD_MEMORY_SETTINGS": "x"}}, "env.GPUMOD_MEMORY_SETTINGS", "installed for"),
        ({"env": {"HF_TOKEN": "s"}}, "env.HF_TOKEN", "api_key_file"),
        ({"env": {"MY_API_KEY": "s"}}, "env.MY_API_KEY", "api_key_file"),
        (
            {"driver": "vllm", "model_id": "m", "unit_vars": {"hf_overrides": {"a": [float("nan")]}}},
            "unit_vars.hf_overrides",
            "JSON",
        ),
        ({"driver": "vllm"}, "model_id", "the model's name"),
        ({"driver": "vllm", "model_id": "--port"}, "model_id", "the model's name"),
        ({"driver": "command"}, "unit_vars.command", "list of words"),
        ({"driver": "command", "unit_vars": {"command": []}}, "unit_vars.command", "a program"),
        ({"driver": "command", "unit_vars": {"command": "srv --bind=0.0.0.0:80"}}, "unit_vars.command", "loopback"),
        ({"driver": "command", "unit_vars": {"command": ["srv", "[::]:80"]}}, "unit_vars.command", "loopback"),
    ],
)
def test_what_cannot_be_used_is_refused_with_key_and_expectation(
    document: dict[str, Any], key: str, expected: str
) -> None:
    found = faults(**document)
    assert key in found, found
    assert expected in found[key].expected


@pytest.mark.parametrize(
    "words",
    [
        "--host 0.0.0.0",
        "--host=0.0.0.0",
        "--port 1",
        "--reuse-port",
        "--reuse_port",
        "--api-key k",
        "--sleep-idle-seconds 5",
        "--sleep_idle_seconds=5",
        "--models-autoload",
        "--models-preset p.ini",
        "--tensor-split 9,1",
        "-mg 0",
        "--split-mode=none",
        "-dev CUDA0",
        "--rpc 127.0.0.1:50052",
        "-m x",
        "-hf a/b",
        "-hft t",
        "-hfd a/b",
        "-hfrd a/b",
        "--hf-repo-draft a/b",
        "--spec-draft-hf a/b",
        "-mmdev CUDA1",
        "--mmproj-device CUDA1",
        "-mmu http://x/y",
        "--mmproj_url http://x/y",
        "--fim-qwen-7b-spec",
        "--gpt-oss-20b-default",
    ],
)
def test_options_that_undo_safety_are_refused_for_llama_server(words: str) -> None:
    assert "unit_vars.extra_args" in faults(unit_vars={"extra_args": f"--parallel 1 {words}"})


@pytest.mark.parametrize(
    "words",
    [
        "--host 0.0.0.0",
        "--ho=0.0.0.0",
        "--po 1",
        "--uds /x",
        "--ud=/x",
        "--api-key k",
        "--api_key=k",
        "--enable_sleep_mode",
        "--enable-sleep",
        "--gpu-memory-util 0.9",
        "--gpu_memory_utilization=0.9",
        "--kv-cache-memory-bytes 9",
        "--num-gpu-blocks-override 9",
        "--config f.yaml",
        "-tp 2",
        "-tp=2",
    ],
)
def test_options_that_undo_safety_are_refused_for_vllm_also_abbreviated(words: str) -> None:
    assert "unit_vars.extra_args" in vllm(extra_args=f"--seed 1 {words}")


@pytest.mark.parametrize(
    "command",
    [
        "srv --host '*'",
        "srv --host ''",
        "srv --host",
        "srv --host=",
        "srv --listen --port 1",
        "srv --listen :9001",
        "srv --bind *:9001",
        "srv --bind=[::]:80",
        "srv -listen-address 192.168.1.2:80",
        "srv --web.listen-address http://0.0.0.0:80/x",
        "srv --host 127.0.0.1,10.0.0.1",
        "srv --server-name box.example.org",
        "srv --host 0",
        "sh -c 'exec srv --host 0.0.0.0'",
        "srv http://*:80",
    ],
)
def test_a_command_that_listens_beyond_loopback_is_refused(command: str) -> None:
    found = faults(driver="command", unit_vars={"command": command})
    assert "loopback" in found["unit_vars.command"].expected


@pytest.mark.parametrize(
    "command",
    [
        "srv --listen 127.0.0.1:9001 --cors-origins * --accept image/*",
        "srv --host=localhost --bind [::1]:80 --address ::1 --ip 127.0.0.1,::1",
        "srv --listen 9001 --redis-host db.example.org --upstream http://10.0.0.1:80",
        "srv --bind unix:/run/x.sock --listen /run/y.sock",
        "sh -c 'exec srv --host 127.0.0.1'",
    ],
)
def test_a_command_that_listens_on_loopback_or_tells_no_host_stays(command: str) -> None:
    assert not faults(driver="command", unit_vars={"command": command})


def test_a_declared_split_has_an_entry_for_each_gpu() -> None:
    document = {"id": "x", "driver": "llamacpp", "port": 1, "gpus": [1, 0], "vram_mb": [24000, 16000]}
    service = parse_preset(document, SOURCE, HOME).service
    assert service is not None
    assert service.vram_bytes == 40000 * MIB
    assert service.gpu_shares == (24000 * MIB, 16000 * MIB)
    one = parse_preset({**document, "vram_mb": 40000}, SOURCE, HOME).service
    assert one is not None
    assert (one.vram_bytes, one.gpu_shares) == (40000 * MIB, ())


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"vram_mb": [1000, 2000]}, "one entry for each of gpus (1)"),
        ({"vram_mb": [1000], "gpus": [0, 1]}, "one entry for each of gpus (2)"),
        ({"vram_mb": [1, 2], "gpus": [0, 1], "driver": "vllm", "model_id": "a/b"}, "equal entries, or one number"),
        ({"vram_mb": []}, "a list: MiB on each of gpus"),
        ({"vram_mb": "24000"}, "a list: MiB on each of gpus"),
    ],
)
def test_a_split_that_cannot_be_is_refused(document: dict[str, Any], expected: str) -> None:
    assert expected in faults(**document)["vram_mb"].expected
    assert not faults(vram_mb=[2, 2], gpus=[0, 1], driver="vllm", model_id="a/b")


@pytest.mark.parametrize("share", [0, -1, True, "5000"])
def test_each_share_is_some_memory(share: object) -> None:
    assert [key for key in faults(vram_mb=[5000, share], gpus=[0, 1]) if key.startswith("vram_mb")]


def test_harmless_options_and_variables_stay() -> None:
    assert not faults(unit_vars={"extra_args": "--parallel 2 --cache-type-k q8_0 -ub 512 --no-host -fa on"})
    assert not vllm(extra_args="--config-format mistral --max-num-batched-tokens 9 --tokenizer-mode mistral")
    assert not faults(driver="fastapi", unit_vars={"extra_args": "--app-dir x --h11-max-incomplete-event-size 9"})
    assert "unit_vars.extra_args" in faults(driver="fastapi", unit_vars={"extra_args": "--fd 3"})
    assert not faults(env={"TOKENIZERS_PARALLELISM": "false", "MAX_TOKENS": 5, "HF_TOKEN_PATH": "/t"})


def test_unified_memory_is_warned_about() -> None:
    document = {"id": "x", "driver": "llamacpp", "port": 1, "env": {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": 1}}
    parsed = parse_preset(document, SOURCE, HOME)
    assert parsed.service is not None
    assert parsed.service.env == {"GGML_CUDA_ENABLE_UNIFIED_MEMORY": "1"}
    assert "overflows into host memory" in parsed.warnings[0]


def test_every_fault_of_a_file_is_named_at_once() -> None:
    assert set(faults(port=0, vram_mb=-1, nonsense=1)) == {"port", "vram_mb", "nonsense"}


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("id: a\nid: b\ndriver: llamacpp\n", "the key 'id' twice"),
        ("id: a\ndriver: llamacpp\nport: 1\nenv: {A: x, A: y}\n", "the key 'A' twice"),
        ("", "nothing"),
        ("# only a comment\n", "nothing"),
        ("- a\n- b\n", "a list"),
        ("just text\n", "'just text'"),
        ("id:\ta\n\tdriver: x\n", "line"),
        (b"id: \xff\n", "no UTF-8"),
        (BOMB, "too many values"),
        ("a: &a [*a]\n", "too many values"),
        ("id: a\n---\nid: b\n", "line 2"),
        ("? [a]\n: b\n", "no word"),
        ("id: !!python/object/apply:os.system [true]\n", "line 1"),
        # PyYAML itself counts, too, since 6.0.4.
        pytest.param("a: " + "[" * 1_000_000 + "\n", "nesting", id="brackets"),
        pytest.param("#" * (1024**2 + 1), "more than 1024 KiB", id="large"),
        ("id: a\nservices: []\ndriver: vllm\n", "both driver: and services:"),
        ("id: a\n", "neither driver: nor services:"),
    ],
)
def test_yaml_that_misleads_is_a_problem_with_its_file_and_the_rest_loads(
    places: Places, put: Callable[[str, str | bytes], Path], content: str | bytes, found: str
) -> None:
    path = put("bad.yaml", content)
    registry = load(places)
    assert [problem.source for problem in registry.problems] == [path]
    assert found in registry.problems[0].found
    assert "code" in registry.modes


def test_a_file_that_cannot_be_read_is_a_problem(places: Places, put: Callable[[str, str | bytes], Path]) -> None:
    path = put("gone.yaml", "")
    path.unlink()
    path.symlink_to("/nowhere/at/all")
    (problem,) = load(places).problems
    assert problem.source == path
    assert "No such file" in problem.found


def service_text(name: str, more: str = "") -> str:
    return f"id: {name}\ndriver: llamacpp\nport: 7070\n{more}"


def test_the_later_folder_wins_by_id(places: Places, put: Callable[[str, str | bytes], Path], tmp_path: Path) -> None:
    put("glm.yaml", service_text("glm-code", "vram_mb: 1\n"))
    assert load(places).service("glm-code").vram_bytes == MIB
    for name, amount in (("one", 2), ("two", 3)):
        folder = tmp_path / name / "deep" / "down"
        folder.mkdir(parents=True)
        (folder / "a.yml").write_text(service_text("glm-code", f"vram_mb: {amount}\n"))
    both = f"{tmp_path / 'one'}:{tmp_path / 'two'}"
    assert load(places, GPUMOD_PRESETS=both).service("glm-code").vram_bytes == 3 * MIB
    (places.config / "config.yaml").write_text(f"presets: [{tmp_path / 'one'}]\n")
    assert load(places).service("glm-code").vram_bytes == 2 * MIB


@pytest.mark.parametrize("content", [service_text("glm-code", "port: 1\n"), service_text("glm-code", "vram: 1\n")])
def test_a_broken_override_is_named_and_what_it_replaces_is_not_used(
    places: Places, put: Callable[[str, str | bytes], Path], content: str
) -> None:
    path = put("mine.yaml", content)
    registry = load(places)
    assert "glm-code" not in registry.services
    assert "code" not in registry.modes
    assert path in [problem.source for problem in registry.problems]
    assert any("glm-code is not there" in text and str(path) in text for text in registry.warnings)
    assert "nemotron" in registry.modes


def test_two_of_one_id_in_one_folder_are_warned_about(places: Places, put: Callable[[str, str | bytes], Path]) -> None:
    put("a.yaml", service_text("mine", "vram_mb: 1\n"))
    put("b.yaml", service_text("mine", "vram_mb: 2\n"))
    registry = load(places)
    assert registry.service("mine").vram_bytes == 2 * MIB
    assert "replaces" in registry.warnings[0]
    assert "a.yaml" in registry.warnings[0]


def test_a_file_of_the_id_blank_is_loaded_beside_the_built_in_mode(
    places: Places, put: Callable[[str, str | bytes], Path]
) -> None:
    put("blank.yaml", "id: blank\nname: Mine\nservices: [glm-code]\n")
    registry = load(places)
    assert registry.modes["blank"].services == ()
    assert registry.modes["blank@blank.yaml"].services == ("glm-code",)
    assert "blank@blank.yaml" in registry.warnings[0]


def test_what_needs_a_thing_that_is_not_there_is_a_problem(
    places: Places, put: Callable[[str, str | bytes], Path]
) -> None:
    put("lost.yaml", service_text("lost", "depends_on: [glm-cod]\n"))
    put("ring-a.yaml", service_text("ring-a", "depends_on: [ring-b]\n"))
    put("ring-b.yaml", service_text("ring-b", "depends_on: [ring-a]\n"))
    put("self.yaml", service_text("self", "depends_on: [self]\n"))
    put("on-ring.yaml", service_text("on-ring", "depends_on: [ring-a]\n"))
    put("mode.yaml", "id: m\nservices: [glm-code, glm-kode]\n")
    put("ring-mode.yaml", "id: rm\nservices: [ring-a]\n")
    put("ports.yaml", "id: p\nservices: [glm-code, same-port]\n")
    put("same.yaml", service_text("same-port", "model_path: /m.gguf\n"))
    put("shared.yaml", "id: shared\nservices: [glm-code, nemotron-3-nano]\n")
    registry = load(places)
    by_name = {problem.source.name: problem for problem in registry.problems}
    assert "'glm-cod'" in by_name["lost.yaml"].found
    assert "glm-code" in by_name["lost.yaml"].expected
    assert by_name["ring-a.yaml"].found == "ring-a → ring-b → ring-a"
    assert by_name["self.yaml"].found == "self → self"
    assert "ring-b" in by_name["on-ring.yaml"].found
    assert "'glm-kode', which is not there" in by_name["mode.yaml"].found
    assert "'ring-a', which is broken" in by_name["ring-mode.yaml"].found
    assert "both on port 7070" in by_name["ports.yaml"].found
    # The guard tells routers on one port apart by their models.
    assert registry.mode("shared").services == ("glm-code", "nemotron-3-nano")
    assert set(registry.services).isdisjoint({"lost", "ring-a", "ring-b", "self", "on-ring"})
    assert set(registry.modes) == {"blank", "code", "nemotron", "rag", "shared"}


def test_links_in_a_circle_and_hidden_files_are_passed_over(
    places: Places, put: Callable[[str, str | bytes], Path]
) -> None:
    put("deep/a.yaml", service_text("mine"))
    put(".#a.yaml", "broken: [")
    (places.config / "presets" / "deep" / "up").symlink_to(places.config / "presets")
    registry = load(places)
    assert registry.problems == ()
    assert "mine" in registry.services


def test_a_folder_that_is_not_there_is_warned_about(places: Places, tmp_path: Path) -> None:
    assert "nowhere" in load(places, GPUMOD_PRESETS=str(tmp_path / "nowhere")).warnings[0]


def test_routers_without_a_folder_get_the_configured_one(
    places: Places, put: Callable[[str, str | bytes], Path]
) -> None:
    put("own.yaml", service_text("own", "unit_vars: {models_dir: /own}\n"))
    assert load(places).service("glm-code").models_dir == HOME / "models"
    registry = load(places, GPUMOD_MODELS_DIR="/elsewhere")
    assert registry.service("glm-code").models_dir == Path("/elsewhere")
    assert registry.service("own").models_dir == Path("/own")


def test_a_warm_load_is_the_same_and_parses_nothing(
    places: Places, put: Callable[[str, str | bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("bad.yaml", "nothing: here\n")
    put("args.yaml", service_text("args", "gpus: [0, GPU-1a]\nenv: {A: 1}\nunit_vars: {extra_args: a b}\n"))
    cold = load(places)
    monkeypatch.setattr("gpumod_tui.adapters.files.yaml.read_yaml", lambda path: pytest.fail(f"{path} was parsed"))
    warm = load(places)
    assert warm.services == cold.services
    assert warm.modes == cold.modes
    assert warm.warnings == cold.warnings
    assert [str(problem) for problem in warm.problems] == [str(problem) for problem in cold.problems]
    assert isinstance(warm.services["args"].driver, DriverKind)
    assert warm.services["args"].gpus == (0, "GPU-1a")


def test_a_changed_added_or_removed_file_is_seen(places: Places, put: Callable[[str, str | bytes], Path]) -> None:
    path = put("a.yaml", service_text("mine", "vram_mb: 1\n"))
    assert load(places).service("mine").vram_bytes == MIB
    before = path.stat()
    path.write_text(service_text("mine", "vram_mb: 2\n"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert load(places).service("mine").vram_bytes == 2 * MIB
    put("b.yaml", service_text("other"))
    assert "other" in load(places).services
    path.unlink()
    assert "mine" not in load(places).services


@pytest.mark.parametrize(
    ("file", "rule", "then"),
    [
        ("core/units/addresses.py", "def is_anywhere(text):\n    return True", "[] 1"),
        ("core/catalog/parse.py", "def expand(text, home):\n    raise ValueError('another folder')", "ConfigInvalid"),
    ],
    ids=["a preset's", "a setting's"],
)
def test_a_changed_rule_of_gpumod_refuses_what_the_cache_holds(
    file: str, rule: str, then: str, tmp_path: Path, put: Callable[[str, str | bytes], Path]
) -> None:
    """A rule may lie in any file of the package."""
    shutil.copytree(CHECKOUT / "gpumod_tui", tmp_path / "gpumod_tui", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("presets", "units", "pyproject.toml"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    put("mine.yaml", service_text("mine", "env: {A: b}\n"))
    (tmp_path / "config" / "config.yaml").write_text("models_dir: /models\n")
    script = (
        "from pathlib import Path\n"
        "from gpumod_tui.adapters.files.paths import Places\n"
        "from gpumod_tui.adapters.files.presets import load_registry\n"
        f"places = [Path({str(tmp_path)!r}) / name for name in ('config', 'state', 'cache', 'units', 'runtime')]\n"
        "try:\n"
        f"    found = load_registry(Places(*places), {{'HOME': {str(HOME)!r}}})\n"
        "    print([name for name in found.services if name == 'mine'], len(found.problems))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )

    def loaded() -> str:
        command = [sys.executable, "-P", "-c", script]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()

    assert loaded() == "['mine'] 0"
    with (tmp_path / "gpumod_tui" / file).open("a") as code:
        code.write(f"\n\n{rule}\n")
    assert loaded() == then


@pytest.mark.parametrize("damage", [b"", b"\xc1\xff", msgspec.msgpack.encode(["key", 5])])
def test_a_damaged_cache_is_ignored_and_written_again(places: Places, damage: bytes) -> None:
    whole = load(places).services
    file = places.cache / "presets.msgpack"
    sound = file.read_bytes()
    file.write_bytes(damage)
    assert load(places).services == whole
    assert file.read_bytes() == sound


def test_a_cache_that_cannot_be_written_is_no_fault(places: Places) -> None:
    places.cache.write_text("a file where the folder should be")
    assert "code" in load(places).modes


def test_a_warm_load_imports_no_yaml_and_no_parser(places: Places) -> None:
    load(places)
    (places.config).mkdir(exist_ok=True)
    (places.config / "config.yaml").write_text("vram_margin_mb: 600\n")
    load(places)
    script = (
        "import sys; from pathlib import Path\n"
        "from gpumod_tui.adapters.files.paths import Places\n"
        "from gpumod_tui.adapters.files.presets import load_registry\n"
        f"places = Places(*map(Path, {[str(getattr(places, name)) for name in Places.__dataclass_fields__]!r}))\n"
        f"load_registry(places, {{'HOME': {str(HOME)!r}}})\n"
        "print(sorted({'yaml', 'jinja2', 'click', 'gpumod_tui.core.catalog.load'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_checking_a_file_says_its_own_problems_only(
    places: Places, put: Callable[[str, str | bytes], Path], tmp_path: Path
) -> None:
    put("broken.yaml", "no: no\n")
    mine = tmp_path / "mode.yaml"
    mine.write_text("id: m\nservices: [gml-code]\n")
    (problem,) = check_files(places, [mine], {"HOME": str(HOME)}).problems
    assert isinstance(problem, PresetInvalid)
    assert str(problem).startswith(f"{mine}: services: found 'gml-code', which is not there, expected glm-code")


def test_the_schema_names_every_field_and_is_javascript_proof() -> None:
    text = msgspec.json.encode(json_schema()).decode()
    definitions = json_schema()["$defs"]
    assert {"LlamacppPreset", "VllmPreset", "FastapiPreset", "CommandPreset", "ModePreset"} <= set(definitions)
    assert definitions["LlamacppVars"]["additionalProperties"] is False
    assert "models_max" in definitions["LlamacppVars"]["properties"]
    assert "on_leave" in text
    assert "\\Z" not in text
