"""VRAM need of a GGUF model from its header: an upper bound where llama.cpp's own figure cannot be derived. Pure."""

import re
from dataclasses import dataclass, replace
from typing import Final

from gpumod_tui.core.text import MIB, format_mib
from gpumod_tui.core.vram.estimate.kv_cache import cells_of, kept
from gpumod_tui.core.vram.estimate.model_file import ModelHeader
from gpumod_tui.core.vram.estimate.options import MOST_LAYERS, LoadSettings
from gpumod_tui.core.vram.estimate.placement import Part, Placement, is_split_otherwise, placement

CONTEXT_BYTES: Final = 600 * MIB
"""CUDA context with the kernels' code, on each GPU: 300 to 600 MiB were reported, by the card's number of SMs."""
LEAST_COMPUTE_BYTES: Final = 300 * MIB
"""Least compute buffer with the pools of kernels beside it: 300 to 900 MiB were reported."""
PROJECTOR_COMPUTE_BYTES: Final = 512 * MIB
"""An allowance for the encoder of images or sound: its buffer grows with the picture, which no header tells."""
_ABSURD_BYTES: Final = 1 << 60
_LAYER: Final = re.compile(r"blk\.(\d{1,6})\.")
_EXPERTS: Final = re.compile(r"\.ffn_(up|down|gate|gate_up)_(ch|)exps")
_DENSE: Final = re.compile(r"\.ffn_(up|down|gate)\.")
_INPUT: Final = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")
"""Tensors that llama.cpp keeps in host memory whatever --n-gpu-layers says."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a model takes of its GPUs."""

    parts: tuple[Part, ...]
    by_gpu: tuple[int, ...]
    """Bytes of what is known, in the order of the service's GPUs."""

    @property
    def known_bytes(self) -> int:
        """Over all GPUs, unknown parts left out."""
        return sum(part.total_bytes or 0 for part in self.parts)

    @property
    def total_bytes(self) -> int | None:
        """Over all GPUs; None: a part cannot be derived."""
        return None if any(part.total_bytes is None for part in self.parts) else self.known_bytes

    @property
    def unknown(self) -> str:
        """Names and reasons of the parts that cannot be derived."""
        return "; ".join(f"{part.name}: {part.note}" for part in self.parts if part.total_bytes is None)


def estimate(header: ModelHeader, settings: LoadSettings, gpus: int = 1) -> Estimate:
    """The parts of the need, and what lies on each of `gpus` GPUs. Raises: ModelFileInvalid.

    - weights: the tensors' bytes as the header has them, less what stays in host memory (input embeddings, layers
      beyond `gpu_layers`, experts kept by --n-cpu-moe). Layers that predict further tokens count, used or not.
    - KV cache: for each layer, cells × (keys + values) in the cache's types (llama-kv-cache.cpp); cells are the context
      rounded up to 256, of a layer with a window min(context, window × slots that share it + ubatch) rounded likewise.
    - recurrent state: for each slot, in 32 bits (llama-memory-recurrent.cpp).
    - compute buffer: logits, activations and attention masks of one ubatch, added up as if nothing were reused; without
      flash attention the attention scores too; at least `LEAST_COMPUTE_BYTES`.
    - CUDA context: `CONTEXT_BYTES` on each GPU.
    - projector and draft model: the same for theirs.
    """
    device_of = placement(header, settings, gpus)
    spread = [0] * gpus
    parts = [
        _weights(header, settings, device_of, spread),
        *kept(header, settings, device_of, spread),
        _compute(header, settings, spread),
        _everywhere(Part("CUDA context", CONTEXT_BYTES * gpus), CONTEXT_BYTES, spread),
    ]
    for companion in header.companions:
        if companion.architecture == "clip":
            parts += _projector(companion, spread) if settings.projector else []
        else:
            parts += _draft(companion, settings, gpus, spread)
    if "lora" in dict(settings.others):
        parts.append(Part("adapters", None, "--lora: their sizes are not looked at"))
    if is_split_otherwise(settings):
        spread = [sum(spread)] * gpus
    if sum(spread) > _ABSURD_BYTES:
        return Estimate((Part("all", None, "the header's numbers are those of no model"),), (0,) * gpus)
    return Estimate(tuple(parts), tuple(spread))


