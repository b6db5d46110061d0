"""Columns of the memory graph."""

import tracemalloc
from dataclasses import replace

from gpumod_tui.core.models import GpuProcess
from gpumod_tui.core.status.history import Column, History
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.poller import Poller, Rates
from gpumod_tui.core.status.snapshot import take_snapshot
from gpumod_tui.core.text import MIB
from gpumod_tui.demo.clock import PlayedClock
from gpumod_tui.demo.host import DemoHost


def filmed(host: DemoHost, history: History, seconds: float, *, every_s: float = 0.5) -> None:
    """Let time go by and feed the history as the poller does."""
    assert isinstance(host.clock, PlayedClock)
    poller = Poller(host, Recorded, rates=Rates())
    poller._callback = history.add
    for _ in range(round(seconds / every_s)):
        poller.look_at_units()
        poller.look_at_gpus()
        host.clock.advance(every_s)


def test_memory_is_laid_to_units_and_strangers() -> None:
    host = DemoHost(running=["glm-code"])
    host.foreign(1000)
    history = History()
    filmed(host, history, 12.0)
    column = history.newest(0)
    assert column is not None
    assert {name: amount // MIB for name, amount in column.by_unit.items()} == {"glm-code": 19968}
    assert (column.foreign_bytes // MIB, column.releasing_bytes, column.other_bytes // MIB) == (1000, 0, 15)
    parts = (*column.by_unit.values(), column.foreign_bytes, column.releasing_bytes, column.other_bytes)
    assert column.used_bytes == sum(parts)


def test_memory_on_its_way_back_is_nobodys_and_shown_as_releasing() -> None:
    host = DemoHost(running=["glm-code"])
    host.world.release_s = 6.0
    history = History()
    filmed(host, history, 2.0)
    host.units.stop("glm-code.service")
    filmed(host, history, 4.0)
    column = history.newest(0)
    assert column is not None
    assert (dict(column.by_unit), column.releasing_bytes // MIB) == ({}, 19968)
    filmed(host, history, 4.0)
    column = history.newest(0)
    assert column is not None
    assert column.releasing_bytes == 0


def test_growth_between_two_process_lists_is_not_called_releasing() -> None:
    host = DemoHost(running=["glm-code"])
    glm = host.registry.service("glm-code")
    host.drivers(glm).unload(glm, "GLM-4.7-Flash-UD-Q4_K_XL")
    history = History()
    filmed(host, history, 4.0)
    host.drivers(glm).load(glm, "GLM-4.7-Flash-UD-Q4_K_XL")
    poller = Poller(host, Recorded)
    poller._callback = history.add
    assert isinstance(host.clock, PlayedClock)
    for _ in range(20):
        poller.look_at_units()
        poller.look_at_gpus()
        column = history.newest(0)
        assert column is not None
        assert column.releasing_bytes == 0
        host.clock.advance(0.5)


def test_a_closed_column_keeps_its_highest_moment_and_the_live_one_the_newest() -> None:
    host = DemoHost()
    history = History()
    filmed(host, history, 5.0)
    host.end_foreign(host.foreign(8000))
    host.let_go()
    pid = host.foreign(5000)
    filmed(host, history, 2.0)
    host.end_foreign(pid)
    host.let_go()
    filmed(host, history, 2.0)
    live = history.newest(0)
    assert live is not None
    assert live.foreign_bytes == 0
    filmed(host, history, 4.0)
    cells = history.cells(0, end=host.clock.time(), window_s=20.0, count=4)
    assert max(cell.foreign_bytes // MIB for cell in cells if cell) == 5000
    assert cells[-1] is not None
    assert cells[-1].foreign_bytes == 0


def test_memory_is_bounded_and_gaps_stay_gaps() -> None:
    host = DemoHost()
    history = History(fine=(1.0, 10), coarse=(4.0, 5))
    filmed(host, history, 60.0)
    assert [len(list(ring)) for ring in history._tracks[0].rings] == [11, 6]
    assert isinstance(host.clock, PlayedClock)
    host.clock.advance(4.0)
    filmed(host, history, 1.0)
    known = [cell is not None for cell in history.cells(0, end=host.clock.time() - 0.5, window_s=8.0, count=8)]
    # The one after a column stands for a sample that came late.
    assert known == [True, True, True, True, False, False, False, True]
    assert history.cells(5, end=0.0, window_s=8.0, count=2) == (None, None)


def test_a_long_window_is_taken_from_the_coarse_ring_and_a_closed_cell_never_changes() -> None:
    host = DemoHost(running=["glm-code"])
    history = History(fine=(1.0, 20), coarse=(5.0, 100))
    filmed(host, history, 200.0)
    began = history.since(0)
    assert began is not None
    end = host.clock.time()
    before = history.cells(0, end=end, window_s=190.0, count=23)
    assert all(before)
    filmed(host, history, 190.0 / 23)
    after = history.cells(0, end=host.clock.time(), window_s=190.0, count=23)
    assert after[:-2] == before[1:-1]
    assert history.since(0) == began


def test_a_short_window_fills_more_cells_than_there_are_samples() -> None:
    host = DemoHost(running=["glm-code"])
    history = History()
    filmed(host, history, 70.0)
    assert all(history.cells(0, end=host.clock.time(), window_s=60.0, count=190))


def test_a_cell_shows_its_highest_column_and_the_newest_cell_its_last_sample() -> None:
    snapshot = take_snapshot(DemoHost(), Recorded)
    assert snapshot.gpus is not None
    (sample,) = snapshot.gpus.gpus
    history = History()

    def cells(at: float, used_gib: int) -> list[int | None]:
        gpus = replace(snapshot.gpus, gpus=(replace(sample, used_bytes=used_gib * 1024 * MIB),))  # type: ignore[type-var]
        history.add(replace(snapshot, at=at, gpus=gpus))
        found = history.cells(0, end=at, window_s=20.0, count=2)
        return [None if cell is None or cell.used_bytes is None else cell.used_bytes // 1024 // MIB for cell in found]

    assert cells(1001.0, 5) == [None, 5]
    assert cells(1003.0, 20) == [None, 20]
    assert cells(1005.0, 3) == [None, 3]
    assert cells(1011.0, 4) == [20, 4]
    assert cells(1012.0, 2) == [20, 2]


def test_a_look_back_keeps_what_was_known_while_new_samples_come_in() -> None:
    host = DemoHost(running=["glm-code"])
    history = History(fine=(1.0, 10), coarse=(5.0, 3))
    filmed(host, history, 20.0)
    frozen, at = history.copy(), host.clock.time()
    before = frozen.cells(0, end=at, window_s=10.0, count=10)
    filmed(host, history, 60.0)
    assert frozen.cells(0, end=at, window_s=10.0, count=10) == before
    assert history.cells(0, end=at, window_s=10.0, count=10) != before


def test_a_clock_that_was_set_back_begins_anew() -> None:
    host = DemoHost()
    history = History()
    filmed(host, history, 30.0)
    snapshot = take_snapshot(host, Recorded)
    history.add(replace(snapshot, at=snapshot.at - 3600))
    assert history.since(0) == snapshot.at - 3600


def test_what_the_gpu_does_not_tell_is_unknown_or_what_is_not_free() -> None:
    host = DemoHost(running=["glm-code"])
    snapshot = take_snapshot(host, Recorded)
    assert snapshot.gpus is not None
    (sample,) = snapshot.gpus.gpus
    history = History()

    def newest(**changes: object) -> Column:
        reading = replace(snapshot.gpus, gpus=(replace(sample, **changes),))  # type: ignore[arg-type, type-var]
        history.add(replace(snapshot, gpus=reading))
        column = history.newest(0)
        assert column is not None
        return column

    assert (newest(used_bytes=None).used_bytes or 0) == (sample.total_bytes or 0) - (sample.free_bytes or 0)
    assert newest(used_bytes=None, free_bytes=None).used_bytes is None
    unsized = newest(processes=(GpuProcess(1, None),))
    assert unsized.unsized
    assert unsized.releasing_bytes == 0


def test_six_hours_of_sixteen_gpus_take_bounded_memory() -> None:
    host = DemoHost(gpu_count=16)
    history = History()
    snapshot = take_snapshot(host, Recorded)
    tracemalloc.start()
    for second in range(0, 8 * 3600, 5):
        history.add(replace(snapshot, at=snapshot.at + second))
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken < 16 * MIB
