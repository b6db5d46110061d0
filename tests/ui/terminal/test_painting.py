"""What reaches the line to the operator: only what changed, and nothing that a terminal obeys."""

import dataclasses
from typing import Any

import pytest
from rich.style import Style
from textual.pilot import Pilot

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import DriverKind, LogLine, Service, Snapshot
from gpumod_tui.core.status.history import Column
from gpumod_tui.core.text import GIB
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.ui.app import GpumodApp
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import clip_middle, fit, spread, strip
from gpumod_tui.ui.dashboard.layout import heights
from gpumod_tui.ui.gpus.graph import AXIS_WIDTH, graph_rows
from gpumod_tui.ui.theme.styles import FOREIGN, UnitColours
from gpumod_tui.ui.units.pane import UnitTable
from tests.ui.counted import CountedApp, written
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, a_long_day

BLUE = Style(color="#0000ff")
CELL_S = 600 / (120 - AXIS_WIDTH - 1)
"""Seconds between two moves of a graph of ten minutes at 120 columns."""


async def cost(box: Box, pilot: Pilot[Any], snapshot: Snapshot) -> int:
    """Bytes written for one more snapshot."""
    before = written(box.app)
    box.snapshots.push(snapshot)
    await pilot.pause()
    await pilot.pause(0.1)
    return written(box.app) - before


async def test_a_tick_without_change_costs_nothing_and_a_changed_row_only_itself() -> None:
    box = Box("glm-code")
    box.app = box.make(CountedApp)
    box.film(30)
    while box.clock.time() % CELL_S > CELL_S - 3.5:
        box.film(1)
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        same = box.look()
        assert written(box.app) > 4000
        await cost(box, pilot, same)
        assert await cost(box, pilot, dataclasses.replace(same, at=same.at + 0.5)) == 0
        reading = same.gpus
        assert reading is not None
        warmer = dataclasses.replace(reading.gpus[0], temperature_c=71)
        hot = dataclasses.replace(same, at=same.at + 3.0, gpus=dataclasses.replace(reading, gpus=(warmer,)))
        assert 0 < await cost(box, pilot, hot) < 700


async def test_a_graph_that_moves_on_costs_its_own_rows_and_little_of_them() -> None:
    box = a_long_day()
    box.app = box.make(CountedApp)
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        spent, ticks = 0, 0
        snapshot = box.look()
        for _ in range(12):
            snapshot = dataclasses.replace(snapshot, at=snapshot.at + 0.5)
            bytes_ = await cost(box, pilot, snapshot)
            ticks += bytes_ > 0
            spent += bytes_
        print(f"{spent} bytes in 6 s, in {ticks} ticks")
        assert ticks <= 2
        assert spent < 2500


@pytest.mark.parametrize(
    ("line", "shown_as"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]52;c;cm0gLXJm\x1b\\text", "text"),
        ("a\x07b\x00c\x9b2Jd", "a·b·cd"),
        ("a\tb", "a    b"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("left\u202eright", "left·right"),
        ("line\r\n", "line"),
    ],
)
def test_log_lines_are_harmless(line: str, shown_as: str) -> None:
    assert fmt.harmless(line) == shown_as


async def test_no_control_character_of_a_log_line_is_painted() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        box.journal.sink(LogLine(0.0, "glm-code.service", "\x1b[2J" + "".join(map(chr, range(160))) + "漢字" * 40))
        box.app.flush()
        text = box.app.dashboard.journal.text()
        assert all(char.isprintable() or char == "\n" for char in text)


async def test_no_colour_is_survived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        assert box.app.no_color


def test_the_graph_stacks_holders_on_a_fixed_scale() -> None:
    column = Column(1.0, 12 * GIB, by_unit={"a": 6 * GIB, "b": 4 * GIB}, releasing_bytes=2 * GIB)
    rows = graph_rows([None, column], 24 * GIB, 12, UnitColours(["a", "b"]).style)
    text = ["".join(part for part, _ in row) for row in rows]
    assert [line[5:] for line in text] == ["  "] * 6 + [" ░"] + [" █"] * 5
    assert [line[:5] for line in text[::2]] == [" 24 ┤", " 20 ┤", " 16 ┤", " 12 ┤", "  8 ┤", "  4 ┤"]
    colours = [row[-1][1].color for row in rows[7:]]
    assert len(set(colours)) == 2
    assert colours == sorted(colours, key=colours.index)


def test_two_holders_that_meet_in_a_cell_share_it() -> None:
    column = Column(1.0, 10 * GIB, by_unit={"a": 5 * GIB, "b": 5 * GIB})
    rows = graph_rows([column], 24 * GIB, 12, UnitColours(["a", "b"]).style)
    char, style = rows[12 - 3][-1]
    assert char == "▄"
    assert style.bgcolor == rows[12 - 4][-1][1].color


def test_memory_of_no_unit_has_a_texture_and_names_stand_in_their_bands() -> None:
    column = Column(1.0, 18 * GIB, by_unit={"unit-a": 12 * GIB}, foreign_bytes=4 * GIB, releasing_bytes=2 * GIB)
    rows = graph_rows([column] * 16, 24 * GIB, 12, UnitColours(["unit-a"]).style)
    text = ["".join(part for part, _ in row)[AXIS_WIDTH:] for row in rows]
    assert text[3].endswith(" releasing ░")
    assert set(text[3]) <= set("░ releasing")
    assert set(text[4] + text[5]) <= set("▒ not managed")
    assert sum("unit-a" in line for line in text) == 1
    assert [line for line in text[6:] if "unit" not in line] == ["█" * 16] * 5


