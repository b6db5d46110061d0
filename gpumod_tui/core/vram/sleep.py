"""What a server that sleeps may hold, and the proof that it gave the rest back."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.host import Host
from gpumod_tui.core.models import Service
from gpumod_tui.core.status.attribution import find_holders, held_by
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.core.units.managed import read_gpus

STILL_BYTES: Final = 64 * MIB
"""Free memory that moves less than this is still."""
STILL_S: Final = 1.0
GRACE_S: Final = 5.0
"""So long after the stop an unlisted process may still be in the NVIDIA driver's hands."""


VLLM_LEAVES_BYTES: Final = 2 * GIB
"""The most that a vLLM may hold on one GPU while it sleeps: sleep moves or drops weights and cache, and leaves its CUDA
context and graphs, of which there are reports up to 1.4 GiB."""
ROUTER_LEAVES_BYTES: Final = 512 * MIB
"""The same of a router without models: at most a CUDA context (300–600 MiB with a model), most builds none at all."""


def most_asleep(service: Service | None, held: Mapping[int, int | None], *, asleep: bool) -> Mapping[int, int]:
    """What it may go on holding, in bytes by GPU: what is known to stay, at most half of what it holds awake."""
    if asleep:
        return MappingProxyType({gpu: amount or 0 for gpu, amount in held.items()})
    most = ROUTER_LEAVES_BYTES if service is not None and service.is_router else VLLM_LEAVES_BYTES
    return MappingProxyType({gpu: min(most, (amount or 0) // 2) for gpu, amount in held.items()})


def has_given_back(held: Mapping[int, int | None], leaves: Mapping[int, int]) -> bool:
    """Whether nothing more than `leaves` is held; an unknown amount is more."""
    return all(amount is not None and amount <= leaves.get(gpu, 0) + STILL_BYTES for gpu, amount in held.items())


def held_now(host: Host, unit: str) -> Mapping[int, int | None] | None:
    """What a unit holds, in bytes by GPU (None: some, NVML does not tell how much); None: NVML lists no processes."""
    reading, _ = read_gpus(host, processes=True)
    if reading is None or any(sample.processes is None for sample in reading.gpus):
        return None
    return held_by(unit, find_holders(host.processes, reading))
