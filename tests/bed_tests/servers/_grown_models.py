"""Models of any architecture that a real llama-server loads, without a table of their tensors.

The server names the first tensor that it misses, and the shape that one should have: a model is grown from its errors.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.unit._gguf_files import write_gguf

MOST_TENSORS = 150
ABORTS = 30
WORDS = [*(f"word{number}" for number in range(30)), "<s>", "</s>"]
_MISSING = re.compile(r"tensor '([^']+)' not found")
_SHAPE = re.compile(r"tensor '([^']+)' has wrong shape; expected\s+([\d, ]+?), got")
CACHES = re.compile(r"llama_kv_cache: size = +([\d.]+) MiB")
STATES = re.compile(r"llama_memory_recurrent: size = +([\d.]+) MiB")
_BEHIND_CACHES = "sched_reserve: reserving"
_BEGUN = ("load_model: initializing", "exiting due to", "failed to load model, '")


def grow(path: Path, arch: str, values: Mapping[str, Any], *words: str, seed: tuple[str, ...] = ()) -> str:
    """What a llama-server says until it has loaded the model with these arguments. `seed`: tensors it must have."""
    tensors: dict[str, tuple[int, ...]] = dict.fromkeys(seed, (1,))
    said = ""
    for _ in range(2 * MOST_TENSORS):
        write_gguf(path, arch, values, tensors, vocabulary=WORDS)
        said = _loaded(path, words)
        whole = any(word in said for word in _BEGUN)
        if not whole and "cells" not in said:
            # It ended before its log was out.
            continue
        if missing := _MISSING.search(said):
            alike = (shape for name, shape in tensors.items() if name.split(".")[2:] == missing[1].split(".")[2:])
            tensors[missing[1]] = next(alike, (1,)) if missing[1].startswith("blk.") else (1,)
        elif wrong := _SHAPE.search(said):
            tensors[wrong[1]] = _shape(wrong[2])
        elif whole:
            return said
        else:
            # It aborts behind its caches, now and then before their sizes are out.
            tries = [said]
            while _BEHIND_CACHES not in tries[-1] and len(tries) < ABORTS:
                tries.append(_loaded(path, words))
            return max(tries, key=len)
    raise AssertionError(f"{arch}: no end after {MOST_TENSORS} tensors: {said[-1000:]}")


def _shape(text: str) -> tuple[int, ...]:
    sizes = [int(size) for size in text.split(",")]
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes.pop()
    return tuple(sizes)


def _loaded(path: Path, words: tuple[str, ...]) -> str:
    command = [
        "llama-server",
        "--model",
        str(path),
        "--port",
        "7999",
        "--verbosity",
        "4",
        "--no-warmup",
    ]
    said = []
    with subprocess.Popen(
        [*command, "--fit", "off", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        assert server.stdout is not None
        for line in server.stdout:
            said.append(line)
            if any(word in line for word in _BEGUN):
                break
        server.kill()
    return "".join(said)
