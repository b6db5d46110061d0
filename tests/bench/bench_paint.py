"""What a minute of a busy box writes to the line, against the same screen as Textual writes it: dirty rows whole.

    python -m tests.bench.bench_paint [SECONDS]

The journal is left out: its lines are new, whoever writes them.
"""

import asyncio
import sys
from typing import Any

from textual._compositor import CompositorUpdate

from tests.ui.counted import CountedApp, written
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import a_long_day

SIZE = (120, 40)


class WholeRows(CountedApp):
    """Without the comparison of cells."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._cells.only_changes = _all  # type: ignore[method-assign]


def _all(update: CompositorUpdate) -> CompositorUpdate:
    return update


async def run(kind: type[CountedApp], seconds: int) -> float:
    """Bytes a second."""
    box = a_long_day()
    box.app = box.make(kind)
    async with box.app.run_test(size=SIZE) as pilot:
        await shown(box, pilot)
        before = written(box.app)
        for _ in range(seconds):
            box.clock.advance(1.0)
            box.snapshots.push(box.look())
            await pilot.pause()
        return (written(box.app) - before) / seconds


def measure(seconds: int = 60) -> float:
    """Prints both; bytes written over those of whole rows."""
    ours, whole = (asyncio.run(run(kind, seconds)) for kind in (CountedApp, WholeRows))
    print(f"cells that differ: {ours:.0f} bytes a second, whole rows: {whole:.0f}, ratio {ours / whole:.2f}")
    return ours / whole


if __name__ == "__main__":
    measure(*map(int, sys.argv[1:]))
