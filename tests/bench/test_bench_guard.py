"""The guard's figures: times with room for a busy machine; memory, which no neighbour changes, as promised."""

import pytest

from tests.bench import bench_guard


@pytest.mark.bed
def test_the_guard_adds_little_to_what_a_bare_proxy_adds() -> None:
    found = bench_guard.measure(requests=200, rounds=3, seconds=1.5)
    assert found["added guard"] < max(bench_guard.ADDED_MS * 1.5, found["added bare proxy"] * 2), found
    assert found["health/s guard"] > min(bench_guard.HEALTH_RATE, found["health/s bare proxy"] * 0.6), found
    assert found["tokens/s guard"] > found["tokens/s direct"] * bench_guard.STREAM_SHARE * 0.95, found
    assert found["RSS guard"] < found["RSS bare proxy"] + bench_guard.MEMORY_MIB * 1.3, found
