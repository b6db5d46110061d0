"""The GPU panel: what its keys do, what every state of a GPU looks like, and that nothing unknown reads as zero."""

from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.admission.commitments import Refusal
from gpumod_tui.core.events import SwitchEnded, SwitchSeen, SwitchStarted
from gpumod_tui.core.models import GpuSample, Snapshot
from gpumod_tui.core.switch.records import SwitchRecord
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.core.text import GIB
from gpumod_tui.ui.gpus.graph import AXIS_WIDTH
from gpumod_tui.ui.gpus.pane import WINDOWS_MIN
from gpumod_tui.ui.theme.styles import ALARM
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, a_long_day, press_at_once

BIG, SMALL = (120, 40), (80, 24)


def panel(box: Box) -> str:
    return box.app.dashboard.gpus.text()


def head(box: Box) -> str:
    return panel(box).splitlines()[0]


async def show(box: Box, pilot: Pilot[Any], snapshot: Snapshot) -> None:
    box.snapshots.push(snapshot)
    await pilot.pause()
    await pilot.pause()


def with_gpus(snapshot: Snapshot, *samples: GpuSample) -> Snapshot:
    assert snapshot.gpus is not None
    return replace(snapshot, gpus=replace(snapshot.gpus, gpus=samples))


def sample_of(snapshot: Snapshot) -> GpuSample:
    assert snapshot.gpus is not None
    return snapshot.gpus.gpus[0]


# -- keys --------------------------------------------------------------------------------------------------------


async def test_the_window_grows_and_shrinks_and_says_since_when_it_knows() -> None:
    box = a_long_day()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        assert " since 14:13, 10 min" in head(box)
        seen = []
        for _ in range(10):
            await pilot.press("plus")
            seen.append(head(box).rstrip(" ─").rsplit(", ", 1)[-1])
        assert seen == ["30 min", "1 h", "3 h"] + ["6 h"] * 7
        for _ in range(10):
            await pilot.press("minus")
        assert head(box).rstrip(" ─").endswith(" 1 min")
        assert "since" not in head(box)
        assert WINDOWS_MIN[0] == 1


async def test_a_frozen_graph_stands_still_while_time_goes_on_behind_it() -> None:
    box = a_long_day()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await pilot.press("space")
        assert "FROZEN" in head(box)
        before = panel(box).splitlines()[1:]
        box.film(45)
        await shown(box, pilot)
        assert panel(box).splitlines()[1:] == before
        assert "40 s behind" in head(box)
        box.film(760, every_s=2.0)
        box.mark("later")
        await shown(box, pilot)
        assert panel(box).splitlines()[1:] == before
        await pilot.press("space")
        assert "FROZEN" not in head(box)
        assert panel(box).splitlines()[1:] != before


async def test_the_cursor_tells_time_holders_used_and_free() -> None:
    box = a_long_day()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await pilot.press("space")
        assert "14:21:51 · glm-code 19.5 · not managed 1.2 · used 20.7 · free 2.8 GiB" in head(box)
        await pilot.press("left")
        assert "glm-code 19.5" in head(box)
        assert "14:21:50" in head(box)
        await pilot.press(*["shift+left"] * 6)
        assert "devstral-small-2 14.3 · vllm-embedding" in head(box)
        await pilot.press("right", "shift+right")
        assert "14:17:" in head(box)
        cursor = [line[AXIS_WIDTH:].index("│") for line in panel(box).splitlines()[1:-2]]
        assert len(set(cursor)) == 1


async def test_the_cursor_names_what_happened_there() -> None:
    box = a_long_day()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await pilot.press("space")
        told = set()
        for _ in range(110):
            await pilot.press("left")
            told |= {word for word in ("▲ code", "✖ devstral-small-2", "▲ blank") if word in head(box)}
        assert told == {"▲ code", "✖ devstral-small-2", "▲ blank"}


