"""Every dialog: `q` closes it, ctrl+q ends the view in it, and its keys are named, and may be clicked."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.events import SwitchSeen
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.records import StepRecord
from gpumod_tui.ui.common.confirm import CancelScreen, LeaveScreen
from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.journal.dialogs import UnitsScreen, replace_screen
from gpumod_tui.ui.keys.help import HelpScreen
from gpumod_tui.ui.keys.hints import Hint
from gpumod_tui.ui.keys.key_row import KeyRow, key_lines
from gpumod_tui.ui.keys.scopes import SCREENS
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.palette.screen import CommandScreen
from gpumod_tui.ui.switch.history import SwitchesScreen
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.units.end_process import EndScreen
from gpumod_tui.ui.units.model_picker import PickerScreen
from tests.ui.common.test_mouse import click, wheel
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.played import GLM, Box, dialog_text, until
from tests.ui.switch.test_history import DONE, FAILED
from tests.ui.switch.test_switching import record

Opening = Callable[[Box, Pilot[Any]], Awaitable[None]]
OWN: Final = "python3 /home/op/train.py --epochs 100"


def a_box() -> Box:
    """With a router that has a model loaded, a process of nobody's, and switches that ended."""
    box = Box()
    box.load("glm-code", GLM)
    box.film(60)
    box.host.foreign(1228, command=OWN, user="op")
    box.recorded = Recorded("code", since=box.clock.time())
    box.commands.ended = (DONE, FAILED)
    box.commands.at_login = "rag"
    return box


def by(*keys: str, kind: type[object], words: str = "") -> Opening:
    """By these keys."""

    async def opening(box: Box, pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press(*keys)
        await until(pilot, lambda: isinstance(box.app.screen, kind) and words in dialog_text(box))
        await pilot.pause()

    return opening


async def cancelling(box: Box, pilot: Pilot[Any]) -> None:
    """A switch of another process."""
    await shown(box, pilot)
    box.emit(SwitchSeen(record(box, StepRecord("stop")), True))
    await pilot.pause()
    await pilot.press("escape")
    await until(pilot, lambda: isinstance(box.app.screen, CancelScreen))
    await pilot.pause()


async def leaving(box: Box, pilot: Pilot[Any]) -> None:
    """While a switch of one's own runs."""
    await shown(box, pilot)
    begin(box)
    await pilot.pause()
    await pilot.press("q")
    await until(pilot, lambda: isinstance(box.app.screen, LeaveScreen))
    await pilot.pause()


async def saving(box: Box, pilot: Pilot[Any]) -> None:
    """Over a file that is there."""
    await shown(box, pilot)
    box.app.push_screen(replace_screen("/logs/a.log"), lambda agreed: box.commands.asked.append(("write", str(agreed))))
    await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
    await pilot.pause()


DIALOGS: Final[dict[str, tuple[type[object], Opening]]] = {
    "plan": (PlanScreen, by("4", kind=PlanScreen, words="do it")),
    "cancel": (CancelScreen, cancelling),
    "leave": (LeaveScreen, leaving),
    "question": (QuestionScreen, by("D", kind=QuestionScreen)),
    "save": (QuestionScreen, saving),
    "process": (EndScreen, by("end", "enter", kind=EndScreen, words="command")),
    "end": (EndScreen, by("end", "K", kind=EndScreen, words="command")),
    "picker": (PickerScreen, by("u", kind=PickerScreen, words="take it")),
    "units": (UnitsScreen, by("tab", "i", kind=UnitsScreen)),
    "help": (HelpScreen, by("question_mark", kind=HelpScreen)),
    "palette": (CommandScreen, by("ctrl+p", kind=CommandScreen)),
}
ACTS: Final = frozenset(("submit", "cancel", "act", "unload", "default"))


def test_there_is_no_other_dialog() -> None:
    assert {kind for kind, _ in DIALOGS.values()} == {kind for kind in SCREENS if issubclass(kind, Dialog)}


def acts(box: Box) -> list[tuple[str, ...]]:
    """What was done, not looked at."""
    return [asked for asked in box.commands.asked if asked[0] in ACTS or asked == ("write", "True")]


def at(name: str) -> Opening:
    return DIALOGS[name][1]


@pytest.mark.parametrize("name", sorted(DIALOGS.keys() - {"leave", "palette"}))
async def test_q_closes_it_and_agrees_to_nothing(name: str) -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await at(name)(box, pilot)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(box.app.screen, Dashboard))
        await pilot.pause()
        assert not box.app._exit
    assert acts(box) == []


