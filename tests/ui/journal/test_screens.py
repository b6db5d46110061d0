"""What the journal pane looks like, at all sizes and in every dress."""

from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.core.models import LogLine
from gpumod_tui.ui.options import ViewOptions
from tests.ui.dashboard.test_screens import ALL_SIZES, Compare, _id
from tests.ui.journal.test_logs import START, Logs
from tests.ui.modes.test_screens import Before
from tests.ui.played import until

SOME = [
    LogLine(START + 10_001, "glm-code.service", "server starts", 6, identifier="systemd"),
    LogLine(START + 10_002, "glm-code.service", "\x1b[32mINFO\x1b[0m of the \x1b[1mscheduler\x1b[0m: 漢字 café", 6),
    LogLine(START + 10_003, "vllm-embedding.service", "a notice \x1b[2J\x1b[31;47mthat would clear the screen\x07", 5),
    LogLine(START + 10_004, "vllm-embedding.service", "a warning " + "with many words " * 20, 4),
    LogLine(START + 10_005, "glm-code.service", "an error: cudaMalloc failed", 3),
    LogLine(START + 10_006, "glm-code.service", "debug", 7),
]


def after(logs: Logs, *keys: str, lines: bool = True) -> Before:
    """With some lines of every kind, and these keys."""

    async def before(pilot: Pilot[Any]) -> None:
        journal = await logs.open(pilot)
        if lines:
            logs.feed(SOME)
        await pilot.press(*keys)
        await pilot.pause()
        await until(pilot, lambda: not journal.reader.is_reading)
        logs.box.app.clear_notifications()
        await pilot.pause(0.1)

    return before


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_the_journal_zoomed_with_a_search(size: tuple[int, int], snap_compare: Compare) -> None:
    logs = Logs()
    keys = ("z", "ctrl+f", *"cuda|warning", "enter")
    assert snap_compare(logs.box.app, terminal_size=size, run_before=after(logs, *keys))


@pytest.mark.parametrize(
    "options", [{"ascii_only": True}, {"theme": Theme.LIGHT}, {"theme": Theme.ANSI}], ids=["ascii", "light", "ansi"]
)
def test_the_journal_in_another_dress(options: dict[str, Any], snap_compare: Compare) -> None:
    logs = Logs(options=ViewOptions(**options))
    keys = ("z", "ctrl+f", *"cuda|warning", "enter")
    assert snap_compare(logs.box.app, terminal_size=(80, 24), run_before=after(logs, *keys))


def test_the_journal_without_colour(snap_compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    logs = Logs()
    keys = ("z", "ctrl+f", *"cuda|warning", "enter")
    assert snap_compare(logs.box.app, terminal_size=(80, 24), run_before=after(logs, *keys))


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_a_filter_that_is_none_is_typed(size: tuple[int, int], snap_compare: Compare) -> None:
    logs = Logs()
    keys = ("slash", *"slot", "enter", "slash", *"(slot")
    assert snap_compare(logs.box.app, terminal_size=size, run_before=after(logs, *keys))


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_the_beginning_of_the_journal(size: tuple[int, int], snap_compare: Compare) -> None:
    logs = Logs(live=1000)
    assert snap_compare(logs.box.app, terminal_size=size, run_before=after(logs, "z", "home", "home", lines=False))


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_whose_lines(size: tuple[int, int], snap_compare: Compare) -> None:
    logs = Logs()
    assert snap_compare(logs.box.app, terminal_size=size, run_before=after(logs, "z", "i", "down", "space"))


@pytest.mark.parametrize("size", [(80, 24)], ids=_id)
def test_no_line_matches(size: tuple[int, int], snap_compare: Compare) -> None:
    logs = Logs()
    logs.archive.fault = "No journal files were found."
    assert snap_compare(logs.box.app, terminal_size=size, run_before=after(logs, "z", "slash", *"nothing", "enter"))
