"""Which GPUs a service means, and what vLLM takes of them."""

import pytest

from gpumod_tui.core.models import DriverKind, GpuSample, Service
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.core.vram.need import Need, UnknownNeed, gpu_indices, undeclared, vllm_basis, vllm_shares

GPUS = (
    GpuSample(0, "GPU-aa", total_bytes=24564 * MIB),
    GpuSample(1, "GPU-bb", total_bytes=49140 * MIB),
    GpuSample(3, None, total_bytes=None),
)


def service(*gpus: int | str, **unit_vars: object) -> Service:
    return Service("one", "One", DriverKind.VLLM, gpus=gpus or (0,), unit_vars=unit_vars)


def test_indices_and_uuids_mean_the_same_gpus_in_the_order_of_the_preset() -> None:
    assert gpu_indices(service("GPU-bb", 0), GPUS) == (1, 0)
    assert gpu_indices(service(3), GPUS) == (3,)


@pytest.mark.parametrize("gpu", [2, "GPU-cc"])
def test_a_gpu_that_is_not_there_is_named_with_those_that_are(gpu: int | str) -> None:
    unknown = gpu_indices(service(0, gpu), GPUS)
    assert isinstance(unknown, UnknownNeed)
    assert unknown.reason == f"one wants GPU {gpu}; there: 0 (GPU-aa), 1 (GPU-bb), 3 (no UUID)"
    assert isinstance(gpu_indices(service(0), ()), UnknownNeed)


def test_vllm_takes_its_share_of_each_whole_card_and_more() -> None:
    assert vllm_shares(service(0, 1, gpu_mem_util=0.5), GPUS, (0, 1)) == {
        0: 12282 * MIB + GIB,
        1: 24570 * MIB + GIB,
    }


def test_eager_takes_half_as_much_beside_its_share_and_the_default_share_is_large() -> None:
    assert vllm_shares(service(gpu_mem_util=0.2, enforce_eager=True), GPUS, (0,)) == {
        0: int(0.2 * 24564 * MIB) + 512 * MIB
    }
    assert vllm_shares(service(), GPUS, (0,)) == {0: int(0.9 * 24564 * MIB) + GIB}
    assert vllm_basis(service()) == "90% of the GPU + 1024 MiB"


def test_a_share_of_nine_tenths_fits_an_idle_card() -> None:
    shares = vllm_shares(service(gpu_mem_util=0.9, enforce_eager=True), GPUS, (0,))
    assert isinstance(shares, dict)
    assert shares[0] + 512 * MIB < (24564 - 442 - 15) * MIB


def test_a_share_of_an_unknown_card_is_unknown() -> None:
    unknown = vllm_shares(service(0, 3), GPUS, (0, 3))
    assert isinstance(unknown, UnknownNeed)
    assert "GPU 3 is N/A" in unknown.reason


def test_an_undeclared_need_says_where_to_declare_it() -> None:
    unknown = undeclared(service(), "one", "no file")
    assert unknown.reason == "one: its VRAM need is unknown (no file)"
    assert unknown.hint == "declare vram_mb in its preset (0: no GPU)"


def test_a_total_is_over_all_gpus() -> None:
    assert Need({0: 2, 1: 3}, "declared").total_bytes == 5


def test_one_gpu_named_twice_halves_no_need() -> None:
    found = gpu_indices(service(0, "GPU-aa"), GPUS)
    assert isinstance(found, UnknownNeed)
    assert "names one GPU twice" in found.reason
