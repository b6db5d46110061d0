"""What each layer of a model keeps for its context: llama.cpp's rules by architecture, as of b11434.

An architecture that is not named here is taken for a plain transformer that keeps every cell of every layer, which is
the most that attention can keep; where its header shows another kind of state, nothing is derived.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.vram.estimate.model_file import ModelHeader
from gpumod_tui.core.vram.estimate.options import MOST_LAYERS


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NO_CACHE: Final = _names(
    "bert jina-bert-v2 jina-bert-v3 nomic-bert nomic-bert-moe neo-bert eurobert wavtokenizer-dec modern-bert"
    " gemma-embedding dream llada llada-moe rnd1 clef"
)
RECURRENT: Final = _names("mamba mamba2 rwkv6 rwkv6qwen2 rwkv7 arwkv7")
HYBRID: Final = _names(
    "jamba falcon-h1 plamo2 granitehybrid lfm2 lfm2moe nemotron_h nemotron_h_moe qwen3next kimi-linear bailingmoe3"
    " qwen35 qwen35moe minimax-01"
)
INTERVALS: Final[Mapping[str, int]] = MappingProxyType({"qwen3next": 4, "qwen35": 4, "qwen35moe": 4, "minimax-01": 8})
"""Hybrids whose every nth layer attends, unless their header says which."""
INDEXED: Final = _names("deepseek32 glm-dsa")
"""An indexer's keys lie beside the cache."""
UNDERIVED: Final = _names(
    "deepseek4 minimax-m3 glm5-next qwen4exp dots3note hy_v4 kimi-k3 nanbeige hrm_text dflash eagle3 gemma4-assistant"
    " graniteswitch t5 t5encoder"
)
"""They keep something that is not followed here."""
OTHER_STATE: Final = (
    "ssm.",
    "wkv.",
    "shortconv.",
    "kda.",
    "attention.indexer.",
    "attention.recurrent_layers",
    "full_attention_interval",
    "token_shift_count",
    "decoder_block_count",
)
"""Keys of models that keep something else than attention does."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Which layers look back over a window only: all but every `period`th, the dense ones first or last."""

    period: int | None
    """None: the header has an entry for each layer, or every layer looks back so far."""
    dense_first: bool = False
    default_cells: int = 0
    """Where the header names no window; 0: there is none then."""
    fixed_cells: int = 0
    """What llama.cpp takes whatever the header says; 0: what that says."""


WINDOWS: Final[Mapping[str, Windows]] = MappingProxyType(
    {
        "afmoe": Windows(4),
        "cohere2": Windows(4),
        "cohere2moe": Windows(4, dense_first=True),
        "exaone-moe": Windows(4, default_cells=128),
        "exaone4": Windows(4, default_cells=4096),
        "gemma2": Windows(2, default_cells=4096),
        "gemma3": Windows(6),
        "gemma3n": Windows(5),
        "gemma4": Windows(None),
        "gpt-oss": Windows(2),
        "granite_swa": Windows(None),
        "laguna": Windows(4, dense_first=True),
        "lfm2": Windows(None),
        "llama4": Windows(4, default_cells=8192, fixed_cells=8192),
        "maple": Windows(None),
        "mellum": Windows(4),
        "mimo2": Windows(None),
        "muse-glimmer": Windows(4),
        "olmo2": Windows(4),
        "plamo3": Windows(8),
        "smallthinker": Windows(4, dense_first=True, fixed_cells=4096),
        "spark2_5": Windows(None),
        "step35": Windows(None),
    }
)


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps."""

    key: int = 0
    """Numbers a cell."""
    value: int = 0
    index_key: int = 0
    """Numbers a cell of an indexer's keys."""
    window: bool = False
    """It keeps the window's cells only."""
    state: int = 0
    """Numbers a sequence, whatever the context's length, in 32 bits each."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model keeps."""

    layers: tuple[Layer, ...]
    window_cells: int
    """0: no layer has a window."""
    widest_value: int
    """Of all layers: without flash attention each one's values are padded to it."""