def _weights(header: ModelHeader, settings: LoadSettings, device_of: Placement, spread: list[int]) -> Part:
    tied = not any(tensor.name == "output.weight" for tensor in header.tensors)
    on_gpu = in_host = 0
    for tensor in header.tensors:
        found = _LAYER.match(tensor.name)
        layer = int(found[1]) if found else device_of.layers
        is_input = tensor.name.startswith(_INPUT) and not (tied and tensor.name == "token_embd.weight")
        experts = found and layer < settings.cpu_moe_layers and _EXPERTS.search(tensor.name)
        dense = found and layer < settings.cpu_ffn_layers and _DENSE.search(tensor.name)
        device = None if is_input or experts or dense else device_of(min(layer, device_of.layers))
        if device is None:
            in_host += tensor.size_bytes
        else:
            on_gpu += tensor.size_bytes
            spread[device] += tensor.size_bytes
    note = f"{len(header.tensors)} tensors" + (f"; {format_mib(in_host)} stay in host memory" if in_host else "")
    return Part("weights", on_gpu, note) if header.tensors else Part("weights", None, "the file holds no tensors")


def _compute(header: ModelHeader, settings: LoadSettings, spread: list[int]) -> Part:
    count = header.number("block_count") or 0
    embedding = header.number("embedding_length")
    if not embedding or not 0 < count <= MOST_LAYERS:
        return Part("compute buffer", None, "the header names no embedding length or number of layers")
    cells, *_ = cells_of(header, settings)
    rows = min(settings.ubatch, settings.batch, cells or settings.ubatch)
    heads = max(header.by_layer("attention.head_count", count) or (0,))
    wide = max(header.by_layer("feed_forward_length", count) or (0,))
    expert = max(header.by_layer("expert_feed_forward_length", count) or (0,))
    wide += expert * max(header.by_layer("expert_used_count", count) or (0,))
    vocabulary = header.number("vocab_size") or header.vocabulary or 0
    # Masks are kept in 32 and in 16 bits; with several GPUs four copies of them are in flight.
    masks = 6 * (cells or 0) * rows * (4 if len(spread) > 1 else 1)
    scores = 8 * heads * (cells or 0) * rows if settings.flash_attn is False else 0
    logits = 4 * rows * vocabulary
    each = max(LEAST_COMPUTE_BYTES, 4 * rows * (8 * embedding + 3 * wide) + masks + scores + logits)
    note = f"{rows} tokens at a time, flash attention {'off' if settings.flash_attn is False else 'on'}"
    return _everywhere(Part("compute buffer", each * len(spread), note), each, spread)


def _everywhere(part: Part, each: int, spread: list[int]) -> Part:
    for gpu in range(len(spread)):
        spread[gpu] += each
    return part


def _projector(header: ModelHeader, spread: list[int]) -> list[Part]:
    size = sum(tensor.size_bytes for tensor in header.tensors)
    spread[0] += size + PROJECTOR_COMPUTE_BYTES
    return [
        Part("projector", size, header.path.name),
        Part("projector's compute buffer", PROJECTOR_COMPUTE_BYTES, "an allowance"),
    ]


def _draft(header: ModelHeader, settings: LoadSettings, gpus: int, spread: list[int]) -> list[Part]:
    """It has the target's context and slots, its own cache types, and shares the CUDA context."""
    others = dict(settings.others)
    own = replace(
        settings,
        kv_type_k=others.get("draft_type_k", "f16"),
        kv_type_v=others.get("draft_type_v", "f16"),
        gpu_layers=None,
        cpu_moe_layers=0,
        cpu_ffn_layers=0,
        others=(),
    )
    found = estimate(replace(header, companions=()), own, gpus)
    for gpu, size in enumerate(found.by_gpu):
        spread[gpu] += size - CONTEXT_BYTES
    return [replace(part, name=f"draft's {part.name}") for part in found.parts if part.name != "CUDA context"]
