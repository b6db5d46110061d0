"""The GPUs and their driver."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final

from gpumod_tui.core.doctor.facts import Finding, LoadedUnit, error, fine, warning
from gpumod_tui.core.models import GpuReading, Holder
from gpumod_tui.core.vram.need import Need, UnknownNeed

UNIFIED_MEMORY: Final = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"
_NVIDIA: Final = "nvidia"
_MEMORY: Final = "memory"


def check_driver(reading: GpuReading, module_version: str | None) -> Iterator[Finding]:
    """The NVIDIA driver, its library, and each GPU. `module_version` None: the kernel does not tell."""
    version = reading.driver_version
    if module_version is not None and version is not None and module_version != version:
        yield error(
            _NVIDIA,
            f"the NVIDIA driver's module is {module_version}, and its library says {version}",
            "the driver was updated while it ran: servers fail when they start",
            "sudo reboot, or stop all that uses the GPU and reload the module nvidia",
        )
    for gpu in reading.gpus:
        if gpu.error:
            yield error(_NVIDIA, f"GPU {gpu.index}: {gpu.error}", "nothing is admitted to it", "sudo reboot")
        elif gpu.free_bytes is None:
            why = "what cannot be measured is not admitted"
            yield error(_NVIDIA, f"GPU {gpu.index} does not tell its free memory", why, "nvidia-smi")
    if not reading.gpus:
        yield error(_NVIDIA, "NVML shows no GPU", "nothing that needs VRAM is admitted", "nvidia-smi -L")
    elif module_version in (None, version) and all(gpu.error is None for gpu in reading.gpus):
        yield fine(_NVIDIA, f"NVIDIA driver {version or 'N/A'} and NVML agree; GPUs: {len(reading.gpus)}")


def check_unified_memory(
    manager: Mapping[str, str],
    loaded: Iterable[LoadedUnit],
    pids_by_unit: Mapping[str, Iterable[int]],
    variable: Callable[[int, str], str | None],
) -> Iterator[Finding]:
    """llama.cpp asks only whether the variable is there: 0 switches it on as well."""
    why = "VRAM then overflows into host memory without an error, and no figure of the GPU shows it"
    found = False
    if UNIFIED_MEMORY in manager:
        found = True
        yield error(
            _MEMORY,
            f"{UNIFIED_MEMORY}={manager[UNIFIED_MEMORY]} is set in the user manager's environment",
            f"{why}; any value counts, also 0",
            f"remove it from environment.d, then systemctl --user unset-environment {UNIFIED_MEMORY}"
            " and restart the services",
        )
    said = set()
    for unit in loaded:
        if UNIFIED_MEMORY in (unit.environment or {}):
            said.add(unit.unit)
            yield error(
                _MEMORY,
                f"{unit.unit} sets {UNIFIED_MEMORY}",
                f"{why}; any value counts, also 0",
                f"take it out of env in its preset or out of its drop-in (systemctl --user cat {unit.unit})",
            )
    for name, pids in pids_by_unit.items():
        bad = [pid for pid in pids if variable(pid, UNIFIED_MEMORY) is not None]
        if bad and name not in said:
            said.add(name)
            yield error(
                _MEMORY,
                f"{name}: pid {bad[0]} was started with {UNIFIED_MEMORY}",
                f"{why}; any value counts, also 0",
                f"remove it where it is set, then systemctl --user restart {name}",
            )
    if not found and not said:
        yield fine(_MEMORY, f"{UNIFIED_MEMORY} is not set")


def check_holders(holders: Iterable[Holder], managed: Collection[str]) -> Iterator[Finding]:
    """Processes of no managed unit that hold VRAM."""
    for one in holders:
        if one.unit not in managed and not one.is_gone:
            yield warning(
                _MEMORY,
                f"GPU {one.gpu}: {one} is not managed by gpumod",
                "what it holds is missing to the modes, and it may grow at any moment",
                f"end it if it is not meant: ps -fp {one.pid}",
            )


def check_needs(needs: Iterable[tuple[str, Need | UnknownNeed]]) -> Iterator[Finding]:
    """By service: a need that is unknown, or declared below what was measured."""
    for name, need in needs:
        if isinstance(need, UnknownNeed):
            yield warning(_MEMORY, need.reason, f"the door refuses {name}", need.hint)
        elif need.warning:
            fact, _, advice = need.warning.rpartition(": ")
            yield warning(_MEMORY, fact or name, "the larger figure counts", advice)
