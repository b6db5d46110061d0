"""VRAM need of a service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from gpumod_tui.core.models import GpuSample, Service
from gpumod_tui.core.text import GIB, format_mib

VLLM_DEFAULT_SHARE: Final = 0.9
"""vLLM's own default of --gpu-memory-utilization."""
VLLM_EXTRA_BYTES: Final = GIB
"""CUDA context and graphs, which vLLM takes beyond its share."""
VLLM_EXTRA_EAGER_BYTES: Final = GIB // 2
"""The same without CUDA graphs."""
FILE_FACTOR: Final = 1.2
"""Need of a model over the size of its file, where nothing better is known."""


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes by GPU index, and where the figure is from."""

    by_gpu: Mapping[int, int]
    basis: str
    """Which figure won, and why."""
    measured_peak_bytes: int | None = None
    """The highest ever measured, over all GPUs; None: never. Below `total_bytes` it is told, not applied."""
    is_estimate: bool = False
    """Nobody declared or measured it."""
    warning: str = ""
    """What its preset should say instead; empty: nothing."""
    offer: str = ""
    """What its preset could say instead, by what was measured so far; empty: nothing less. Never applied by itself."""

    @property
    def total_bytes(self) -> int:
        """Over all GPUs."""
        return sum(self.by_gpu.values())


class UnknownNeed(msgspec.Struct, frozen=True):
    """No figure; a service like that is not started."""

    reason: str
    hint: str


def gpu_indices(service: Service, gpus: Sequence[GpuSample]) -> tuple[int, ...] | UnknownNeed:
    """Indices of the service's GPUs among those that are there, in NVML's order."""
    by_name: dict[int | str, int] = {}
    for sample in gpus:
        by_name[sample.index] = sample.index
        if sample.uuid is not None:
            by_name[sample.uuid] = sample.index
    missing = [str(name) for name in service.gpus if name not in by_name]
    if missing:
        there = ", ".join(f"{sample.index} ({sample.uuid or 'no UUID'})" for sample in gpus) or "none"
        return UnknownNeed(
            f"{service.id} wants GPU {', '.join(missing)}; there: {there}", "correct `gpus` in its preset"
        )
    indices = tuple(by_name[name] for name in service.gpus)
    if len(set(indices)) < len(indices):
        names = ", ".join(map(str, service.gpus))
        return UnknownNeed(f"{service.id} names one GPU twice: {names}", "correct `gpus` in its preset")
    return indices


def undeclared(service: Service, what: str, why: str = "") -> UnknownNeed:
    """Neither declared nor measured, and there is nothing to estimate it from."""
    return UnknownNeed(
        f"{what}: its VRAM need is unknown{f' ({why})' if why else ''}",
        f"declare vram_mb in {service.source or 'its preset'} (0: no GPU)",
    )


def vllm_shares(service: Service, gpus: Sequence[GpuSample], indices: Sequence[int]) -> dict[int, int] | UnknownNeed:
    """Bytes that vLLM takes of each of its GPUs: its share of the whole card, and what it takes beyond."""
    share = service.unit_vars.get("gpu_mem_util", VLLM_DEFAULT_SHARE)
    totals = {sample.index: sample.total_bytes for sample in gpus}
    shares = {}
    for gpu in indices:
        total = totals.get(gpu)
        if total is None:
            return UnknownNeed(f"{service.id}: total memory of GPU {gpu} is N/A", "see gpumod status")
        shares[gpu] = int(share * total) + _vllm_extra(service)
    return shares


def vllm_basis(service: Service) -> str:
    """`90% of the GPU + 1024 MiB`."""
    share = service.unit_vars.get("gpu_mem_util", VLLM_DEFAULT_SHARE)
    return f"{share:.0%} of the GPU + {format_mib(_vllm_extra(service))}"


def _vllm_extra(service: Service) -> int:
    return VLLM_EXTRA_EAGER_BYTES if service.unit_vars.get("enforce_eager") else VLLM_EXTRA_BYTES