async def test_the_window_follows_the_cursor_past_its_edge_and_comes_back() -> None:
    box = a_long_day()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await pilot.press("minus", "minus", "space")
        newest = head(box)
        await press_at_once(pilot, *["shift+left"] * 20)
        assert "14:20:0" in head(box)
        await press_at_once(pilot, *["shift+right"] * 30)
        assert head(box) == newest
        await press_at_once(pilot, *["shift+left"] * 300)
        assert "nothing is known of this moment" in head(box)
        assert "14:1" in head(box)


async def test_a_longer_window_keeps_the_cursor_at_its_time() -> None:
    box = a_long_day()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await pilot.press("minus", "space", *["shift+left"] * 5)
        assert "14:19:" in head(box)
        await pilot.press("plus")
        assert "14:19:" in head(box)
        await pilot.press("minus", "minus")
        assert "14:19:" in head(box)


async def test_escape_lets_a_frozen_graph_go_on() -> None:
    box = a_long_day()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await pilot.press("space", "escape")
        assert "FROZEN" not in head(box)


async def test_keys_of_a_graph_are_offered_only_where_there_is_one() -> None:
    box = a_long_day()
    async with box.app.run_test(size=SMALL) as pilot:
        await shown(box, pilot)
        await pilot.press("space", "left", "plus")
        assert "FROZEN" not in panel(box)
        assert not {"gpu.freeze", "gpu.earlier", "gpu.longer"} & active(box)
        assert "gpu.form" in active(box)
        await pilot.press("v")
        assert {"gpu.freeze", "gpu.longer"} <= active(box)
        assert "gpu.earlier" not in active(box)
        await pilot.press("space")
        assert {"gpu.unfreeze", "gpu.earlier", "gpu.ten_later"} <= active(box)
        assert "space go on" in box.app.dashboard.footer.text()


def active(box: Box) -> set[str | None]:
    return {entry.binding.id for entry in box.app.dashboard.active_bindings.values()}


@pytest.mark.parametrize("size", [SMALL, BIG])
async def test_graph_and_bars_change_places(size: tuple[int, int]) -> None:
    box = a_long_day()
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        heights = []
        for _ in range(3):
            heights.append(len(panel(box).splitlines()))
            await pilot.press("v")
            await pilot.pause()
        assert heights == ([1, 15, 1] if size == SMALL else [15, 1, 15])
        assert box.app.dashboard.units.size.height >= 3


async def test_switches_of_this_and_of_other_processes_and_refusals_are_marked() -> None:
    box = Box("glm-code")
    box.film(300)
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        now = box.clock.time()
        record = SwitchRecord("x", "rag", 4711, 1, now - 250, outcome=str(Outcome.DONE), ended_at=now - 200)
        box.emit(SwitchSeen(record, running=False))
        box.emit(SwitchStarted("nemotron", now - 100))
        box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
        refusal = Refusal("nemotron-3-nano.service", "Nemotron", "no room", now - 50)
        await show(box, pilot, replace(box.look(), refusals=(refusal,)))
        axis = panel(box).splitlines()[13]
        for words in ("△rag", "▲rag", "△nemotron", "⊘", "✖"):
            assert words in axis
        assert axis.index("△rag") < axis.index("▲rag") < axis.index("△nemotron") < axis.index("⊘") < axis.index("✖")


# -- alarms ------------------------------------------------------------------------------------------------------


async def test_an_xid_is_loud_until_it_is_acknowledged() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        assert "ALARM" not in panel(box)
        assert "gpu.acknowledge" not in active(box)
        box.host.xid(0, 31)
        box.host.xid(0, 79)
        await shown(box, pilot)
        row = panel(box).splitlines()[1]
        assert row.startswith(" ✖ ALARM 14:13 Xid 79: the GPU fell off the bus: reboot")
        assert row.endswith("and 1 more  a acknowledges")
        styles = {segment.style for segment in box.app.dashboard.gpus.render_line(1) if segment.text.strip()}
        assert all(style and style.bgcolor == ALARM.bgcolor for style in styles)
        assert "✖ 2 GPU alarms" in box.app.dashboard.header.text()
        assert "a acknowledge" in box.app.dashboard.footer.text()
        await pilot.press("a")
        assert "ALARM" not in panel(box)
        assert "alarm" not in box.app.dashboard.header.text()
        await shown(box, pilot)
        assert "ALARM" not in panel(box)
        box.clock.advance(2.0)
        box.host.xid(0, 31)
        await shown(box, pilot)
        assert "ALARM 14:13 Xid 31: a program touched memory it does not have" in panel(box)


