"""The parts of a model's need; each figure is worked out by hand beside it."""

from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.core.models import DriverKind, Service
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.core.vram.estimate import (
    CONTEXT_BYTES,
    LEAST_COMPUTE_BYTES,
    PROJECTOR_COMPUTE_BYTES,
    Estimate,
    estimate,
)
from gpumod_tui.core.vram.estimate.model_file import ModelHeader, Tensor
from gpumod_tui.core.vram.estimate.options import LoadSettings, settings_of, with_arguments

PATH = Path("/m/model.gguf")


def header(arch: str, tensors: tuple[Tensor, ...] = (Tensor("output.weight", (1,), 4),), **values: Any) -> ModelHeader:
    """Keys below the architecture's name, `__` for a dot."""
    named = {f"{arch}.{key.replace('__', '.')}": value for key, value in values.items()}
    return ModelHeader(PATH, {"general.architecture": arch, **named}, tensors, 1000)


def part(found: Estimate, name: str) -> int | None:
    return next(one.total_bytes for one in found.parts if one.name == name)


def told(*words: str, context: int = 0) -> LoadSettings:
    return with_arguments(LoadSettings(context=context), words)


LLAMA_8B = header(
    "llama",
    block_count=32,
    context_length=131072,
    embedding_length=4096,
    feed_forward_length=14336,
    attention__head_count=32,
    attention__head_count_kv=8,
)
GEMMA_27B = header(
    "gemma3",
    block_count=62,
    context_length=131072,
    embedding_length=5376,
    feed_forward_length=21504,
    attention__head_count=32,
    attention__head_count_kv=16,
    attention__key_length=128,
    attention__value_length=128,
    attention__sliding_window=1024,
)
GLM_FLASH = header(
    "deepseek2",
    block_count=47,
    context_length=202752,
    embedding_length=2048,
    attention__head_count=20,
    attention__head_count_kv=1,
    attention__key_length=576,
    attention__value_length=512,
    attention__key_length_mla=256,
    attention__value_length_mla=256,
)
ATTENDING = (5, 12, 19, 26, 33, 42)
RECURRENT = [layer for layer in range(52) if layer not in ATTENDING][::2]
NEMOTRON = header(
    "nemotron_h_moe",
    block_count=52,
    context_length=1048576,
    embedding_length=2688,
    attention__head_count=32,
    # 6 attention layers, 23 recurrent ones, and 23 of experts.
    attention__head_count_kv=tuple(2 if layer in ATTENDING else 0 for layer in range(52)),
    feed_forward_length=tuple(0 if layer in (*ATTENDING, *RECURRENT) else 1856 for layer in range(52)),
    attention__key_length=128,
    attention__value_length=128,
    ssm__conv_kernel=4,
    ssm__inner_size=4096,
    ssm__state_size=128,
    ssm__group_count=8,
    ssm__time_step_rank=64,
)


