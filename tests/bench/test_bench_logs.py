"""A flood of log lines costs no more than the pane has cells, and keys are answered meanwhile."""

import asyncio

from tests.bench import bench_logs


def test_what_a_flood_writes_to_the_line_is_bounded_by_the_pane() -> None:
    slow, fast = (asyncio.run(bench_logs.run(2.0, rate, "")) for rate in (1_000, 10_000))
    assert fast["bytes a second"] < 3 * slow["bytes a second"]
    assert fast["of whole panes"] < 4
    assert fast["held"] <= 15_000


def test_the_slowest_pattern_leaves_the_screen_alive() -> None:
    assert asyncio.run(bench_logs.run(2.0, 5_000, bench_logs.PATTERNS[-1]))["wait median ms"] < 500
