"""Pictures of screens that are stored beside the tests: the text, and below it the style of every cell.

Small, and a change reads in a diff. `pytest --snapshot-update` stores them anew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import groupby
from typing import Any, Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from syrupy.extensions.single_file import SingleFileSnapshotExtension, WriteMode
from textual._compositor import LayoutUpdate
from textual.app import App
from textual.pilot import Pilot

LETTERS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
LIMIT_S: Final = 120.0
"""For one screen and all that is done to it: far more than the slowest machine takes."""
RunBefore = Callable[[Pilot[Any]], Awaitable[None] | None]


class PictureFile(SingleFileSnapshotExtension):
    """One text file for each picture."""

    _write_mode = WriteMode.TEXT
    _file_extension = "txt"


def picture(app: App[Any]) -> str:
    """What is on screen now."""
    screen = app.screen
    update = screen._compositor.render_update(full=True, screen_stack=app._background_screens)
    assert isinstance(update, LayoutUpdate)
    rows = [[segment for strip in line for segment in strip if not segment.control] for line in update.strips]
    names: dict[Style | None, str] = {}
    styles = [_styles(row, names) for row in rows]
    text = ["".join(segment.text for segment in row).rstrip() for row in rows]
    legend = [f"{name} {style}" for style, name in names.items()]
    width, height = app.size
    return "\n".join([f"{width}x{height}", *text, "-" * width, *styles, *legend, ""])


def _styles(row: Iterable[Segment], names: dict[Style | None, str]) -> str:
    """`12a3b`: twelve cells of style a, three of b."""
    cells = [(_name(segment.style, names), cell_len(segment.text)) for segment in row]
    return "".join(f"{sum(count for _, count in same)}{name}" for name, same in groupby(cells, lambda cell: cell[0]))


def _name(style: Style | None, names: dict[Style | None, str]) -> str:
    seen = style.clear_meta_and_links() if style is not None else None
    if seen not in names:
        place = len(names)
        names[seen] = LETTERS[place] if place < len(LETTERS) else f"({place})"
    return names[seen]


def take(
    app: App[Any],
    press: Iterable[str] = (),
    terminal_size: tuple[int, int] = (80, 24),
    run_before: RunBefore | None = None,
) -> str:
    """Run the app, do what is to be done, and take its picture."""

    async def run() -> str:
        async with app.run_test(size=terminal_size, notifications=True) as pilot:
            waiting = run_before(pilot) if run_before is not None else None
            if waiting is not None:
                await waiting
            await pilot.press(*press)
            await pilot.pause()
            return picture(app)

    return asyncio.run(asyncio.wait_for(run(), LIMIT_S))
