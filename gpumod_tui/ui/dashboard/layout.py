"""How the screen is shared out; pure."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gpumod_tui.ui.gpus.layout import GRAPH_MOST, bars_in, graphs_in

LEAST_WIDTH: Final = 40
LEAST_HEIGHT: Final = 10
"""On a smaller screen nothing can be read any more."""
WIDE: Final = 180
"""Columns from which on the journal may stand beside all else: where there are so many units that it would be short."""
_LEFT_LEAST: Final = 110

_FIXED: Final = 3
"""Header, modes, footer."""
_JOURNAL_LEAST: Final = 6
"""Heading and five lines."""
_JOURNAL_BESIDE_STEPS: Final = 5
"""They carry the line that matters most themselves."""
_JOURNAL_TIGHT: Final = 3
"""On a screen too small for more."""
_JOURNAL_GOOD: Final = 8
_SMALL: Final = 24
"""Rows of screen that everybody has."""
_UNITS_TIGHT: Final = 3
"""Heading and two units, where graphs were asked for on a small screen."""
_GRAPH_SCREEN: Final = 30
"""Rows of screen from which on there are graphs unasked."""


class Place(NamedTuple):
    """A pane's upper left corner and size, in cells; no height: it is not shown."""

    x: int
    y: int
    width: int
    height: int


def places(
    width: int,
    height: int,
    *,
    gpus: int,
    steps: int,
    units: int,
    planning: int = 0,
    zoomed: str = "",
    graphs: bool | None = None,
) -> Mapping[str, Place] | None:
    """Where each pane goes, by its id; None: the screen is too small for any.

    `gpus` in number, `steps`, `units` and `planning` in rows that show everything; `zoomed`: the pane that has the
    screen below steps and planning, which get all their rows then; `graphs`: whether the operator wants graphs of the
    GPUs or bars, None: as there is room.
    """
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return None
    fixed = {"header": Place(0, 0, width, 1), "footer": Place(0, height - 1, width, 1)}
    if zoomed:
        rows = {"planning": planning, "steps": steps, zoomed: height - 2 - planning - steps}
        return {**fixed, **_stack(width, rows)}
    if width >= WIDE and height >= _GRAPH_SCREEN and units > height // 3:
        left = max(_LEFT_LEAST, width * 11 // 20)
        rows = _heights_beside(height, gpus=gpus, steps=steps + planning, units=units, width=left, graphs=graphs)
        return {
            **fixed,
            **_stack(left, _in_order(rows, planning)),
            "journal": Place(left + 1, 1, width - left - 1, height - 2),
        }
    rows = heights(height, gpus=gpus, steps=steps + planning, units=units, width=width, graphs=graphs)
    stacked = _stack(width, _in_order(rows, planning))
    top = sum(rows.values()) + 2
    return {**fixed, **stacked, "journal": Place(0, top, width, max(0, height - 1 - top))}


def _in_order(rows: Mapping[str, int], planning: int) -> dict[str, int]:
    """From top to bottom; what is being planned takes its row from the steps."""
    planning = min(planning, rows["steps"])
    return {
        "gpus": rows["gpus"],
        "modes": 1,
        "planning": planning,
        "steps": rows["steps"] - planning,
        "units": rows["units"],
    }


def _stack(width: int, rows: Mapping[str, int]) -> dict[str, Place]:
    done: dict[str, Place] = {}
    y = 1
    for name, high in rows.items():
        done[name] = Place(0, y, width, high)
        y += high
    return done


def _heights_beside(
    screen: int, *, gpus: int, steps: int, units: int, width: int, graphs: bool | None
) -> dict[str, int]:
    """With the journal beside them all else has the whole height."""
    room = screen - _FIXED
    steps = min(steps, room // 3)
    bars = bars_in(gpus, width, max(1, screen // 4)).rows(gpus)
    units = max(2, min(units, room - steps - bars))
    found = graphs_in(gpus, width, room - steps - units, most=screen // 2) if graphs is not False else None
    return {"gpus": found.rows(gpus) if found else bars, "steps": steps, "units": units}


def heights(
    screen: int, *, gpus: int, steps: int, units: int, width: int = 120, graphs: bool | None = None
) -> dict[str, int]:
    """Rows of the panels whose height changes; the journal takes what is left.

    The graph keeps its height while steps are shown: a graph that jumps is not read.
    """
    journal = _JOURNAL_BESIDE_STEPS if steps else _JOURNAL_LEAST
    # The step that runs needs a second row more than the journal a third one.
    journal = journal if screen >= _SMALL else _JOURNAL_TIGHT - bool(steps)
    rows = bars = bars_in(gpus, width, max(1, screen // 4)).rows(gpus)
    found, asked = None, False
    if graphs is not False and screen >= _GRAPH_SCREEN:
        found = graphs_in(gpus, width, screen - _FIXED - units - _JOURNAL_GOOD, most=min(GRAPH_MOST, screen * 7 // 20))
    if graphs and found is None:
        asked = True
        found = graphs_in(gpus, width, screen - _FIXED - _JOURNAL_TIGHT - _UNITS_TIGHT - (2 if steps else 0))
    if found is not None:
        rows, journal = found.rows(gpus), _JOURNAL_TIGHT if asked else journal
    left = screen - _FIXED - rows - journal
    if not asked and left - steps - units < 0:
        rows, left = bars, screen - _FIXED - bars - journal
    steps = max(0, min(steps, left - 2))
    return {"gpus": rows, "steps": steps, "units": max(2, min(units, left - steps))}