async def test_a_lost_gpu_alarms_until_it_is_back_and_anew_when_it_is_lost_again() -> None:
    box = Box("glm-code")
    box.film(150)
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        box.host.lose_gpu(0, "GPU is lost: it fell off the bus")
        await shown(box, pilot)
        assert "ALARM GPU is lost: it fell off the bus" in panel(box)
        assert "glm-code" in panel(box), "what it showed before still stands"
        await pilot.press("a")
        assert "ALARM" not in panel(box)
        assert "GPU is lost" in panel(box)
        box.host.lose_gpu(0, None)
        await shown(box, pilot)
        assert "lost" not in panel(box)
        box.host.lose_gpu(0, "GPU is lost: it fell off the bus")
        await shown(box, pilot)
        assert "ALARM GPU is lost" in panel(box)


async def test_ecc_errors_alarm_and_more_of_them_alarm_again() -> None:
    box = Box()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        box.host.world.cards[0].ecc_errors = 0
        await shown(box, pilot)
        assert "ALARM" not in panel(box)
        for count in (2, 3):
            box.host.world.cards[0].ecc_errors = count
            await shown(box, pilot)
            assert f"ALARM {count} memory errors that ECC could not correct" in panel(box)
            await pilot.press("a")
            assert "ALARM" not in panel(box)


@pytest.mark.parametrize(("size", "gpus"), [((40, 10), 1), ((40, 10), 16), (SMALL, 2), (SMALL, 16), ((200, 60), 16)])
async def test_alarms_are_seen_on_every_screen(size: tuple[int, int], gpus: int) -> None:
    box = Box("glm-code", gpu_count=gpus)
    async with box.app.run_test(size=size) as pilot:
        box.host.xid(gpus - 1, 79)
        await shown(box, pilot)
        assert "✖" in panel(box)
        assert "✖ 1 " in box.app.dashboard.header.text()
        if size == SMALL and gpus == 2:
            assert "✖ 14:13 Xid 79: the GPU fell off the bus" in panel(box)
        await pilot.press("a")
        assert "✖" not in panel(box)


# -- what is not told --------------------------------------------------------------------------------------------


async def test_na_reads_na() -> None:
    box = Box()
    async with box.app.run_test(size=(200, 60)) as pilot:
        await shown(box, pilot)
        snapshot = box.look()
        bare = GpuSample(0, name="Odd GPU", total_bytes=24 * GIB)
        await show(box, pilot, replace(with_gpus(snapshot, bare), at=snapshot.at + 5))
        for words in ("N/A / 24.0 GiB used", "N/A free", "N/A reserved", "load N/A", "heat N/A", "power N/A"):
            assert words in head(box)
        assert "throttle N/A" in head(box)
        assert "Xid unknown" in head(box)
        assert "0.0" not in head(box)
        await show(box, pilot, replace(with_gpus(snapshot, GpuSample(0)), at=snapshot.at + 10))
        assert "N/A / N/A GiB used" in head(box)


async def test_na_reads_na_in_bars_too() -> None:
    box = Box()
    async with box.app.run_test(size=SMALL) as pilot:
        await shown(box, pilot)
        snapshot = replace(box.look(), at=box.clock.time() + 5)
        await show(box, pilot, with_gpus(snapshot, GpuSample(0, total_bytes=24 * GIB)))
        assert panel(box).count("N/A") == 5
        assert "0.0" not in panel(box)
        assert "?" in panel(box)


async def test_a_gpu_that_tells_only_what_is_free_shows_what_is_taken() -> None:
    box = Box()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        snapshot = box.look()
        old = replace(sample_of(snapshot), used_bytes=None, reserved_bytes=None, free_bytes=14 * GIB)
        await show(box, pilot, with_gpus(snapshot, old))
        assert "10.0 / 24.0 GiB taken" in head(box)
        assert "N/A reserved" in head(box)


