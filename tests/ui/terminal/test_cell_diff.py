"""What is written of an update is enough: a terminal shows the same as if all of it had been written."""

from typing import Any

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.control import Control
from rich.segment import Segment
from rich.style import Style
from textual.drivers.headless_driver import HeadlessDriver
from textual.strip import Strip

from gpumod_tui.ui.app import GpumodApp
from gpumod_tui.ui.terminal.cell_diff import Cells
from tests.ui.counted import CountedApp, written
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, a_long_day

WIDTH, HEIGHT = 24, 4
STYLES = (None, Style(color="#ff0000"), Style(color="#00ff00", bold=True), Style(bgcolor="#0000ff"))
runs = st.tuples(st.text("ab █░─漢e\u0301", min_size=1, max_size=8), st.sampled_from(STYLES))
rows = st.lists(runs, min_size=1, max_size=5)
writes = st.lists(st.tuples(st.integers(0, 9), st.integers(0, HEIGHT - 1), rows), min_size=1, max_size=12)


def terminal(width: int = WIDTH, height: int = HEIGHT) -> tuple[pyte.Screen, pyte.Stream]:
    screen = pyte.Screen(width, height)
    return screen, pyte.Stream(screen)


def render(cells: list[tuple[str, Style | None]]) -> str:
    return "".join(_dressed(char, style) for char, style in cells)


def _dressed(text: str, style: Style | None) -> str:
    return text if style is None else style.render(text)


def buffer(screen: pyte.Screen) -> list[list[Any]]:
    return [[screen.buffer[y][x] for x in range(screen.columns)] for y in range(screen.lines)]


@settings(deadline=None, max_examples=300)
@given(writes)
def test_a_terminal_shows_the_same_as_if_all_had_been_written(some: list[tuple[int, int, list[Any]]]) -> None:
    (whole, put_whole), (less, put_less) = terminal(), terminal()
    cells = Cells()
    for x, y, row in some:
        strip = Strip([Segment(text, style) for text, style in row]).crop(0, WIDTH - x)
        put_whole.feed(Control.move_to(x, y).segment.text + render([(t, s) for t, s, _ in strip]))
        for begin, run in cells.take(x, y, strip):
            put_less.feed(Control.move_to(begin, y).segment.text + render(run))
        assert buffer(less) == buffer(whole)


def test_what_is_there_already_is_not_written_again() -> None:
    cells = Cells()
    before, after = "used 20.3 GiB of 24.0 GiB", "used 20.4 GiB of 24.0 GiB"
    assert [x for x, _ in cells.take(0, 0, Strip([Segment(before)]))] == [0]
    assert list(cells.take(0, 0, Strip([Segment(before)]))) == []
    assert list(cells.take(0, 0, Strip([Segment(after)]))) == [(8, [("4", None)])]
    cells.forget()
    assert [len(run) for _, run in cells.take(0, 0, Strip([Segment(after)]))] == [len(after)]


def test_nothing_that_a_terminal_obeys_is_written() -> None:
    name = "\x1b]0;x\x07a\x9b2Jb\tc\x7f"
    ((x, run),) = Cells().take(0, 0, Strip([Segment(name)]))
    assert (x, render(run)) == (0, "]0;xa2Jbc")
    assert len(run) == Strip([Segment(name)]).cell_length


class _PyteDriver(HeadlessDriver):
    """Feeds a terminal."""

    stream: pyte.Stream

    @property
    def is_headless(self) -> bool:
        return False

    def write(self, data: str) -> None:
        # pyte shows the parameters of what it does not know.
        self.stream.feed(data.replace("\x1b[?2026h", "").replace("\x1b[?2026l", ""))

    def flush(self) -> None:
        return


class _PyteApp(GpumodApp):
    def _build_driver(self, headless: bool, inline: bool, mouse: bool, size: tuple[int, int] | None) -> _PyteDriver:
        driver = _PyteDriver(self, debug=False, mouse=mouse, size=size)
        self.terminal, driver.stream = terminal(*(size or (80, 24)))
        self._driver = driver
        return driver


KEYS = (
    "down", "enter", "tab", "4", "escape", "escape", "question_mark", "escape", "w", "space", "down", "escape",
    "T", "slash", "n", "e", "m", "escape", "v", "v", "plus", "space", "left", "left", "space", "z", "z", "g",
    "ctrl+p", "r", "a", "escape", "3", "escape", "h", "escape", "m", "escape", "T", "o", "L",
)  # fmt: skip


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (40, 10)])
async def test_the_dashboard_looks_the_same_as_if_all_had_been_written(size: tuple[int, int]) -> None:
    box = a_long_day()
    box.app = box.make(_PyteApp)
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        app = box.app
        assert isinstance(app, _PyteApp)
        for key in KEYS:
            await pilot.press(key)
            box.film(1)
            await shown(box, pilot)
            whole, stream = terminal(*size)
            for y, strip in enumerate(app.screen._compositor.render_strips()):
                stream.feed(Control.move_to(0, y).segment.text + strip.render(app.console))
            assert app.terminal.display == whole.display, key
            assert buffer(app.terminal) == buffer(whole), key


async def test_frames_that_were_lost_are_made_up_for() -> None:
    box = Box("glm-code")
    box.app = box.make(CountedApp)
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        first = written(box.app)
        box.app.repaint_all()
        await pilot.pause()
        assert written(box.app) - first > 4000
