"""The release wait's judgement, reading by reading."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumod_tui.core.models import GpuReading, GpuSample, Holder
from gpumod_tui.core.switch.release import Goal, Released, ReleaseWatch, Stuck, Waiting
from gpumod_tui.core.switch.results import GpuArithmetic
from gpumod_tui.core.text import MIB
from gpumod_tui.core.vram.sleep import GRACE_S, STILL_S

OURS = Holder(pid=7, gpu=0, used_bytes=MIB, unit="glm-code.service")
DEAD = Holder(pid=8, gpu=0, used_bytes=MIB, command="?")
"""A process that systemd has forgotten, known by its pid only."""
FOREIGN = Holder(pid=99, gpu=0, used_bytes=MIB, command="python", unit="app.scope")


def reading(*free_mib: int | None) -> GpuReading:
    """Free memory by GPU."""
    return GpuReading(
        0.0,
        None,
        tuple(GpuSample(index, free_bytes=None if mib is None else mib * MIB) for index, mib in enumerate(free_mib)),
    )


def needs(gpu: int, mib: int) -> Goal:
    """For what comes."""
    return Goal(gpu, mib * MIB, GpuArithmetic(gpu, None, 0, 0, 0, (mib - 512) * MIB, 512 * MIB))


def restored(gpu: int, mib: int | None) -> Goal:
    """For what went; None: how much that was is unknown."""
    return Goal(gpu, 0, None, None if mib is None else mib * MIB)


class Watch:
    """Looks every 0.5 s, always with process lists."""

    def __init__(self, *goals: Goal) -> None:
        self.watch = ReleaseWatch(goals, frozenset({"glm-code.service"}), frozenset({7, 8}), 0.0)
        self.now = 0.0

    def see(self, *free_mib: int | None, holders: Iterable[Holder] | None = ()) -> Released | Waiting | Stuck:
        self.now += 0.5
        listed = None if holders is None else tuple(holders)
        return self.watch.observe(self.now, reading(*free_mib), listed, listed=True)

    def until(self, at: float, *free_mib: int | None, holders: Iterable[Holder] | None = ()) -> list[object]:
        """The same reading up to a moment; the kinds of all judgements but the last, and the last."""
        seen = [self.see(*free_mib, holders=holders)]
        while self.now < at:
            seen.append(self.see(*free_mib, holders=holders))
        assert all(isinstance(one, Waiting) for one in seen[:-1]), seen
        return [seen[-1]]


def test_enough_is_enough_at_once_and_not_one_byte_earlier() -> None:
    watch = Watch(needs(0, 1000))
    assert isinstance(watch.see(999), Waiting)
    assert watch.see(1000) == Released()


def test_every_gpu_must_have_its_own_sum() -> None:
    watch = Watch(needs(0, 1000), needs(1, 2000))
    assert isinstance(watch.see(9000, 1999), Waiting)
    assert isinstance(watch.see(999, 9000), Waiting)
    assert watch.see(1000, 2000) == Released()


def test_a_wait_tells_numbers_and_how_far_it_is() -> None:
    waiting = Watch(needs(0, 1000)).see(250)
    assert waiting == Waiting("GPU 0: needs 488 MiB + margin 512 MiB, free 250 MiB", 0.25)


def test_what_went_is_back_when_free_is_as_it_was_before() -> None:
    watch = Watch(restored(0, 20_000))
    assert isinstance(watch.see(19_000), Waiting)
    assert watch.see(19_950) == Released(), "less than 64 MiB away"


@pytest.mark.parametrize("left", [OURS, DEAD])
def test_it_goes_on_while_somebody_of_the_stopped_is_left(left: Holder) -> None:
    assert isinstance(Watch(needs(0, 1000)).until(60, 100, holders=[left, FOREIGN])[0], Waiting)


def test_it_is_stuck_when_nobody_is_left_and_nothing_moves() -> None:
    (verdict,) = Watch(needs(0, 1000)).until(GRACE_S, 100, holders=[FOREIGN])
    assert verdict == Stuck("GPU 0: needs 488 MiB + margin 512 MiB, free 100 MiB")


def test_it_is_not_stuck_before_its_time_nor_while_memory_moves() -> None:
    watch = Watch(needs(0, 5000))
    assert isinstance(watch.until(GRACE_S - 0.5, 100)[0], Waiting)
    for step in range(20):
        assert isinstance(watch.see(200 + step * 100), Waiting)
    last = [watch.see(2100) for _ in range(int(STILL_S / 0.5))]
    assert isinstance(last[-1], Stuck)


def test_a_trickle_below_64_mib_counts_as_still() -> None:
    watch = Watch(needs(0, 1000))
    verdicts = [watch.see(100 + step % 2) for step in range(int(GRACE_S / 0.5))]
    assert isinstance(verdicts[-1], Stuck)


def test_for_blank_what_stays_away_is_a_warning_not_a_failure() -> None:
    (verdict,) = Watch(restored(0, 20_000)).until(GRACE_S, 5000)
    assert verdict == Released(("GPU 0: expected 20000 MiB free, free 5000 MiB",))


def test_a_need_elsewhere_that_is_met_leaves_the_other_gpu_a_warning() -> None:
    (verdict,) = Watch(needs(0, 1000), restored(1, 20_000)).until(GRACE_S, 2000, 5000)
    assert isinstance(verdict, Released)
    assert len(verdict.warnings) == 1
    assert verdict.warnings[0].startswith("GPU 1:")


def test_without_process_lists_only_free_memory_counts() -> None:
    assert isinstance(Watch(needs(0, 1000)).until(60, 100, holders=None)[0], Waiting), "its limit ends it"
    (verdict,) = Watch(restored(0, None)).until(GRACE_S, 5000, holders=None)
    assert verdict == Released()


def test_unknown_is_not_enough() -> None:
    watch = Watch(needs(0, 1000))
    assert isinstance(watch.see(None), Waiting)
    assert isinstance(watch.until(60, None)[0], Waiting)
    assert isinstance(watch.watch.observe(61, None, None, listed=False), Waiting), "no reading at all"
    assert watch.see(1000) == Released()


FREE = st.one_of(st.none(), st.integers(0, 3000))


@given(
    st.lists(st.integers(513, 2000), min_size=2, max_size=2),
    st.lists(st.tuples(FREE, FREE, st.sampled_from([None, (), (OURS,), (FOREIGN,)]), st.booleans()), max_size=40),
)
def test_nothing_starts_on_less_than_it_needs(required: list[int], seen: list[tuple[object, ...]]) -> None:
    watch = ReleaseWatch(
        [needs(gpu, mib) for gpu, mib in enumerate(required)], frozenset({"glm-code.service"}), frozenset({7}), 0.0
    )
    for number, (one, other, holders, listed) in enumerate(seen):
        free = [one if isinstance(one, int) else None, other if isinstance(other, int) else None]
        known = holders if isinstance(holders, tuple) else None
        verdict = watch.observe(number * 0.7, reading(*free), known, listed=bool(listed))
        if isinstance(verdict, Released):
            assert all(mib is not None and mib >= need for mib, need in zip(free, required, strict=True))
