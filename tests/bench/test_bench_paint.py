"""Only what differs is written to the operator's line."""

from tests.bench import bench_paint


def test_a_busy_box_writes_a_fraction_of_its_dirty_rows() -> None:
    assert bench_paint.measure(30) < 0.5
