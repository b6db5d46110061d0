"""What a learned peak of VRAM belongs to. A peak of other arguments, servers, drivers or cards says nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from gpumod_tui.core.models import GpuReading, Service
from gpumod_tui.core.vram.estimate.model_file import ModelFile


@dataclass(frozen=True, slots=True)
class PeakKey:
    """Everything that shapes what a server takes; each field may be empty where it is not known."""

    subject: str
    """`unit ID`, or `model PATH SIZE MTIME` of a model's file."""
    arguments: str
    """Digest of what the server is started with, as far as it shapes memory."""
    program: str
    """The server's version; its binary's size and time stand for it (a wrapper's, where it is one)."""
    nvidia_driver: str
    gpus: str
    """Indices and names of its GPUs."""

    def __str__(self) -> str:
        return "|".join((self.subject, self.arguments, self.program, self.nvidia_driver, self.gpus))


def subject_of_unit(service: Service) -> str:
    """The unit's own processes, whichever preset file they come from."""
    return f"unit {service.id}"


def subject_of_model(file: ModelFile) -> str:
    """A file that was written anew is another model."""
    return f"model {file.paths[0]} {file.size_bytes}+{file.extra_bytes} {file.mtime_ns}"


def digest(*parts: object) -> str:
    """Short and stable over processes and releases; `parts` have a stable repr."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def gpu_names(reading: GpuReading | None, indices: Sequence[int]) -> str:
    """`0 NVIDIA X, 1 NVIDIA X`."""
    names = {sample.index: sample.name or "?" for sample in reading.gpus} if reading else {}
    return ", ".join(f"{index} {names.get(index, '?')}" for index in indices)
