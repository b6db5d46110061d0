"""`gpumod preflight` against a script that only initialises NVML. `python -m tests.bench.bench_preflight`."""

import sys

from tests.bed.host import run, systemctl
from tests.bench.measuring import compiled, crowding, in_bed, in_turns, seconds_of, told

TARGET_S = 0.150
SCRIPT_S = 0.045
"""An assumption: 10 ms for Python, 24 for pynvml, the rest for NVML. Where the script is slower, the target is, too."""
NVML = "import pynvml; pynvml.nvmlInit()"


def measure(rounds: int = 25) -> float:
    """Seconds that a decision takes beyond the script, least against least, beside a running server.

    The caches of presets and of byte code are warm. On a busy machine they are those of an idle one.
    """
    environment = {**compiled(), "INVOCATION_ID": "0" * 32}
    gpumod = [sys.executable, "-m", "gpumod_tui"]
    script = [sys.executable, "-c", NVML]
    run(*gpumod, "template", "install", "--yes", check=True)
    systemctl("start", "vllm-embedding.service")
    # It is granted again and again, under an invocation that never lives.
    preflight = [*gpumod, "preflight", "--unit", "vllm-embedding.service"]
    for warm in (preflight, script):
        seconds_of(warm, environment)
    taken = in_turns(
        {
            "gpumod preflight": lambda: seconds_of(preflight, environment),
            "a script that initialises NVML": lambda: seconds_of(script, environment),
        },
        rounds,
    )
    told(taken)
    ours, theirs = map(min, taken.values())
    beyond = (ours - theirs) / max(crowding(), theirs / SCRIPT_S)
    print(
        f"beyond {(ours - theirs) * 1000:.0f} ms, on an idle machine {beyond * 1000:.0f} (target {TARGET_S * 1000:.0f})"
    )
    return beyond


if __name__ == "__main__":
    in_bed("tests.bench.bench_preflight")
    measure()
