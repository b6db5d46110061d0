"""What a preset has come to say of GPUs counts once its server is started for them."""

from pathlib import Path

import pytest

from gpumod_tui.core.admission import Granted, Refused
from gpumod_tui.core.models import DriverKind, GpuSample, Service
from gpumod_tui.core.pins import misplaced, outgrown
from gpumod_tui.core.quantities import GIB
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
    why = misplaced(one, GPUS, visible) or ""
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
    assert isinstance(box.door(box.asker()).admit(ROUTER, DEFAULT), Granted)
    box.visible[ROUTER] = "GPU-0,GPU-1"
    refused = box.door(box.asker()).admit(ROUTER, "o")
    assert isinstance(refused, Refused)
    assert "set to GPU 0, 1" in refused.reason


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--jinja --ctx-size 32768", "started with a context of 32768 and its preset says 8192;"),
        ("--ctx-size 8192 -c 0", "started with the model's whole context and its preset says 8192;"),
        ("--ctx-size 8192", ""),
        ("--ctx-size 4096", ""),
        ("--jinja", ""),
    ],
)
def test_a_router_with_more_context_than_its_preset_names_is_told(arguments: str, told: str) -> None:
    router = Service("one", "One", DriverKind.LLAMACPP, default_model="m", context_size=8192)
    why = outgrown(router, ["llama-server", *arguments.split()]) or ""
    assert told in why
    assert bool(why) == bool(told)
    assert not why or why.endswith("gpumod service restart one")
