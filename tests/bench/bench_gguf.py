"""The header walk on a vocabulary of 256k tokens, against a plain read of the same bytes. Prints milliseconds.

`python -m tests.bench.bench_gguf`.
"""

import sys
import tempfile
import time
from pathlib import Path

from gpumod_tui.adapters.models.gguf import read_header
from tests.bench.measuring import in_turns, told
from tests.unit._gguf_files import BASE, write_gguf

TOKENS = 1 << 18
TARGET_S = 0.05


def measure(rounds: int = 25) -> tuple[float, float]:
    """Medians in seconds: the walk, the read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.gguf"
        words = (f"token-{number:x}{'y' * (number % 9)}" for number in range(TOKENS))
        write_gguf(
            path,
            "llama",
            {**BASE, "merges": [f"a{number} b{number}" for number in range(TOKENS)]},
            {"token_embd.weight": (64, 8)},
            vocabulary=words,
        )

        def walk() -> float:
            began = time.perf_counter()
            assert read_header(path).vocabulary == TOKENS
            return time.perf_counter() - began

        def read() -> float:
            began = time.perf_counter()
            path.read_bytes()
            return time.perf_counter() - began

        print(f"{path.stat().st_size / 1024**2:.1f} MiB, {TOKENS} tokens and as many merges")
        medians = told(in_turns({"header walk": walk, "plain read of the same bytes": read}, rounds))
    return medians["header walk"], medians["plain read of the same bytes"]


if __name__ == "__main__":
    ours, plain = measure()
    print(f"ratio {ours / plain:.1f}")
    sys.exit(ours > TARGET_S)
