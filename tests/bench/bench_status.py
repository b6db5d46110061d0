"""`gpumod status` against a script that only imports what it needs. `python -m tests.bench.bench_status`."""

import sys

from tests.bench.measuring import compiled, in_bed, in_turns, least_ratio, seconds_of, told

TARGET = 1.5
IMPORTS = "import click, msgspec, pynvml, jeepney, jeepney.io.blocking, platformdirs, socket, threading, datetime"
"""What status needs beside gpumod: command line, state and presets, NVML, systemd, the user's folders, clock times."""
PROBING = ", http.client"
"""And where a server runs that is to be asked."""


def measure(rounds: int = 25) -> dict[str, float]:
    """Ratios, least against least, by what runs on the box. The caches of presets and of byte code are warm."""
    environment = compiled()
    status = [sys.executable, "-m", "gpumod_tui", "status"]
    ratios = {}
    for state, command, imports in (
        ("nothing runs", ["template", "install", "--yes"], IMPORTS),
        ("mode code, model loaded", ["mode", "switch", "code"], IMPORTS + PROBING),
    ):
        script = [sys.executable, "-c", imports]
        seconds_of([*status[:-1], *command], environment)
        for warm in (status, script):
            seconds_of(warm, environment)
        print(f"\n{state}")
        taken = in_turns(
            {
                "gpumod status": lambda: seconds_of(status, environment),
                "a script that imports": lambda script=script: seconds_of(script, environment),  # type: ignore[misc]
            },
            rounds,
        )
        ours, theirs = told(taken).values()
        ratios[state] = least_ratio(taken)
        print(f"ratio {ours / theirs:.2f} (target {TARGET})")
    return ratios


if __name__ == "__main__":
    in_bed("tests.bench.bench_status")
    measure()
