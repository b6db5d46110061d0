"""What a preset has come to say of GPUs counts once its server is started for them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.core.admission.decide import Granted, Refused
from gpumod_tui.core.models import DriverKind, GpuSample, Service
from gpumod_tui.core.servers.memory_settings import memory_settings
from gpumod_tui.core.text import GIB
from gpumod_tui.core.vram.drift import misplaced, outdated, outgrown
from tests.ledger_world import DEFAULT, ROUTER, Box

GPUS = (GpuSample(0, "GPU-aa"), GpuSample(1, "GPU-bb"), GpuSample(2))


def service(*gpus: int | str, vram_bytes: int | None = GIB) -> Service:
    return Service("one", "One", DriverKind.LLAMACPP, gpus=gpus, vram_bytes=vram_bytes)


@pytest.mark.parametrize("visible", ["GPU-bb,GPU-aa", " GPU-aa, GPU-bb ", "0,1", "", "GPU-gone", "GPU-aa,GPU-gone"])
def test_the_same_gpus_in_any_order_or_unknown_ones_are_no_reason(visible: str) -> None:
    assert misplaced(service("GPU-bb", 0), GPUS, visible) is None


@pytest.mark.parametrize(
    ("one", "visible", "told"),
    [
        (service(1), "GPU-aa", "set to GPU 0 and its preset says GPU 1;"),
        (service(0, 1), "GPU-aa", "set to GPU 0 and its preset says GPU 0, 1;"),
        (service(0), "0,1", "set to GPU 0, 1 and its preset says GPU 0;"),
        (service(0, vram_bytes=0), "GPU-aa", "set to GPU 0 and its preset says no GPU;"),
    ],
)
def test_others_are_named_with_what_to_do(one: Service, visible: str, told: str) -> None:
    why = str(misplaced(one, GPUS, visible))
    assert told in why
    assert why.endswith("gpumod template install one --yes, then gpumod service restart one")


def test_a_unit_and_a_models_load_are_refused_where_the_server_sees_other_gpus(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.visible[ROUTER] = "GPU-1"
    box.begin(ROUTER)
    assert box.ask(ROUTER) == "no", "its preset names GPU 0"
    box.visible[ROUTER] = "GPU-0"
    assert box.ask(ROUTER) == "yes"
    box.proceed(ROUTER)
    assert isinstance(box.admission(box.asker()).admit(ROUTER, DEFAULT), Granted)
    box.visible[ROUTER] = "GPU-0,GPU-1"
    refused = box.admission(box.asker()).admit(ROUTER, "o")
    assert isinstance(refused, Refused)
    assert "set to GPU 0, 1" in refused.reason


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--jinja --ctx-size 32768", "started with a context of 32768 and its preset says 8192"),
        ("--ctx-size 8192 -c 0", "started with the model's whole context and its preset says 8192"),
        ("-ngl 10 -np 8 -kvu", "started with 8 slots that share one context and its preset says 4 slots that share"),
        ("-ngl 10 -np 2", "started with 2 slots and its preset says 4 slots that share one context"),
        ("-ngl 10 -fa off", "started with flash attention off and its preset says auto"),
        ("-ngl 10 -ctv q4_0", "started with cache type q4_0 for values and its preset says f16"),
        ("", "started with all layers on the GPU and its preset says 10"),
        ("-ngl 99 -ub 1024", "99 layers on the GPU, batches of 1024 at a time (ubatch) and its preset says 10, 512"),
        ("-ngl 10 -b 4096", "started with batches of 4096 and its preset says 2048"),
        ("-ngl 10 --swa-full", "its preset says no"),
        ("-ngl 10 -ot exps=CPU", "started with override-tensor exps=CPU and its preset says not set"),
        ("-ngl 10 -ts 3,1", "tensor-split 3,1"),
        ("-ngl 10 -md /m/draft.gguf", "started with the draft model /m/draft.gguf and its preset says none"),
        ("-ngl 10 --mmproj /m/p.gguf", "started with the projector /m/p.gguf and its preset says none"),
    ],
)
def test_a_router_that_loads_with_more_than_its_preset_names_is_told(arguments: str, told: str) -> None:
    layers = {} if "ctx" in arguments else {"n_gpu_layers": 10}
    router = Service("one", "One", DriverKind.LLAMACPP, default_model="m", context_size=8192, unit_vars=layers)
    why = str(outgrown(router, ["llama-server", *arguments.split()]))
    assert told in why
    assert why.endswith("gpumod template install one --yes, then gpumod service restart one")


@pytest.mark.parametrize(
    "arguments",
    [
        "--ctx-size 8192",
        "--ctx-size 4096",
        "--jinja --threads 4",
        "-np 1",
        "-np 2 --kv-unified",
        "-ngl 10 -ub 256 -b 512 -ncmoe 3 --no-mmproj -nkvo",
    ],
)
def test_less_than_the_preset_names_is_no_reason(arguments: str) -> None:
    router = Service("one", "One", DriverKind.LLAMACPP, default_model="m", context_size=8192)
    assert outgrown(router, ["llama-server", *arguments.split()]) is None
    assert outgrown(router, ()) is None


SINGLE = Service(
    "one",
    "One",
    DriverKind.LLAMACPP,
    9000,
    vram_bytes=20 * GIB,
    model_path=Path("/m/large.gguf"),
    context_size=32768,
    unit_vars={"jinja": True, "extra_args": ["--parallel", "1"]},
    env={"A": "1"},
)


@pytest.mark.parametrize(
    "changed",
    [
        {"model_path": Path("/m/small.gguf")},
        {"context_size": 4096},
        {"unit_vars": {"n_gpu_layers": 10, **SINGLE.unit_vars}},
        {"unit_vars": {"extra_args": ["--parallel", "1", "-ctk", "q8_0"]}},
        {"unit_vars": {"binary": "/opt/other/llama-server", **SINGLE.unit_vars}},
        {"env": {"A": "2"}},
        {"vram_bytes": 0},
    ],
)
def test_a_unit_that_was_installed_for_other_memory_is_told(changed: dict[str, Any]) -> None:
    one = replace(SINGLE, **changed)
    assert "installed for other settings than its preset has now" in str(outdated(one, memory_settings(SINGLE)))
    assert outdated(one, memory_settings(one)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "Another", "startup_timeout_s": 5.0, "stop_timeout_s": 5.0, "port": 9001, "health_endpoint": "/v"},
        {"vram_bytes": 12 * GIB},
        {"gpus": ("GPU-bb",)},
        {"depends_on": ("two",), "api_key_file": Path("/k")},
        {"unit_vars": {"jinja": False, "threads": 3, "n_gpu_layers": -1, **SINGLE.unit_vars}},
        {"unit_vars": {"extra_args": ["--parallel", "1"], "ctx_size": 32768}},
    ],
)
def test_what_shapes_no_memory_and_the_declared_need_outdate_no_unit(changed: dict[str, Any]) -> None:
    assert outdated(replace(SINGLE, **changed), memory_settings(SINGLE)) is None
    assert outdated(SINGLE, None) is None, "a unit that is not gpumod's tells nothing"


def test_a_share_and_a_length_outdate_a_vllm() -> None:
    one = Service("v", "V", DriverKind.VLLM, 8000, model_id="a/b", unit_vars={"gpu_mem_util": 0.9})
    for changed in ({"gpu_mem_util": 0.5}, {"max_model_len": 1024}, {"enforce_eager": True}):
        assert outdated(replace(one, unit_vars=changed), memory_settings(one)) is not None
    assert outdated(replace(one, model_id="a/c"), memory_settings(one)) is not None
    assert outdated(replace(one, unit_vars={}), memory_settings(one)) is None, "0.9 is what its unit says anyway"


def test_a_start_and_a_wake_are_refused_where_the_unit_was_installed_for_other_memory(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.installed_for[ROUTER] = "another"
    box.begin(ROUTER)
    assert box.ask(ROUTER) == "no"
    box.installed_for[ROUTER] = memory_settings(box.registry.service(ROUTER.removesuffix(".service")))
    assert box.ask(ROUTER) == "yes"