async def test_q_leaves_where_leaving_is_what_is_asked() -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await leaving(box, pilot)
        assert "q leave   esc stay" in dialog_text(box)
        await pilot.press("q")
        assert box.app._exit


async def test_q_is_typed_where_one_types() -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await at("palette")(box, pilot)
        await pilot.press("q")
        assert isinstance(box.app.screen, CommandScreen)
        assert box.app.screen.typed == "q"


@pytest.mark.parametrize("key", ["ctrl+q", "ctrl+c"])
@pytest.mark.parametrize("name", sorted(DIALOGS))
async def test_the_keys_that_quit_anywhere_quit_in_a_dialog(name: str, key: str) -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await at(name)(box, pilot)
        await pilot.press(key)
        assert box.app._exit
    assert acts(box) == []


async def test_who_leaves_in_a_dialog_while_a_switch_runs_is_asked_once() -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        begin(box)
        await pilot.press("question_mark", "ctrl+q")
        await until(pilot, lambda: isinstance(box.app.screen, LeaveScreen))
        assert not box.app._exit
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(box.app.screen, HelpScreen))
        await pilot.press("ctrl+c")
        await until(pilot, lambda: isinstance(box.app.screen, LeaveScreen))
        await pilot.press("ctrl+c")
        assert box.app._exit


@pytest.mark.parametrize(
    ("name", "words", "done"),
    [
        ("plan", "do it", ("submit", "nemotron")),
        ("cancel", "ask it to cancel", ("cancel", "1")),
        ("question", "at login: code", ("default", "code")),
        ("save", "write over it", ("write", "True")),
        ("picker", "take it", ("unload", "glm-code", GLM)),
    ],
)
async def test_a_click_agrees(name: str, words: str, done: tuple[str, ...]) -> None:
    box = a_box()
    async with box.app.run_test(size=(120, 40)) as pilot:
        await at(name)(box, pilot)
        await click(pilot, box.app.screen.query_one(KeyRow), words)
        await until(pilot, lambda: acts(box) == [done])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("plan", "leave it"),
        ("cancel", "let it go on"),
        ("leave", "stay"),
        ("question", "no"),
        ("save", "leave it"),
        ("process", "close"),
        ("end", "leave it"),
        ("picker", "leave it"),
        ("units", "leave"),
        ("help", "close"),
        ("palette", "leave"),
    ],
)
@pytest.mark.parametrize("size", [(40, 10), (80, 24)])
async def test_a_click_closes(name: str, words: str, size: tuple[int, int]) -> None:
    box = a_box()
    async with box.app.run_test(size=size) as pilot:
        await at(name)(box, pilot)
        await click(pilot, box.app.screen.query_one(KeyRow), f"esc {words}")
        await until(pilot, lambda: isinstance(box.app.screen, Dashboard))
        assert not box.app._exit
    assert acts(box) == []


async def test_a_click_leaves() -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await leaving(box, pilot)
        await click(pilot, box.app.screen.query_one(KeyRow), "q leave")
        await until(pilot, lambda: box.app._exit)


async def test_clicks_end_a_process_that_was_looked_at() -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await at("process")(box, pilot)
        keys = box.app.screen.query_one(KeyRow)
        assert "y end it" not in keys.text()
        await click(pilot, keys, "K end it")
        await until(pilot, lambda: "y end it (SIGTERM" in keys.text())
        assert acts(box) == []
        await click(pilot, keys, "y end it")
        await until(pilot, lambda: acts(box))
    assert [verb for verb, _ in acts(box)] == ["act"]


async def test_clicks_and_the_wheel_choose_units_of_the_journal() -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await at("units")(box, pilot)
        screen = box.app.screen
        assert isinstance(screen, UnitsScreen)
        await click(pilot, screen.list, "vllm-embedding")
        assert screen.list.chosen == {"vllm-embedding"}
        await click(pilot, screen.list, "vllm-embedding")
        assert screen.list.chosen == frozenset()
        before = screen.list.cursor
        await wheel(pilot, screen.list, up=False)
        assert screen.list.cursor == (before + 1) % len(screen.list.names)
        await wheel(pilot, screen.list, up=True)
        await click(pilot, screen.query_one(KeyRow), "space mark")
        await click(pilot, screen.query_one(KeyRow), "enter show")
        await until(pilot, lambda: isinstance(box.app.screen, Dashboard))
        assert box.app.dashboard.journal.units == {"vllm-embedding"}


