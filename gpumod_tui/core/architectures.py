"""What architectures of llama.cpp keep for their context, as of b11434."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


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
