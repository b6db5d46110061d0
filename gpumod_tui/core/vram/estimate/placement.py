"""Which GPU holds which part of a model."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from gpumod_tui.core.vram.estimate.model_file import ModelHeader
from gpumod_tui.core.vram.estimate.options import LoadSettings


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a need."""

    name: str
    total_bytes: int | None
    """Over all GPUs; None: it cannot be derived."""
    note: str = ""


class Placement:
    """Which GPU a layer is on, as llama.cpp deals them out: contiguous, the output as one more layer at the end."""

    def __init__(self, layers: int, gpu_layers: int | None, shares: Sequence[float]) -> None:
        self.layers = layers
        self._count = min(layers + 1 if gpu_layers is None else gpu_layers, layers + 1)
        self._start = layers + 1 - self._count
        total = sum(shares)
        self._ends = [share / total for share in accumulate(shares)]

    def __call__(self, layer: int) -> int | None:
        """None: host memory. The layer after the last is the output."""
        if layer < self._start or self._count == 0:
            return None
        return min(bisect_right(self._ends, (layer - self._start) / self._count), len(self._ends) - 1)


def placement(header: ModelHeader, settings: LoadSettings, gpus: int) -> Placement:
    """Equal shares, as our units ask for, unless --tensor-split says otherwise. Raises: ModelFileInvalid."""
    shares = [1.0] * gpus
    if given := dict(settings.others).get("tensor_split"):
        try:
            numbers = [float(one) for one in re.split("[,/]+", given)]
        except ValueError:
            numbers = []
        if len(numbers) >= gpus and min(numbers) >= 0 and sum(numbers[:gpus]) > 0:
            shares = numbers[:gpus]
    return Placement(header.number("block_count") or 0, settings.gpu_layers, shares)


def is_split_otherwise(settings: LoadSettings) -> bool:
    """Where something else than whole layers is dealt out, each GPU is taken to hold all of it."""
    others = dict(settings.others)
    return others.get("split_mode", "layer") != "layer" or "device" in others
