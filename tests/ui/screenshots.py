"""Screenshots of the played host for the README: `python -m tests.ui.screenshots [FOLDER]`."""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import cairosvg
from textual.pilot import Pilot

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.ui.app import DEFAULTS
from gpumod_tui.ui.options import ViewOptions
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.pictures import picture
from tests.ui.played import Box, a_long_day, until

Scene = Callable[[Box, Pilot[Any]], Awaitable[None]]
FOLDER = Path(__file__).parents[2] / "screenshots"
SCALE = 20 / 12.2
"""Cells are 12.2 wide: so one is 20 whole pixels, which cairo's rounding of glyph widths leaves alone."""


async def dashboard(box: Box, pilot: Pilot[Any]) -> None:
    """As it stands most of the time."""
    await shown(box, pilot)


def keys(*pressed: str, words: str) -> Scene:
    """After these keys, as soon as these words are there."""

    async def scene(box: Box, pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press(*pressed)
        await until(pilot, lambda: words in picture(box.app))
        await pilot.pause()

    return scene


async def switch(box: Box, pilot: Pilot[Any]) -> None:
    """Half-way through a load."""
    box.host.units.stop("glm-code.service")
    box.film(4)
    box.host.script("nemotron-3-nano").load_s = 10.0
    box.load("nemotron-3-nano", "Nemotron-3-Nano-30B-A3B-UD-Q4_K_XL")
    box.film(7)
    box.snapshots.push(box.look())
    await pilot.pause()
    begin(box)
    await pilot.pause()
    box.show_lines()
    await pilot.pause()


PICTURES: dict[str, tuple[Scene, tuple[int, int], ViewOptions]] = {
    "dashboard-80x24": (dashboard, (80, 24), DEFAULTS),
    "dashboard-120x40": (dashboard, (120, 40), DEFAULTS),
    "dashboard-200x60": (dashboard, (200, 60), DEFAULTS),
    "light-120x40": (dashboard, (120, 40), ViewOptions(theme=Theme.LIGHT)),
    "ascii-80x24": (dashboard, (80, 24), ViewOptions(ascii_only=True)),
    "plan-120x40": (keys("4", words="do it"), (120, 40), DEFAULTS),
    "switch-120x40": (switch, (120, 40), DEFAULTS),
    "switch-80x24": (switch, (80, 24), DEFAULTS),
    "what-if-120x40": (keys("w", "3", words="fits"), (120, 40), DEFAULTS),
    "details-120x40": (keys("enter", words="State"), (120, 40), DEFAULTS),
    "journal-120x40": (keys("z", "slash", *"eval time", "enter", words="eval time"), (120, 40), DEFAULTS),
    "palette-120x40": (keys("ctrl+p", *"st", words="of"), (120, 40), DEFAULTS),
}


AS_PNG: Final = ("dashboard-80x24", "dashboard-120x40", "plan-120x40", "switch-120x40", "switch-80x24")
"""Also for viewers that have other fonts."""


async def take(folder: Path) -> None:
    """All pictures."""
    for name, (scene, size, options) in PICTURES.items():
        box = a_long_day(options)
        async with box.app.run_test(size=size) as pilot:
            await scene(box, pilot)
            svg = box.app.export_screenshot(title="gpumod").replace("Fira Code", "DejaVu Sans Mono")
        await asyncio.to_thread((folder / f"{name}.svg").write_text, svg, encoding="utf-8")
        sys.stdout.write(f"{folder / name}.svg\n")
        if name in AS_PNG:
            # This font's glyphs are 12.04 wide at 20px, and cairo does not stretch text to its textLength.
            wide = svg.replace("font-size: 20px", "font-size: 20.27px")
            cairosvg.svg2png(bytestring=wide.encode(), write_to=str(folder / f"{name}.png"), scale=SCALE)


if __name__ == "__main__":
    os.environ["TZ"] = "UTC"
    time.tzset()
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    target.mkdir(parents=True, exist_ok=True)
    asyncio.run(take(target))