@pytest.mark.parametrize(
    ("model", "settings", "cache"),
    [
        # 32 layers × 8192 cells × (8 × 128 keys + 8 × 128 values) × 2 bytes = 1 GiB.
        (LLAMA_8B, told(context=8192), GIB),
        # The model's own 131072 cells: 16 times as much.
        (LLAMA_8B, told(), 16 * GIB),
        # q8_0: 34 bytes for 32 numbers; 32 × 8192 × 2048 / 32 × 34.
        (LLAMA_8B, told("-ctk", "q8_0", "-ctv", "q8_0", context=8192), 32 * 8192 * 2048 // 32 * 34),
        # q4_0 for values only: 1024 × 2 + 1024 / 32 × 18 bytes a cell.
        (LLAMA_8B, told("-ctv", "q4_0", context=8192), 32 * 8192 * (2048 + 576)),
        # 5000 cells over 3 slots of their own: 5120 / 3 = 1706, rounded up to 1792 each.
        (LLAMA_8B, told("--parallel", "3", context=5000), 32 * 3 * 1792 * 4096),
        # Shared, they are rounded up once: 5120.
        (LLAMA_8B, told("--parallel", "3", "-kvu", context=5000), 32 * 5120 * 4096),
        # On the GPU are the output and the last 10 of 32 layers.
        (LLAMA_8B, told("-ngl", "11", context=8192), 10 * 8192 * 4096),
        (LLAMA_8B, told("-ngl", "0", context=8192), 0),
        (LLAMA_8B, told("--no-kv-offload", context=8192), 0),
        # Every 6th of 62 layers (10) holds 32768 cells, 52 hold min(32768, 1024 + 512) = 1536, each 2 × 2048 × 2 bytes.
        (GEMMA_27B, told("-np", "1", context=32768), (10 * 32768 + 52 * 1536) * 8192),
        # 4 slots that share one context share the windows too: 4 × 1024 + 512 = 4608 cells.
        (GEMMA_27B, told(context=32768), (10 * 32768 + 52 * 4608) * 8192),
        (GEMMA_27B, told("--swa-full", context=32768), 62 * 32768 * 8192),
        # A latent of 576 numbers, and no values: 47 × 16384 × 576 × 2.
        (GLM_FLASH, told("-np", "1", context=16384), 47 * 16384 * 576 * 2),
        # Six layers attend: 6 × 8192 × 2 heads × (128 + 128) × 2 bytes.
        (NEMOTRON, told("-np", "1", context=8192), 6 * 8192 * 1024),
    ],
)
def test_the_cache_by_hand(model: ModelHeader, settings: LoadSettings, cache: int) -> None:
    assert part(estimate(model, settings), "KV cache") == cache


def test_the_state_of_a_hybrid_by_hand() -> None:
    # (4 - 1) × (4096 + 2 × 8 × 128) + 128 × 4096 = 542720 numbers of 4 bytes, in 23 layers, for each slot.
    for slots in (1, 3):
        found = estimate(NEMOTRON, told("-np", str(slots), context=8192))
        assert part(found, "recurrent state") == 23 * slots * 542720 * 4


def test_values_are_padded_to_the_widest_layer_without_flash_attention() -> None:
    model = header(
        "llama", block_count=2, embedding_length=64, attention__head_count=2, attention__head_count_kv=(1, 2)
    )
    # Keys 32 + 64, values 32 + 64 numbers a cell; without flash attention 64 + 64 values.
    assert part(estimate(model, told(context=4096)), "KV cache") == 4096 * (96 + 96) * 2
    assert part(estimate(model, told("-fa", "off", context=4096)), "KV cache") == 4096 * (96 + 128) * 2


def test_layers_that_predict_further_tokens_keep_nothing_unless_they_are_used() -> None:
    model = header("glm4moe", block_count=3, embedding_length=64, attention__head_count=2, nextn_predict_layers=1)
    assert part(estimate(model, told(context=4096)), "KV cache") == 2 * 4096 * 128 * 2
    assert part(estimate(model, told("--spec-type", "draft-mtp", context=4096)), "KV cache") == 3 * 4096 * 128 * 2


def layered(**values: Any) -> ModelHeader:
    """Four layers of 100 MiB with 80 MiB of experts in each, embeddings and output of 50 MiB."""
    tensors = [Tensor("token_embd.weight", (1,), 50 * MIB), Tensor("output.weight", (1,), 50 * MIB)]
    for layer in range(4):
        tensors.append(Tensor(f"blk.{layer}.attn_q.weight", (1,), 20 * MIB))
        tensors.append(Tensor(f"blk.{layer}.ffn_up_exps.weight", (1,), 80 * MIB))
    return header("llama", tuple(tensors), block_count=4, embedding_length=64, attention__head_count=2, **values)


@pytest.mark.parametrize(
    ("words", "weights"),
    [
        ((), 450),
        (("-ngl", "all"), 450),
        (("-ngl", "999"), 450),
        (("-ngl", "3"), 250),
        (("-ngl", "1"), 50),
        (("-ngl", "0"), 0),
        (("--n-cpu-moe", "3"), 210),
        (("--cpu-moe",), 130),
    ],
)
def test_weights_that_stay_in_host_memory_are_not_counted(words: tuple[str, ...], weights: int) -> None:
    assert part(estimate(layered(), told(*words, context=256)), "weights") == weights * MIB


def test_embeddings_that_are_the_output_too_are_counted() -> None:
    model = layered()
    tied = ModelHeader(PATH, model.values, tuple(one for one in model.tensors if one.name != "output.weight"))
    assert part(estimate(tied, told(context=256)), "weights") == 450 * MIB


def test_several_gpus_hold_whole_layers() -> None:
    """4 layers and the output are dealt out as 3 and 2; context, and what is computed with, is on each."""
    fixed = CONTEXT_BYTES + LEAST_COMPUTE_BYTES
    cache = 256 * 128 * 2
    found = estimate(layered(), told("--tensor-split", "1,1", context=256), 2)
    assert found.by_gpu == (fixed + 300 * MIB + 3 * cache, fixed + 150 * MIB + cache)
    assert sum(found.by_gpu) == found.total_bytes
    # 3 : 1 puts 0, 1, 2 and 3 (at 3/5) on the first, the output alone (at 4/5) on the second.
    found = estimate(layered(), told("--tensor-split", "3,1", context=256), 2)
    assert found.by_gpu == (fixed + 400 * MIB + 4 * cache, fixed + 50 * MIB)
    for words in (("--split-mode", "row"), ("--device", "CUDA0")):
        found = estimate(layered(), told(*words, context=256), 2)
        assert min(found.by_gpu) >= 450 * MIB + 4 * cache


def test_what_is_computed_with_grows_with_the_vocabulary_the_context_and_the_batch() -> None:
    model = header("llama", block_count=1, embedding_length=4096, attention__head_count=32, vocab_size=256 * 1024)
    plain = part(estimate(model, told(context=4096)), "compute buffer") or 0
    # Logits alone: 512 × 262144 × 4 bytes.
    assert 512 * MIB <= plain <= 900 * MIB
    for words, context in ((("-ub", "2048"), 4096), (("-fa", "off"), 4096), ((), 131072)):
        assert (part(estimate(model, told(*words, context=context)), "compute buffer") or 0) > plain


def test_a_projector_and_a_draft_count() -> None:
    model = layered()
    clip = header("clip", (Tensor("v.patch", (1,), 700 * MIB),))
    draft = header(
        "llama", (Tensor("output.weight", (1,), 90 * MIB),), block_count=1, embedding_length=64, attention__head_count=2
    )
    both = ModelHeader(PATH, model.values, model.tensors, companions=(clip, draft))
    alone, found = estimate(model, told(context=256)), estimate(both, told(context=256))
    expected = 700 * MIB + PROJECTOR_COMPUTE_BYTES + 90 * MIB + 256 * 128 * 2 + LEAST_COMPUTE_BYTES
    assert (found.total_bytes or 0) - (alone.total_bytes or 0) == expected
    assert sum(found.by_gpu) == found.total_bytes
    without = estimate(both, told("--no-mmproj", context=256))
    assert (found.total_bytes or 0) - (without.total_bytes or 0) == 700 * MIB + PROJECTOR_COMPUTE_BYTES


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (ModelHeader(PATH), ()),
        (header("llama", embedding_length=64), ()),
        (header("llama", block_count=2, embedding_length=64), ()),
        (header("llama", block_count=100000, embedding_length=64, attention__head_count=2), ()),
        (header("deepseek4", block_count=2, embedding_length=64, attention__head_count=2), ()),
        (header("brandnew", block_count=2, embedding_length=64, attention__head_count=2, ssm__inner_size=5), ()),
        (LLAMA_8B, ("-ctk", "q9_9")),
        (LLAMA_8B, ("--lora", "some.gguf")),
        (NEMOTRON, ("--spec-type", "draft-mtp")),
        (header("llama", block_count=2, embedding_length=64, attention__head_count=2), ()),
    ],
)
def test_what_cannot_be_derived_is_unknown_and_never_zero(model: ModelHeader, words: tuple[str, ...]) -> None:
    found = estimate(model, told(*words))
    assert found.total_bytes is None
    assert found.unknown


