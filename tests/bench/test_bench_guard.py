"""The guard's figures as promised: where the machine is busy it is measured again, and each one's best counts."""

import pytest

from tests.bench import bench_guard

ROUNDS = 3


@pytest.mark.bed(timeout_s=400)
def test_the_guard_costs_no_more_than_promised() -> None:
    found: list[dict[str, float]] = []
    missed = {"any"}
    while missed and len(found) < ROUNDS:
        found.append(bench_guard.measure(requests=200, rounds=3, seconds=1.5))
        missed = set.intersection(*map(bench_guard.missed, found))
    assert not missed, (missed, found)
