"""What NVML's faults mean to people, and what to do about them."""

from typing import Final

from gpumod_tui.core.errors import GpuUnavailable

# Codes of nvml.h, which never change. Named here so that the table can be read without loading pynvml.
UNINITIALIZED: Final = 1
NOT_SUPPORTED: Final = 3
NO_PERMISSION: Final = 4
INSUFFICIENT_SIZE: Final = 7
DRIVER_NOT_LOADED: Final = 9
LIBRARY_NOT_FOUND: Final = 12
FUNCTION_NOT_FOUND: Final = 13
GPU_IS_LOST: Final = 15
RESET_REQUIRED: Final = 16
LIB_RM_VERSION_MISMATCH: Final = 18

WHOLE_FAULTS: Final = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND, LIB_RM_VERSION_MISMATCH})
"""Nothing of NVML can be read any more; it has to be initialised again."""

GPU_FAULTS: Final = {
    GPU_IS_LOST: "GPU is lost: it fell off the bus; reboot, and look for Xid 79 in the kernel log",
    RESET_REQUIRED: "GPU needs a reset: stop all that uses it, then `nvidia-smi --gpu-reset`, or reboot",
}
"""One GPU cannot be used; the others can."""

_WHOLE: Final = {
    LIBRARY_NOT_FOUND: (
        "no NVIDIA driver: libnvidia-ml.so.1 was not found",
        "install the NVIDIA driver; without a GPU, try `gpumod demo`",
    ),
    FUNCTION_NOT_FOUND: (
        "libnvidia-ml.so.1 lacks a function of NVML: it is too old, or no NVIDIA driver's",
        "update the NVIDIA driver, and see which one is loaded: ldconfig -p | grep nvidia-ml",
    ),
    DRIVER_NOT_LOADED: (
        "the NVIDIA driver is not loaded",
        "`modprobe nvidia`; if that fails, `dmesg` says why (secure boot, a new kernel without its module)",
    ),
    LIB_RM_VERSION_MISMATCH: (
        "the NVIDIA driver was updated, and the module that runs is still the old one",
        "the driver was updated: reboot or reload the module",
    ),
    NO_PERMISSION: (
        "no permission to ask the NVIDIA driver",
        "check who may open /dev/nvidiactl and /dev/nvidia0 (groups video and render)",
    ),
}


def whole_fault(code: int, text: str) -> GpuUnavailable:
    """The error for a fault that keeps NVML as a whole from being read; `text` is NVML's own."""
    message, hint = _WHOLE.get(code, (f"NVML cannot be read: {text} ({code})", "`nvidia-smi` should say more"))
    return GpuUnavailable(message, hint=hint)


_REASONS: Final = (
    (0x002, "application clocks"),
    (0x004, "power cap"),
    (0x008, "hardware slowdown"),
    (0x010, "sync boost"),
    (0x020, "thermal"),
    (0x040, "hardware thermal"),
    (0x080, "power brake"),
    (0x100, "display clocks"),
    (0x200, "board limit"),
    (0x400, "reliability"),
)
_IDLE: Final = 0x001
_SLOWDOWN: Final = 0x008
_SLOWDOWN_CAUSES: Final = 0x040 | 0x080


def throttle_words(mask: int) -> tuple[str, ...]:
    """Why the clocks are held down; an idle GPU is not held down."""
    mask &= ~_IDLE
    if mask & _SLOWDOWN_CAUSES:
        mask &= ~_SLOWDOWN
    words = [word for bit, word in _REASONS if mask & bit]
    unknown = mask & ~sum(bit for bit, _ in _REASONS)
    return tuple(words + ([f"unknown 0x{unknown:x}"] if unknown else []))