def layout(header: ModelHeader, *, drafts: bool = False) -> Layout | str:
    """A sentence says why it cannot be derived. `drafts`: the layers that predict further tokens are used too.

    Raises: ModelFileInvalid for numbers that no model has.
    """
    arch = header.architecture
    count = header.number("block_count")
    if not arch or count is None:
        return "the header names no architecture or no number of layers"
    if count > MOST_LAYERS:
        return f"{count} layers; llama.cpp takes at most {MOST_LAYERS}"
    if arch in NO_CACHE:
        return Layout((Layer(),) * count, 0, 0)
    if arch in UNDERIVED or (arch not in RECURRENT | HYBRID | INDEXED and _keeps_otherwise(header)):
        return f"what architecture {arch} keeps for its context is not known"
    trunk = count - min(count, 0 if drafts else header.number("nextn_predict_layers") or 0)
    embedding = header.number("embedding_length") or 0
    heads = header.by_layer("attention.head_count", count) or (0,) * count
    kv_heads = header.by_layer("attention.head_count_kv", count) or heads
    if arch in RECURRENT:
        return Layout((Layer(state=_state(header, embedding, heads)),) * count, 0, 0)
    if not any(heads):
        return "the header names no attention heads"
    plain = embedding // heads[0] if heads[0] else 0
    key = header.number("attention.key_length") or plain
    value = header.number("attention.value_length") or plain
    swa_key = header.number("attention.key_length_swa") or key
    swa_value = header.number("attention.value_length_swa") or value
    latent = bool(header.number("attention.key_length_mla") and header.number("attention.value_length_mla"))
    index_key = header.number("attention.indexer.key_length") or 0 if arch in INDEXED else 0
    window, windowed = _windows(header, count)
    recurrent = _recurrent_layers(header, count, kv_heads)
    state = _state(header, embedding, heads) if arch in HYBRID else 0
    holders = _holders(header, count)
    layers = []
    for index in range(trunk):
        attends = index < holders and not (recurrent[index] and arch != "falcon-h1")
        size = (swa_key, swa_value) if windowed[index] else (key, value)
        layers.append(
            Layer(
                key=size[0] * kv_heads[index] if attends else 0,
                value=size[1] * kv_heads[index] if attends and not latent else 0,
                index_key=index_key if attends else 0,
                window=windowed[index],
                state=state if recurrent[index] else 0,
            )
        )
    widest = 0 if latent else max(max(value, swa_value) * one for one in kv_heads)
    return Layout((*layers, *(Layer(),) * (count - trunk)), window, widest)


def _keeps_otherwise(header: ModelHeader) -> bool:
    below = f"{header.architecture}."
    return any(key.startswith(below) and key[len(below) :].startswith(OTHER_STATE) for key in header.values)


def _holders(header: ModelHeader, count: int) -> int:
    """Layers from the first on that have keys and values of their own; later ones use theirs."""
    if header.architecture == "gemma3n":
        return 20
    shared = header.number("attention.shared_kv_layers") if header.architecture == "gemma4" else None
    return max(0, count - (shared or 0))


def _windows(header: ModelHeader, count: int) -> tuple[int, tuple[bool, ...]]:
    """Cells of the window, and the layers that have it; the whole context for a pattern that cannot be read."""
    nowhere = (0, (False,) * count)
    rule = WINDOWS.get(header.architecture)
    if rule is None or (header.architecture == "exaone4" and count != 64):
        return nowhere
    found = header.number("attention.sliding_window")
    cells = rule.default_cells if found is None else found and (rule.fixed_cells or found)
    if not cells:
        return nowhere
    if header.architecture == "lfm2":
        return cells, (True,) * count
    pattern = header.values.get(f"{header.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, tuple):
        flags = tuple(bool(one) for one in pattern)
        return (cells, flags[:count]) if len(flags) >= count else nowhere
    period = pattern if isinstance(pattern, int) and not isinstance(pattern, bool) else rule.period
    if period is None or period < 0:
        return nowhere
    trunk = count - min(count, header.number("nextn_predict_layers") or 0)
    flags = tuple(index < trunk and _in_period(index, period, rule.dense_first) for index in range(count))
    return (cells, flags) if any(flags) else nowhere


def _in_period(index: int, period: int, dense_first: bool) -> bool:
    if period == 0:
        return True
    return index % period != 0 if dense_first else index % period < period - 1


def _recurrent_layers(header: ModelHeader, count: int, kv_heads: tuple[int, ...]) -> tuple[bool, ...]:
    arch = header.architecture
    if arch not in HYBRID:
        return (False,) * count
    if arch == "falcon-h1":
        return (True,) * count
    if arch in INTERVALS:
        marked = header.by_layer_flags("attention.recurrent_layers", count)
        if marked is not None:
            return marked
        interval = header.number("full_attention_interval") or INTERVALS[arch]
        return tuple((index + 1) % interval != 0 for index in range(count))
    if arch in ("nemotron_h", "nemotron_h_moe"):
        wide = header.by_layer("feed_forward_length", count) or (0,) * count
        return tuple(kv == 0 and ff == 0 for kv, ff in zip(kv_heads, wide, strict=True))
    return tuple(kv == 0 for kv in kv_heads)


def _state(header: ModelHeader, embedding: int, heads: tuple[int, ...]) -> int:
    """Numbers that a recurrent layer keeps for a sequence: its convolution's and its own."""
    if wkv := header.number("wkv.head_size"):
        shifts = header.number("token_shift_count")
        return embedding * (2 if shifts is None else shifts) + embedding * wkv
    if cells := header.number("shortconv.l_cache"):
        return embedding * (cells - 1)
    kernel = header.number("ssm.conv_kernel") or 0
    if kda := header.number("kda.head_dim"):
        return 3 * (kernel - 1 if kernel else 3) * heads[0] * kda + kda * kda * heads[0]
    if header.architecture == "minimax-01":
        wide = header.number("attention.key_length") or (embedding // heads[0] if heads[0] else 0)
        return wide * wide * heads[0]
    inner = header.number("ssm.inner_size") or 0
    own = header.number("ssm.state_size") or 0
    groups = header.number("ssm.group_count") or 0
    return max(0, kernel - 1) * (inner + 2 * groups * own) + own * inner
