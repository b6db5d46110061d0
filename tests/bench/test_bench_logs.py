"""A flood of log lines costs no more than the pane has cells, and keys are answered meanwhile."""

import asyncio

from tests.bench import bench_logs


def test_what_a_flood_writes_to_the_line_is_bounded_by_the_pane() -> None:
    """In turns: what slows the machine during one of them does not say that the other one writes more."""
    ratios = []
    for _ in range(3):
        slow, fast = (asyncio.run(bench_logs.run(2.0, rate, "")) for rate in (1_000, 10_000))
        assert fast["of whole panes"] < 4
        assert fast["held"] <= 15_000
        ratios.append(fast["bytes a second"] / slow["bytes a second"])
        if ratios[-1] < 3:
            break
    assert min(ratios) < 3, ratios


def test_the_slowest_pattern_leaves_the_screen_alive() -> None:
    waits = []
    for _ in range(3):
        waits.append(asyncio.run(bench_logs.run(2.0, 5_000, bench_logs.PATTERNS[-1]))["wait median ms"])
        if waits[-1] < 500:
            break
    assert min(waits) < 500, waits
