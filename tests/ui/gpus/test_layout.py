"""1 to 16 GPUs on any screen: all of them are seen, as graphs where these can be read."""

import pytest

from gpumod_tui.ui.dashboard.layout import places
from gpumod_tui.ui.gpus.layout import GRAPH_LEAST, GRAPH_WIDTH, arrange, bars_in, graphs_in

SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]
EXPECTED = {
    # width × height: GPUs → graphs?, side by side, rows of all
    (40, 10): {1: (False, 1, 1), 2: (False, 1, 2), 4: (False, 2, 2), 8: (False, 4, 2), 16: (False, 8, 2)},
    (80, 24): {1: (False, 1, 1), 2: (False, 1, 2), 4: (False, 1, 4), 8: (False, 2, 4), 16: (False, 3, 6)},
    (120, 40): {1: (True, 1, 15), 2: (True, 1, 22), 4: (True, 2, 22), 8: (False, 1, 8), 16: (False, 2, 8)},
    (200, 60): {1: (True, 1, 19), 2: (True, 1, 38), 4: (True, 1, 40), 8: (True, 3, 36), 16: (True, 3, 42)},
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("gpus", [1, 2, 4, 8, 16])
def test_what_each_screen_shows(size: tuple[int, int], gpus: int) -> None:
    width, height = size
    wanted = places(width, height, gpus=gpus, steps=0, units=6)
    assert wanted is not None
    rows = wanted["gpus"].height
    plan = arrange(gpus, width, rows)
    assert (plan.graphs, plan.across, rows) == EXPECTED[size][gpus]
    assert plan.shown(gpus, rows) == gpus
    assert plan.across * plan.width <= width


@pytest.mark.parametrize("gpus", range(1, 17))
@pytest.mark.parametrize("width", [40, 80, 120, 200, 300])
@pytest.mark.parametrize("height", [1, 2, 6, 15, 40])
def test_nothing_is_wider_or_higher_than_the_panel(gpus: int, width: int, height: int) -> None:
    graphs, bars = graphs_in(gpus, width, height), bars_in(gpus, width, height)
    if graphs is not None:
        assert graphs.rows(gpus) <= height
        assert graphs.height >= GRAPH_LEAST + graphs.headings + 1
        assert graphs.across == 1 or graphs.width >= GRAPH_WIDTH
    assert bars.width >= 5
    assert bars.rows(gpus) <= height or bars.shown(gpus, height) < gpus


@pytest.mark.parametrize("gpus", [1, 2])
def test_graphs_asked_for_at_80x24_get_their_rows(gpus: int) -> None:
    wanted = places(80, 24, gpus=gpus, steps=0, units=6, graphs=True)
    assert wanted is not None
    assert arrange(gpus, 80, wanted["gpus"].height, graphs=True).graphs
    assert wanted["units"].height >= 2
    assert wanted["journal"].height >= 3


def test_bars_asked_for_take_a_row_each() -> None:
    wanted = places(120, 40, gpus=2, steps=0, units=6, graphs=False)
    assert wanted is not None
    assert wanted["gpus"].height == 2
