"""The first line: what it says of the mode, what gives way where there is little room, and that it is everywhere."""

from dataclasses import replace

import pytest

from gpumod_tui.core.models import ModeTruth, ModeView, Snapshot
from gpumod_tui.ui.dashboard.header import HeaderLine
from gpumod_tui.ui.modes.editor import ModeEditor
from gpumod_tui.ui.modes.picker import ModePicker
from gpumod_tui.ui.modes.simulate import WhatIfScreen
from gpumod_tui.ui.switch.history import SwitchesScreen
from gpumod_tui.ui.switch.progress import Progress
from gpumod_tui.ui.units.details import DetailsScreen
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.played import Box, until


def line(snapshot: Snapshot | None, width: int, *, alarms: int = 0, progress: Progress | None = None) -> str:
    header = HeaderLine("a-host-with-a-name")
    header.set_reactive(HeaderLine.snapshot, snapshot)
    header.set_reactive(HeaderLine.alarms, alarms)
    header.set_reactive(HeaderLine.progress, progress)
    (row,) = header.rows(width, 1)
    assert row.cell_length == width
    return row.text


def looked(*running: str) -> Snapshot:
    return Box(*running).look()


@pytest.mark.parametrize(
    ("width", "seen", "left_out"),
    [
        (120, ("a-host-with-a-name", "code ● reached 14:13", "NVIDIA 580.65.06", "14:13"), ()),
        (60, ("a-host-with-a-name", "code ● reached 14:13", "14:13"), ("NVIDIA",)),
        (40, ("code ● reached 14:13", "  14:13 "), ("NVIDIA", "a-host")),
    ],
)
def test_the_least_important_gives_way(width: int, seen: tuple[str, ...], left_out: tuple[str, ...]) -> None:
    text = line(looked("glm-code"), width)
    for words in seen:
        assert words in text
    for words in left_out:
        assert words not in text


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_alarms_and_the_clock_are_never_left_out(width: int) -> None:
    text = line(looked("glm-code"), width, alarms=2)
    assert "✖ 2" in text
    assert text.endswith(" 14:13 ")
    assert "code ●" in text


def test_what_changed_since_is_told_with_its_time() -> None:
    box = Box("glm-code")
    box.film(600)
    box.host.units.start("vllm-embedding.service")
    box.film(60)
    text = line(box.look(), 120)
    assert "code ◆ drifted 14:23: vllm-embedding runs too" in text
    box.host.units.stop("vllm-embedding.service")
    box.host.die("glm-code")
    box.film(60)
    assert "code ◐ partial 14:24: glm-code failed (exit-code)" in line(box.look(), 120)
    assert line(box.look(), 40).startswith(" code ◐ partial 14:24: glm-cod")


def test_a_switch_that_runs_is_all_that_matters() -> None:
    text = line(looked("glm-code"), 40, progress=Progress("nemotron", 0.0))
    assert "▸ Switch to nemotron" in text


def test_what_is_not_known_is_not_made_up() -> None:
    assert "looking" in line(None, 80)
    snapshot = looked()
    nothing = replace(snapshot, mode=ModeView(None, ModeTruth.UNKNOWN, "no switch was recorded yet"))
    assert "no mode ○ unknown: no switch was recorded yet" in line(nothing, 80)
    assert snapshot.gpus is not None
    unnamed = replace(nothing, gpus=replace(snapshot.gpus, driver_version=None))
    assert "NVIDIA N/A" in line(unnamed, 120)


FULL = {
    "enter": DetailsScreen,
    "w": WhatIfScreen,
    "m": ModePicker,
    "m enter": ModeEditor,
    "h": SwitchesScreen,
}


@pytest.mark.parametrize("keys", FULL)
async def test_every_full_screen_says_what_the_box_does_meanwhile(keys: str) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 16)) as pilot:
        await shown(box, pilot)
        await pilot.press(*keys.split())
        await until(pilot, lambda: isinstance(box.app.screen, FULL[keys]))
        header = box.app.screen.query_one(HeaderLine)
        await until(pilot, lambda: header.text() == box.app.dashboard.header.text())
        assert "code ● reached" in header.text()
        begin(box)
        await until(pilot, lambda: "▸ Switch to nemotron: load 71 %" in header.text())
        box.host.lose_gpu(0, "GPU is lost")
        box.clock.advance(120.0)
        box.snapshots.push(box.look())
        await until(pilot, lambda: "✖ 1 GPU alarm" in header.text())
        assert "14:15" in header.text()
        await pilot.resize_terminal(80, 15)
        await until(pilot, lambda: not header.display)
        await pilot.resize_terminal(80, 30)
        await until(pilot, lambda: header.display and header.region.y == 0)
