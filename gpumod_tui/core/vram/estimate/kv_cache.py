"""What a model's context takes: KV cache and recurrent state."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.vram.estimate.layers import Layout, layout
from gpumod_tui.core.vram.estimate.model_file import ModelHeader
from gpumod_tui.core.vram.estimate.options import LoadSettings
from gpumod_tui.core.vram.estimate.placement import Part, Placement

_CELLS: Final = 256
"""llama.cpp rounds contexts up to a multiple of this (llama-context.cpp, llama-kv-cache-iswa.cpp)."""

KV_TYPES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "f32": (1, 4),
        "f16": (1, 2),
        "bf16": (1, 2),
        "q8_0": (32, 34),
        "q4_0": (32, 18),
        "q4_1": (32, 20),
        "iq4_nl": (32, 18),
        "q5_0": (32, 22),
        "q5_1": (32, 24),
    }
)
"""Numbers and bytes of a block, by the names that --cache-type-k and -v take."""


def kept(header: ModelHeader, settings: LoadSettings, device_of: Placement, spread: list[int]) -> list[Part]:
    """KV cache and recurrent state."""
    drafts = dict(settings.others).get("spec_type", "none") != "none"
    rules = layout(header, drafts=drafts)
    if isinstance(rules, str):
        return [Part("KV cache", None, rules)]
    cells, per_slot, streams = cells_of(header, settings)
    kinds = (KV_TYPES.get(settings.kv_type_k), KV_TYPES.get(settings.kv_type_v))
    if kinds[0] is None or kinds[1] is None:
        return [Part("KV cache", None, f"cache type {settings.kv_type_k} or {settings.kv_type_v} is not known")]
    if cells is None and any(layer.key or layer.value for layer in rules.layers):
        return [Part("KV cache", None, "neither a context nor the model's own is given")]
    cache = state = 0
    window = _window_cells(rules, settings, per_slot or 0)
    for index, layer in enumerate(rules.layers):
        device = device_of(index) if settings.kv_offload else None
        held = window if layer.window and not settings.swa_full else per_slot or 0
        value = rules.widest_value if settings.flash_attn is False and layer.value else layer.value
        row = sum(
            -(-numbers // block) * size
            for numbers, (block, size) in ((layer.key, kinds[0]), (value, kinds[1]), (layer.index_key, kinds[0]))
        )
        if device is None:
            continue
        cache += row * held * streams
        state += 4 * layer.state * settings.slots
        spread[device] += row * held * streams + 4 * layer.state * settings.slots
    parts = [Part("KV cache", cache, _kv_note(rules, settings, cells, window))]
    if any(layer.state for layer in rules.layers):
        note = f"{settings.slots} slot(s), {sum(1 for layer in rules.layers if layer.state)} layers"
        parts.append(
            Part("recurrent state", None, "--spec-type: how many are kept for going back is not known")
            if drafts
            else Part("recurrent state", state, note)
        )
    return parts


def cells_of(header: ModelHeader, settings: LoadSettings) -> tuple[int | None, int | None, int]:
    """Of the whole context, of one stream, and how many streams. None: the context is not known."""
    wanted = settings.context or header.number("context_length")
    streams = 1 if settings.is_unified else max(1, settings.slots)
    if not wanted:
        return None, None, streams
    whole = _padded(wanted)
    each = _padded(max(1, whole // streams))
    return each * streams, each, streams


def _window_cells(rules: Layout, settings: LoadSettings, per_slot: int) -> int:
    sharing = settings.slots if settings.is_unified else 1
    return _padded(min(per_slot, rules.window_cells * sharing + min(settings.ubatch, settings.batch, per_slot or 1)))


def _padded(cells: int) -> int:
    return -(-cells // _CELLS) * _CELLS


def _kv_note(rules: Layout, settings: LoadSettings, cells: int | None, window: int) -> str:
    keeping = [layer for layer in rules.layers if layer.key]
    if not keeping:
        return "keeps none"
    types = settings.kv_type_k if settings.kv_type_k == settings.kv_type_v else None
    windowed = sum(1 for layer in keeping if layer.window and not settings.swa_full)
    return (
        f"{cells} cells, {len(keeping)} layers, {types or f'{settings.kv_type_k} and {settings.kv_type_v}'}"
        + (f"; {windowed} of them {window} cells" if windowed else "")
        + ("" if settings.kv_offload else "; in host memory")
    )
