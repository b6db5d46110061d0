"""Small GGUF files, written by the gguf library."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

BASE: Mapping[str, Any] = {
    "block_count": 2,
    "context_length": 4096,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "attention.head_count": 2,
    "attention.head_count_kv": 1,
}
Q8_0 = gguf.GGMLQuantizationType.Q8_0


def write_gguf(
    path: Path,
    arch: str,
    values: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Sequence[int]] | None = None,
    *,
    types: Mapping[str, gguf.GGMLQuantizationType] | None = None,
    vocabulary: Iterable[str] = (),
    shard_tensors: int = 0,
) -> list[Path]:
    """All files written. Shapes as GGUF has them: the fastest dimension first. Weights are zero."""
    writer = gguf.GGUFWriter(path, arch, split_max_tensors=shard_tensors)
    for key, value in (BASE if values is None else values).items():
        add(writer, f"{arch}.{key}", value)
    tokens = list(vocabulary)
    if tokens:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * len(tokens))
        writer.add_token_types([1] * len(tokens))
    for name, shape in (tensors or {}).items():
        kind = (types or {}).get(name)
        if kind is None:
            writer.add_tensor(name, np.zeros(tuple(reversed(shape)), np.float32))
            continue
        block, size = gguf.GGML_QUANT_SIZES[kind]
        rows = (*reversed(shape[1:]), shape[0] // block * size)
        writer.add_tensor(name, np.zeros(rows, np.uint8), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if shard_tensors:
        return sorted(path.parent.glob(f"{path.stem}-*-of-*.gguf"))
    return [path]


def add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)
