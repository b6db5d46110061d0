"""What is reckoned for a model's context, held against what a real llama-server allocates for it."""

from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.adapters.models.files import ModelFolder, model_file
from gpumod_tui.core.text import MIB
from gpumod_tui.core.vram.estimate import estimate
from gpumod_tui.core.vram.estimate.options import LoadSettings, with_arguments
from tests.bed_tests.servers._grown_models import CACHES, STATES, grow
from tests.unit._gguf_files import BASE

PLAIN = {**BASE, "attention.layer_norm_rms_epsilon": 1e-5, "attention.layer_norm_epsilon": 1e-5}
SSM = {"ssm.conv_kernel": 4, "ssm.inner_size": 1024, "ssm.state_size": 128, "ssm.time_step_rank": 8}
MOE = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 64}
MLA = {
    **MOE,
    "block_count": 3,
    "attention.q_lora_rank": 32,
    "attention.kv_lora_rank": 32,
    "attention.key_length": 48,
    "attention.value_length": 32,
    "attention.key_length_mla": 32,
    "attention.value_length_mla": 16,
    "rope.dimension_count": 16,
    "expert_shared_count": 1,
    "leading_dense_block_count": 1,
    "expert_weights_scale": 1.0,
    "expert_gating_func": 1,
}
NARROW = {**SSM, "ssm.inner_size": 128}
WIDE = {"block_count": 4, "attention.key_length": 32, "attention.value_length": 32}
ONE = "--ctx-size 4096 --parallel 1"
THREE = "--ctx-size 5000 --parallel 3"
CASES: dict[str, tuple[str, dict[str, Any], str]] = {
    "plain": ("llama", {}, "--ctx-size 4096"),
    "the model's own context": ("llama", {}, "--ctx-size 0"),
    "slots of their own": ("llama", {}, THREE),
    "slots that share": ("llama", {}, f"{THREE} --kv-unified"),
    "quantised": ("llama", {}, f"{THREE} --cache-type-k q8_0 --cache-type-v q4_0"),
    "heads by layer": ("deci", {"block_count": 3, "attention.head_count": [2, 2, 0],
                                "attention.head_count_kv": [1, 2, 0], "feed_forward_length": [128] * 3}, ONE),
    "padded values": ("llama", {"attention.head_count_kv": [1, 2]}, f"{ONE} --flash-attn off"),
    "windows": ("gemma3", {"block_count": 6, "attention.sliding_window": 512}, "--ctx-size 8192 --parallel 2"),
    "shared windows": ("gemma3", {"block_count": 6, "attention.sliding_window": 512}, "--ctx-size 8192"),
    "no windows": ("gemma3", {"block_count": 6, "attention.sliding_window": 512}, "--ctx-size 8192 --swa-full"),
    "every second": ("gpt-oss", {**MOE, "block_count": 4, "attention.sliding_window": 128}, "--ctx-size 8192"),
    "chunks": ("llama4", {**MOE, "block_count": 4, "expert_count": 16, "expert_used_count": 1,
                          "interleave_moe_layer_step": 1}, "--ctx-size 20480 --parallel 1"),
    "latent": ("deepseek2", MLA, ONE),
    "indexed": ("deepseek32", {**MLA, "attention.indexer.head_count": 2, "attention.indexer.key_length": 32,
                               "attention.indexer.top_k": 64}, ONE),
    "latent and recurrent": ("kimi-linear", {**MLA, "attention.head_count_kv": [0, 0, 1], "ssm.conv_kernel": 4,
                                             "kda.head_dim": 256}, THREE),
    "predicts further": ("glm4moe", {**MOE, **WIDE, "nextn_predict_layers": 1, "expert_shared_count": 1,
                                     "leading_dense_block_count": 1, "expert_weights_scale": 1.0}, ONE),
    "recurrent": ("mamba2", {**SSM, "ssm.group_count": 1}, THREE),
    "rwkv": ("rwkv7", {"wkv.head_size": 32, "attention.decay_lora_rank": 8, "attention.iclr_lora_rank": 8,
                       "attention.value_residual_mix_lora_rank": 8, "attention.gate_lora_rank": 8,
                       "token_shift_count": 2}, THREE),
    "nemotron": ("nemotron_h", {**SSM, **WIDE, "ssm.group_count": 1, "attention.head_count_kv": [0, 1, 0, 0],
                                "feed_forward_length": [0, 0, 128, 0]}, THREE),
    "granite": ("granitehybrid", {**NARROW, **WIDE, "ssm.group_count": 1, "attention.head_count_kv": [0, 1, 0, 0],
                                  "attention.scale": 1.0, "residual_scale": 1.0, "embedding_scale": 1.0,
                                  "logit_scale": 1.0}, THREE),
    "jamba": ("jamba", {**NARROW, **WIDE, "attention.head_count_kv": [0, 1, 0, 1]}, THREE),
    "both in each layer": ("falcon-h1", {**SSM, **WIDE, "ssm.group_count": 1, "block_count": 2}, THREE),
    "every fourth attends": ("qwen3next", {**MOE, **SSM, **WIDE, "ssm.group_count": 2,
                                           "expert_shared_feed_forward_length": 64}, THREE),
    "short convolutions": ("lfm2", {"block_count": 4, "attention.head_count_kv": [0, 1, 0, 1],
                                    "shortconv.l_cache": 3}, THREE),
}  # fmt: skip


def reckoned_and_real(path: Path, arch: str, values: dict[str, Any], words: list[str]) -> str | None:
    """What differs, or None."""
    said = grow(path, arch, {**PLAIN, **values}, *words, seed=("blk.0.attn_norm.weight",))
    file = model_file(path)
    assert file is not None
    found = estimate(ModelFolder().header(file), with_arguments(LoadSettings(), words))
    ours = {part.name: (part.total_bytes or 0) / MIB for part in found.parts}
    # The server prints two digits of each.
    caches = [float(size) for size in CACHES.findall(said)]
    states = [float(size) for size in STATES.findall(said)]
    if not caches and not states:
        return f"not loaded: {said[-1000:]}"
    cache, state = ours["KV cache"], ours.get("recurrent state", 0)
    if (
        abs(cache - sum(caches)) <= 0.005 * len(caches) + 1e-6
        and abs(state - sum(states)) <= 0.005 * len(states) + 1e-6
    ):
        return None
    return f"cache {cache:.3f}, really {caches}; state {state:.3f}, really {states}"


@pytest.mark.bed(timeout_s=900)
def test_the_cache_is_as_large_as_llama_server_makes_it(tmp_path: Path) -> None:
    differing = {}
    for case, (arch, values, words) in CASES.items():
        found = reckoned_and_real(tmp_path / "model.gguf", arch, values, words.split())
        if found is not None:
            differing[case] = found
    assert differing == {}
