"""A flood of log lines against the dashboard: what it holds, what it writes to the line, how long a key waits.

    python -m tests.bench.bench_logs [SECONDS] [LINES_A_SECOND]

The ratio is that of bytes written a second to those of the journal pane painted whole at each flush: with a slow line
it may not grow with the flood.
"""

import asyncio
import resource
import statistics
import sys
import threading
import time

from gpumod_tui.core.models import LogLine
from gpumod_tui.ui.app import FLUSH_S
from tests.ui.counted import CountedApp, written
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box

SIZE = (120, 40)
PATTERNS = ("", "task.*[13]$|tokens", "(a|aa)+$", "((.{1,30}){1,30})c")
"""None, a usual one, one that would hold up Python's engine for ever, and the slowest that RE2 takes."""


def flood(box: Box, seconds: float, rate: float, end: threading.Event) -> None:
    """So many lines a second, in bursts of ten milliseconds, as a pipe brings them."""
    began, sent = time.monotonic(), 0
    while not end.is_set() and (now := time.monotonic()) - began < seconds:
        while sent < (now - began) * rate:
            text = f"slot print_timing: id {sent % 4} | task {sent} | prompt eval time = 8.84 ms / {sent % 977} tokens"
            box.journal.sink(
                LogLine(1.79e9 + sent / rate, "glm-code.service", text, cursor=f"s=0123456789abcdef;i={sent:x}")
            )
            sent += 1
        time.sleep(0.01)
    box.sent = sent  # type: ignore[attr-defined]


async def run(seconds: float, rate: float, pattern: str) -> dict[str, float]:
    box = Box("glm-code")
    box.app = box.make(CountedApp)
    async with box.app.run_test(size=SIZE) as pilot:
        await shown(box, pilot)
        journal = box.app.dashboard.journal
        journal.focus()
        box.app.set_interval(FLUSH_S, box.app.flush)
        await pilot.pause()
        if pattern:
            await pilot.press("slash", *pattern, "enter")
        whole = journal.size.width * journal.size.height
        end = threading.Event()
        before, rss = written(box.app), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        thread = threading.Thread(target=flood, args=(box, seconds, rate, end))
        began = time.monotonic()
        thread.start()
        waits: list[float] = []
        while thread.is_alive():
            pressed = time.perf_counter()
            handled = asyncio.Event()
            box.app.call_later(handled.set)
            await handled.wait()
            waits.append(time.perf_counter() - pressed)
            await asyncio.sleep(0.02)
        thread.join()
        took = time.monotonic() - began
        box.app.flush()
        await pilot.pause()
        return {
            "lines a second": box.sent / took,  # type: ignore[attr-defined]
            "dropped": journal.dropped,
            "held": journal.reader.book.held,
            "chars held": journal.reader.book.chars,
            "MiB more": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss) / 1024,
            "bytes a second": (written(box.app) - before) / took,
            "of whole panes": (written(box.app) - before) / took / (whole / FLUSH_S),
            "wait median ms": statistics.median(waits) * 1000,
            "wait 99 % ms": sorted(waits)[int(len(waits) * 0.99)] * 1000,
            "wait most ms": max(waits) * 1000,
        }


def measure(seconds: float = 10.0, rate: float = 10_000) -> float:
    """Prints all; bytes written a second over those of whole panes."""
    worst = 0.0
    for pattern in PATTERNS:
        figures = asyncio.run(run(seconds, rate, pattern))
        print(f"filter {pattern!r}:", ", ".join(f"{name} {value:.1f}" for name, value in figures.items()))
        worst = max(worst, figures["of whole panes"])
    return worst


if __name__ == "__main__":
    measure(*map(float, sys.argv[1:]))