async def test_unified_memory_says_so() -> None:
    for size in (SMALL, BIG):
        box = Box()
        async with box.app.run_test(size=size) as pilot:
            await shown(box, pilot)
            snapshot = box.look()
            shared = GpuSample(0, name="GB10", total_bytes=120 * GIB, free_bytes=90 * GIB, unified=True)
            await show(box, pilot, with_gpus(snapshot, shared))
            assert "shared with the host" in head(box)
            assert "30.0 / 120.0 GiB" in head(box)


async def test_mig_instances_are_called_by_their_gpu_and_number() -> None:
    box = Box()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        snapshot = box.look()
        whole = sample_of(snapshot)
        parts = [replace(whole, index=100 + number, mig=(0, number), total_bytes=6 * GIB) for number in range(3)]
        await show(box, pilot, with_gpus(snapshot, *parts))
        assert all(f"GPU {100 + number} MIG {number} of GPU 0" in panel(box) for number in range(3))


async def test_who_holds_it_is_na_where_nvml_does_not_tell() -> None:
    box = Box("glm-code")
    box.host.gpus.tells_processes = False
    box.film(10)
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await pilot.press("space")
        assert "by unit N/A · used 19.5" in head(box)


@pytest.mark.parametrize(
    ("size", "gpus", "told"),
    [
        ((120, 40), 1, ["20.3 / 24.0 GiB used", "87 %", "71 °C", "310/450 W", "power cap", "3.3 free", "0.4 reserved"]),
        ((120, 40), 2, ["20.3 / 24.0 GiB used", "87 %", "71 °C", "310/450 W", "power cap", "3.3 free"]),
        ((120, 40), 4, ["20.3 / 24.0 GiB used", "3.3 free", "load 87 %", "71 °C", "310/450 W", "power cap"]),
        ((120, 40), 8, ["20.3 / 24.0 GiB", "87 %", "71 °C", "310/450 W"]),
        ((80, 24), 1, ["20.3 / 24.0 GiB", "87 %", "71 °C", "power cap"]),
        ((80, 24), 2, ["20.3 / 24.0 GiB", "87 %", "71 °C", "power cap"]),
        ((80, 24), 4, ["20.3 / 24.0 GiB", "87 %", "71 °C"]),
        ((40, 10), 1, ["20.3 / 24.0", "87 %"]),
    ],
)
async def test_what_matters_most_of_each_gpu_is_told_where_there_is_little_room(
    size: tuple[int, int], gpus: int, told: list[str]
) -> None:
    box = Box(gpu_count=gpus)
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        busy = replace(
            sample_of(box.look()),
            used_bytes=int(20.3 * GIB),
            free_bytes=int(3.3 * GIB),
            reserved_bytes=int(0.4 * GIB),
            utilization_percent=87,
            temperature_c=71,
            power_w=312.0,
            power_limit_w=450.0,
            throttle_reasons=("power cap",),
        )
        samples = [replace(busy, index=number) for number in range(gpus)]
        await show(box, pilot, replace(with_gpus(box.look(), *samples), at=box.clock.time() + 5))
        for words in told:
            assert panel(box).count(words) == gpus, panel(box)


async def test_throttle_reasons_are_words() -> None:
    box = Box()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        snapshot = replace(box.look(), at=box.clock.time() + 5)
        hot = replace(sample_of(snapshot), throttle_reasons=("power cap", "thermal"))
        await show(box, pilot, with_gpus(snapshot, hot))
        assert "power cap, thermal" in head(box)


async def test_no_gpu_and_no_nvml_are_said() -> None:
    box = Box()
    async with box.app.run_test(size=BIG) as pilot:
        await shown(box, pilot)
        await show(box, pilot, with_gpus(box.look()))
        assert "no NVIDIA GPU in this machine" in panel(box)
        await pilot.press("space", "v", "plus")
        await show(box, pilot, replace(box.look(), gpus=None, gpu_error="no driver"))
        assert "cannot be read: no driver" in panel(box)