@pytest.mark.parametrize("unit_gib", [0.2, 0.6, 1.0, 1.4])
def test_a_little_foreign_memory_is_seen_on_top_of_whatever_else(unit_gib: float) -> None:
    column = Column(1.0, 0, by_unit={"a": int(unit_gib * GIB)}, foreign_bytes=GIB // 2)
    char, style = graph_rows([column], 24 * GIB, 12, UnitColours(["a"]).style)[-1][-1]
    assert char in "▁▂▃▄▅▆"
    assert style.bgcolor == FOREIGN.color


def test_rows_are_exactly_as_wide_as_asked() -> None:
    row = [("漢字漢字", BLUE), ("abc", BLUE)]
    for width in range(14):
        assert strip(row, width).cell_length == width
        assert sum(len(text) for text, _ in fit([("abcdef", BLUE)], width)) == width
    assert "".join(text for text, _ in spread([("left" * 9, BLUE)], [("right", BLUE)], 12)) == "leftle…right"


@pytest.mark.parametrize("screen", [10, 16, 24, 30, 40, 60])
@pytest.mark.parametrize("gpus", [1, 2, 8])
@pytest.mark.parametrize("steps", [0, 8, 20])
def test_heights_never_exceed_the_screen(screen: int, gpus: int, steps: int) -> None:
    shares = heights(screen, gpus=gpus, steps=steps, units=6)
    assert all(height >= 0 for height in shares.values())
    if screen >= 24 and gpus <= 2:
        assert 3 + sum(shares.values()) <= screen - 1


def unit_lines(box: Box, width: int) -> list[str]:
    table = UnitTable(UnitColours(box.host.registry.services))
    table.set_reactive(UnitTable.snapshot, box.look())
    return [row.text for row in table.rows(width, 12)]


@pytest.mark.parametrize("width", [80, 100, 110, 120, 200])
def test_columns_of_the_unit_table_stand_under_their_titles(width: int) -> None:
    box = Box("glm-code")
    box.host.foreign(1000)
    head, *rows = unit_lines(box, width)
    assert all(len(row) == width for row in [head, *rows])
    assert head.index("state") == rows[0].index("active running") == rows[1].index("inactive dead")
    assert head.index("ready") + 2 == rows[0].index("●")
    assert rows[0].rstrip().endswith("now")
    assert "7070" in rows[0]


def test_the_unit_table_tells_unknown_from_nothing() -> None:
    box = Box("glm-code")
    box.host.gpus.tells_processes = False
    _, glm, nemotron, *_ = unit_lines(box, 120)
    assert "N/A" in glm
    assert "N/A" not in nemotron


@pytest.mark.parametrize("size", [(40, 10), (60, 16), (200, 60)])
async def test_other_sizes_show_the_modes_and_the_units(size: tuple[int, int]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        assert "3 code" in box.app.dashboard.modes.text()
        assert "glm-code" in box.app.dashboard.units.text()
        assert box.app.dashboard.footer.region.bottom == size[1]


def a_crowd(count: int = 34) -> Box:
    """A box with more units than an 80x24 screen has rows."""
    box = Box()
    services = [
        Service(f"svc-with-a-rather-long-name-{number}", f"Service {number}", DriverKind.COMMAND)
        for number in range(count)
    ]
    modes = {"blank": box.host.registry.mode("blank")}
    registry = ServiceRegistry({service.id: service for service in services}, modes)
    box.host = DemoHost(box.clock, registry=registry)
    box.app = box.make(GpumodApp)
    return box


async def test_units_out_of_sight_are_counted_and_the_cursor_brings_them_up() -> None:
    box = a_crowd()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        units, journal = box.app.dashboard.units, box.app.dashboard.journal
        assert journal.size.height == 6
        assert units.size.height == 14
        assert "Units, 21 more ↓" in units.text()
        assert "svc-with-a…-name-0" in units.text()
        await pilot.press(*["down"] * 20)
        assert "▸■ svc-with-a…name-20" in units.text()
        assert "Units, 21 more ↑↓" in units.text()
        await pilot.press(*["down"] * 13)
        assert "▸■ svc-with-a…name-33" in units.text().splitlines()[-1]
        assert "Units, 21 more ↑ " in units.text()


@pytest.mark.parametrize("steps", [0, 8, 20])
def test_a_crowd_of_units_leaves_the_journal_its_lines(steps: int) -> None:
    shares = heights(24, gpus=1, steps=steps, units=35)
    assert 24 - 3 - sum(shares.values()) >= (5 if steps else 6)


def test_long_names_are_told_apart_by_their_ends() -> None:
    assert clip_middle("svc-with-a-rather-long-name-17", 18) == "svc-with-a…name-17"
    assert clip_middle("glm-code", 18) == "glm-code"
    for width in range(1, 31):
        assert len(clip_middle("svc-with-a-rather-long-name-17", width)) == width


def test_a_table_that_went_stale_says_so() -> None:
    box = Box("glm-code")
    table = UnitTable(UnitColours(box.host.registry.services))
    table.set_reactive(UnitTable.snapshot, dataclasses.replace(box.look(), units_error="no user bus"))
    text = [row.text.rstrip() for row in table.rows(80, table.wanted_height)]
    assert text[1] == "  cannot be read: no user bus"
    assert len(text) == 6


@pytest.mark.parametrize("at", [1e300, -1e300, float("inf"), float("nan")])
def test_odd_times_are_survived(at: float) -> None:
    assert fmt.clock(at) == "–"
    fmt.ago(at, 1.79e9)
