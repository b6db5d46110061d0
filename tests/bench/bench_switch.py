"""`gpumod mode switch code`, coming from rag, against a shell script that stops, waits, starts and loads, polling each
10 ms.

`python -m tests.bench.bench_switch`. Memory comes back 1.0 s after a process has ended.
"""

import sys
from pathlib import Path

from tests.bed.host import http, systemctl
from tests.bench.measuring import crowding, in_bed, in_turns, seconds_of, told

TARGET_S = 0.5
NEED_MIB = 20480 + 512

SCRIPT = f"""
set -e
systemctl --user stop vllm-embedding.service
{sys.executable} - <<'END'
import pynvml, time
pynvml.nvmlInit()
card = pynvml.nvmlDeviceGetHandleByIndex(0)
while pynvml.nvmlDeviceGetMemoryInfo(card, version=pynvml.nvmlMemory_v2).free < {NEED_MIB} << 20:
    time.sleep(0.01)
END
systemctl --user start glm-code.service
until curl -sf http://127.0.0.1:7070/models | grep -q GLM-4.7; do sleep 0.01; done
curl -sf http://127.0.0.1:7070/models/load -H "Content-Type: application/json" \
  -d '{{"model":"GLM-4.7-Flash-UD-Q4_K_XL"}}' >/dev/null
until curl -sf http://127.0.0.1:7070/models | grep -q '"value":"loaded"'; do sleep 0.01; done
"""
"""The list of models tells when the router is up: /health is the guard's own."""


def gpumod(*arguments: str) -> float:
    """Seconds of one call."""
    return seconds_of(["gpumod", *arguments])


def from_rag(command: list[str | Path]) -> float:
    """Seconds from rag to a loaded model."""
    gpumod("mode", "switch", "rag")
    seconds = seconds_of(command)
    states = {model["id"]: model["status"]["value"] for model in http("http://127.0.0.1:7070/models")[1]["data"]}
    assert states["GLM-4.7-Flash-UD-Q4_K_XL"] == "loaded"
    assert systemctl("is-active", "vllm-embedding.service", check=False).strip() == "inactive"
    return seconds


RELEASE_S = 1.0
"""Of the script's time the memory's way back, which no machine makes shorter."""
WORK_S = 0.25
"""What the script takes besides on the machine on which the target was kept with room to spare."""


def slowness(script_s: float) -> float:
    """How many times as long as there the script's own work takes here, at least 1."""
    return max(1.0, (script_s - RELEASE_S) / WORK_S)


def measure(rounds: int = 7) -> dict[str, list[float]]:
    """Seconds by way; and how crowded the machine was between them."""
    gpumod("template", "install", "--yes")
    taken = in_turns(
        {
            "gpumod mode switch code": lambda: from_rag(["gpumod", "mode", "switch", "code"]),
            "shell script, 10 ms polling": lambda: from_rag(["bash", "-c", SCRIPT]),
            "crowding": crowding,
        },
        rounds,
    )
    crowded = taken.pop("crowding")
    ours, script = told(taken).values()
    print(f"difference {ours - script:+.3f} s (target at most {TARGET_S}), ratio {ours / script:.2f}")
    print(f"the machine was crowded {min(crowded):.2f} to {max(crowded):.2f} times")
    return {**taken, "crowding": crowded}


if __name__ == "__main__":
    in_bed("tests.bench.bench_switch")
    measure()
