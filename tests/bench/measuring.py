"""Two ways to do the same, timed in turns in one run: only their ratio says something about another machine."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ENTER = CHECKOUT / "tests/bed/enter"


def in_bed(module: str) -> None:
    """Go on inside a bed, unless this is one: the process's exit status is then that of the run inside."""
    if os.environ.get("GPUMOD_BED") != "1":
        environment = {**os.environ, "PYTHON": sys.executable}
        sys.exit(subprocess.run([ENTER, "--", sys.executable, "-m", module], cwd=CHECKOUT, env=environment).returncode)


def compiled() -> dict[str, str]:
    """An environment in which Python keeps byte code, as installations have it; a program's first run compiles."""
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(Path(os.environ["TMPDIR"]) / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


def in_turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds by way, one after the other in each round, so that what slows the machine slows both."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(way())
    return taken


def seconds_of(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> float:
    """How long a command takes; its output is read and thrown away."""
    began = time.perf_counter()
    subprocess.run([str(word) for word in command], env=env, capture_output=True, check=True)
    return time.perf_counter() - began


def crowding() -> float:
    """How many times as long as on an idle machine a program takes that only computes: 1 where nothing else runs."""
    began, before = time.perf_counter(), os.times()
    subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return max(1.0, (time.perf_counter() - began) / spent)


def at_best(
    measure: Callable[[], Mapping[str, Sequence[float]]], enough: Callable[[list[float]], bool], tries: int = 3
) -> list[float]:
    """Each way's least of up to so many measurements: a busy machine has its quiet moments, a slow program has none."""
    least: list[float] = []
    for _ in range(tries):
        found = [min(seconds) for seconds in measure().values()]
        least = [min(pair) for pair in zip(least or found, found, strict=True)]
        if enough(least):
            break
    return least


def least_ratio(taken: Mapping[str, Sequence[float]]) -> float:
    """The first way's least over the second's: what a busy machine adds, it adds to few runs of either."""
    first, second = map(min, taken.values())
    return first / second


def told(taken: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Prints medians and spread; the medians."""
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    for name, seconds in taken.items():
        print(
            f"{name:34} median {medians[name] * 1000:8.1f} ms   least {min(seconds) * 1000:8.1f}"
            f"   most {max(seconds) * 1000:8.1f}   n {len(seconds)}"
        )
    return medians