async def test_the_wheel_scrolls_a_plan_that_does_not_fit() -> None:
    box = a_box()
    async with box.app.run_test(size=(40, 10)) as pilot:
        await at("plan")(box, pilot)
        plan = box.app.screen.query_one("#plan")
        before = dialog_text(box)
        await wheel(pilot, plan, up=False)
        assert dialog_text(box) != before
        assert "enter do it" in dialog_text(box)
        await wheel(pilot, plan, up=True)
        assert dialog_text(box) == before


async def test_clicks_in_the_history_open_a_switch_and_go_back() -> None:
    box = a_box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await by("h", kind=SwitchesScreen, words="▸")(box, pilot)
        screen = box.app.screen
        sheet = screen.query_one(Sheet)
        assert isinstance(screen, SwitchesScreen)
        await click(pilot, sheet, "Start glm-code")
        await until(pilot, lambda: "Start glm-code: ✖ failed" in sheet.text())
        await click(pilot, sheet, "stop")
        assert "Start glm-code: ✖ failed" in sheet.text()
        await click(pilot, screen._footer, "esc back")
        await until(pilot, lambda: "▸" in sheet.text())
        await click(pilot, screen._footer, "enter details")
        await until(pilot, lambda: "Start glm-code: ✖ failed" in sheet.text())
        await click(pilot, screen._footer, "close")
        await until(pilot, lambda: isinstance(box.app.screen, Dashboard))


async def test_a_long_command_line_is_shown_whole_also_where_one_only_looks() -> None:
    box = Box(options=ViewOptions(read_only=True))
    pid = box.host.foreign(1228, command="python3 train.py " + " ".join(f"--{n}" for n in range(100)), user="op")
    async with box.app.run_test(size=(40, 10)) as pilot:
        await by("end", "enter", kind=EndScreen, words="command")(box, pilot)
        assert f"Process {pid}" in dialog_text(box)
        assert box.app.screen.query_one(KeyRow).text() == " esc close"
        await pilot.press("K", "y")
        seen = dialog_text(box)
        for _ in range(30):
            await pilot.press("down")
            seen += dialog_text(box)
        assert all(f"--{n}" in seen for n in range(100))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(box.app.screen, Dashboard))
    assert box.commands.asked == []


async def test_what_stands_against_the_end_of_a_process_is_told_before_it_is_asked() -> None:
    box = Box()
    box.host.foreign(1228, user="sam")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await by("end", "enter", kind=EndScreen, words="command")(box, pilot)
        assert "only sam or root can end it" in dialog_text(box)
        assert box.app.screen.query_one(KeyRow).text() == " esc close"
        await pilot.press("K", "y")
        assert isinstance(box.app.screen, EndScreen)
    assert acts(box) == []


@pytest.mark.parametrize("size", [(80, 24), (120, 24), (120, 40)])
async def test_topics_of_the_help_are_gone_to_in_one_column_and_in_two(size: tuple[int, int]) -> None:
    box = a_box()
    async with box.app.run_test(size=size) as pilot:
        await at("help")(box, pilot)
        sheet = box.app.screen.query_one(Sheet)
        assert "tab next topic" in dialog_text(box)
        tops = [sheet.top]
        for _ in range(12):
            await pilot.press("tab")
            tops.append(sheet.top)
        assert len(set(tops)) > 2
        assert tops == sorted(tops)
        await pilot.press("shift+tab")
        assert sheet.top < tops[-1]


async def test_no_topic_is_gone_to_where_all_are_in_sight() -> None:
    box = a_box()
    async with box.app.run_test(size=(200, 100)) as pilot:
        await at("help")(box, pilot)
        assert box.app.screen.query_one(KeyRow).text() == " esc close"


def test_keys_that_have_no_room_go_on_in_the_next_row() -> None:
    hints = [Hint(key, words, key) for key, words in (("a", "one"), ("b", "two"), ("c", "three"))]
    lines = key_lines(hints, 14)
    assert ["".join(part for part, _ in line.row) for line in lines] == [" a one   b two", " c three"]
    assert [lines[0].press_at(x) for x in (0, 1, 5, 6, 9, 13, 14)] == ["", "a", "a", "", "b", "b", ""]
