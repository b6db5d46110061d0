"""The promised figures, on the best runs of up to three measurements, or six: a busy machine has its quiet moments, and
slows both ways alike. A difference in seconds is as many times longer as a bare script's own work takes there."""

import pytest

from tests.bench import bench_preflight, bench_status, bench_switch
from tests.bench.measuring import at_best


@pytest.mark.bed(timeout_s=900)
@pytest.mark.parametrize("state", bench_status.STATES)
def test_status_takes_little_more_than_its_imports_and_questions(state: str) -> None:
    def enough(least: list[float]) -> bool:
        ours, imports = least
        return ours <= bench_status.LIMIT * imports

    least = at_best(lambda: bench_status.measure(state, rounds=9), enough, tries=6)
    assert enough(least), least


@pytest.mark.bed(timeout_s=900)
def test_a_switch_takes_little_more_than_a_shell_script() -> None:
    def enough(least: list[float]) -> bool:
        ours, script, crowding = least
        return ours - script <= bench_switch.TARGET_S * max(crowding, bench_switch.slowness(script))

    least = at_best(lambda: bench_switch.measure(rounds=4), enough)
    assert enough(least), least


@pytest.mark.bed
def test_a_unit_is_decided_about_in_the_time_that_is_promised() -> None:
    taken: list[float] = []
    while len(taken) < 3 and min(taken, default=1.0) > bench_preflight.TARGET_S:
        taken.append(bench_preflight.measure(rounds=9))
    assert min(taken) <= bench_preflight.TARGET_S, taken