def test_an_architecture_that_is_not_known_keeps_every_cell_of_every_layer() -> None:
    values: dict[str, Any] = {
        "block_count": 2,
        "embedding_length": 64,
        "attention__head_count": 2,
        "attention__sliding_window": 256,
    }
    assert part(estimate(header("brandnew", **values), told(context=8192)), "KV cache") == 2 * 8192 * 128 * 2


def test_preset_and_command_line_of_the_router_mean_the_same() -> None:
    service = Service(
        "r",
        "R",
        DriverKind.LLAMACPP,
        7070,
        context_size=8192,
        env={"LLAMA_ARG_CACHE_TYPE_K": "q8_0", "LLAMA_ARG_SWA_FULL": "1"},
        unit_vars={"n_gpu_layers": -1, "flash_attn": True, "n_cpu_moe": 3, "extra_args": "--parallel 1 --cache-ram 0"},
    )
    plain = settings_of(service)
    assert plain == LoadSettings(
        context=8192, parallel=1, kv_type_k="q8_0", flash_attn=True, swa_full=True, cpu_moe_layers=3
    )
    argv = "llama-server --host 127.0.0.1 --port 41234 --model /m/x.gguf --alias x --ctx-size 8192 --n-gpu-layers 999"
    assert settings_of(service, [*argv.split(), "--flash-attn", "on", "-np", "1", "-ncmoe", "3"]) == plain
    assert settings_of(service, ["--ctx-size", "16384"]).context == 16384
    assert settings_of(service, ["--ctx-size", "many", "--parallel"]) == plain
