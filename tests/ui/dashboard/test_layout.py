"""Where panes go: on any screen whole, beside each other without a gap, and nothing below the least size."""

import pytest

from gpumod_tui.core.events import Step, StepEnded, SwitchEnded
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.dashboard.layout import LEAST_HEIGHT, LEAST_WIDTH, Place, places
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.played import Box, until
from tests.ui.terminal.test_painting import a_crowd

SIZES = [(40, 10), (60, 16), (80, 24), (120, 40), (200, 60), (300, 100)]


def cells(place: Place) -> set[tuple[int, int]]:
    return {(x, y) for x in range(place.x, place.x + place.width) for y in range(place.y, place.y + place.height)}


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("gpus", [1, 2, 8, 16])
@pytest.mark.parametrize("steps", [0, 8, 20])
@pytest.mark.parametrize("units", [2, 6, 35])
@pytest.mark.parametrize("planning", [0, 1])
def test_panes_share_the_screen(width: int, height: int, gpus: int, steps: int, units: int, planning: int) -> None:
    wanted = places(width, height, gpus=gpus, steps=steps, units=units, planning=planning)
    assert wanted is not None
    screen = cells(Place(0, 0, width, height))
    seen: set[tuple[int, int]] = set()
    for name, place in wanted.items():
        here = cells(place)
        assert here <= screen, name
        assert not here & seen, name
        seen |= here
    assert wanted["units"].height >= 2
    assert wanted["planning"].height == planning
    assert wanted["journal"].height >= 2
    assert wanted["footer"].y == height - 1


def test_many_units_on_a_wide_screen_have_the_journal_beside_them() -> None:
    few = places(200, 60, gpus=1, steps=0, units=6)
    many = places(200, 60, gpus=1, steps=0, units=25)
    assert few is not None
    assert many is not None
    assert few["journal"].x == 0
    assert few["gpus"].height == 19
    assert many["journal"] == Place(111, 1, 89, 58)
    assert many["units"].height == 25
    assert many["gpus"].height > few["gpus"].height


def test_one_pane_may_have_the_screen() -> None:
    assert places(80, 24, gpus=1, steps=2, units=6, planning=1, zoomed="journal") == {
        "header": Place(0, 0, 80, 1),
        "footer": Place(0, 23, 80, 1),
        "planning": Place(0, 1, 80, 1),
        "steps": Place(0, 2, 80, 2),
        "journal": Place(0, 4, 80, 19),
    }


@pytest.mark.parametrize("size", [(LEAST_WIDTH - 1, 24), (80, LEAST_HEIGHT - 1), (20, 4)])
async def test_a_screen_too_small_says_so_and_comes_back(size: tuple[int, int]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        board = box.app.dashboard
        assert board.too_small.display
        assert "Too small" in board.too_small.text()
        assert [widget for widget in board.query("Painted") if widget.display] == [board.too_small]
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        hidden = [widget.id for widget in board.query("Painted") if not widget.display]
        assert hidden == ["planning", "steps", None]
        assert "glm-code" in board.units.text()
        assert board.focused is board.units


async def test_zoom_gives_the_journal_the_screen_and_back() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        board = box.app.dashboard
        await pilot.press("z")
        await pilot.pause()
        assert board.journal.region.height == 22
        assert board.journal.has_focus
        assert board.units.region.height == 0
        await pilot.press("escape")
        await pilot.pause()
        assert board.units.region.height == 5
        assert board.focused is board.units


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40)])
async def test_a_switch_is_told_above_what_is_zoomed(size: tuple[int, int]) -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        board = box.app.dashboard
        await pilot.press("z")
        begin(box)
        await until(pilot, lambda: "▸ load" in board.steps.text())
        assert "Switch to nemotron" in board.steps.text().splitlines()[0]
        assert (board.steps.region.y, board.steps.region.height) == (1, 2)
        assert board.journal.region.height == size[1] - 4
        box.emit(StepEnded(Step.LOAD, False, "out of memory", 9.0))
        box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
        await until(pilot, lambda: "out of memory" in board.steps.text())
        assert "Switch to nemotron: failed" in board.steps.text()
        assert "r retry" in board.footer.text()
        assert board.journal.region.height >= 5


async def test_what_a_switch_needs_is_there_on_a_tiny_screen() -> None:
    box = a_crowd()
    async with box.app.run_test(size=(40, 10)) as pilot:
        await shown(box, pilot)
        begin(box)
        await pilot.pause()
        assert "nemotron" in box.app.dashboard.header.text()
        assert box.app.dashboard.units.size.height >= 2
        assert "esc cancel" in box.app.dashboard.footer.text()
