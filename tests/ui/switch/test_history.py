"""The history of switches, and the mode at login, by key."""

from dataclasses import replace

import pytest

from gpumod_tui.core.catalog.config import Confirm
from gpumod_tui.core.errors import UnitRefused
from gpumod_tui.core.models import Holder, LogLine
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.records import HISTORY_LENGTH, StepRecord, SwitchError, SwitchRecord
from gpumod_tui.core.text import MIB
from gpumod_tui.core.units.login import LoginMode
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.actions import login_sentence
from gpumod_tui.ui.switch.history import SwitchesScreen
from gpumod_tui.ui.switch.history_rows import line, page
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, until

AT = 1_762_900_000.0
DONE = SwitchRecord(
    "1",
    "code",
    4711,
    1,
    AT,
    (
        StepRecord("preflight", "fits", True, 0.01),
        StepRecord("stop", "rag", True, 1.2),
        StepRecord("load", "", True, 6),
    ),
    "done",
    ended_at=AT + 7.4,
    stopping=("vllm-embedding.service",),
    starting=("glm-code.service",),
    command="gpumod mode switch code",
)
FAILED = replace(
    DONE,
    id="2",
    target="service start glm-code",
    outcome="failed",
    steps=(StepRecord("stop", "", True, 1.0), StepRecord("release", "VRAM not released after 30 s", False, 30.0)),
    errors=(
        SwitchError(
            "VRAM not released after 30 s",
            holders=(Holder(99, 0, 512 * MIB, "python3"),),
            journal=(LogLine(AT, "glm-code.service", "out of \x1b[2Jmemory", 3),),
            hint="nvidia-smi",
        ),
    ),
    warnings=("something odd",),
)
KILLED = replace(DONE, id="3", outcome=None, ended_at=None, steps=(StepRecord("load"),), command="")


def text_of(box: Box) -> str:
    sheets = box.app.screen.query(Sheet)
    return sheets.first().text() if sheets else ""


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_rows_fit_and_say_how_each_ended(width: int) -> None:
    words = ("✔ code", "✖ Start", "✖ code")
    for record, wanted in zip((DONE, FAILED, KILLED), words, strict=True):
        for row in [line(record, width), *page(record, width)]:
            assert sum(len(part) for part, _ in row) <= width + 60, "cut by the sheet"
        assert wanted in "".join(part for part, _ in line(record, width))


def test_the_page_of_one_tells_everything() -> None:
    text = "\n".join("".join(part for part, _ in row) for row in page(FAILED, 100))
    for words in (
        "Start glm-code: ✖ failed after 7.4 s",
        "by pid 4711 (gpumod mode switch code)",
        "stops       vllm-embedding",
        "VRAM not released after 30 s",
        "30.0 s",
        "held by python3 pid 99",
        "out of memory",
        "nvidia-smi",
        "! something odd",
    ):
        assert words in text
    assert text.count("VRAM not released") == 1, "not once for the step and once for the error"
    assert "interrupted" in "".join(part for part, _ in page(KILLED, 80)[0])


async def test_h_lists_them_enter_opens_one_and_escape_leads_back() -> None:
    box = Box()
    box.commands.ended = (DONE, FAILED, KILLED)
    async with box.app.run_test(size=(120, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("h")
        await until(pilot, lambda: isinstance(box.app.screen, SwitchesScreen) and "code" in text_of(box))
        assert "stop 1.2 · load 6.0" in text_of(box)
        assert "release 30.0 ✖" in text_of(box)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "held by python3" in text_of(box))
        await pilot.press("y")
        assert box.app.clipboard.startswith("Start glm-code: failed")
        await pilot.press("escape")
        await until(pilot, lambda: "stop 1.2" in text_of(box))
        assert "▸" in text_of(box).splitlines()[2], "where it was"
        await pilot.press("escape")
        await pilot.pause()
        assert box.app.screen is box.app.dashboard


async def test_many_are_scrolled_with_the_cursor_in_sight() -> None:
    box = Box()
    box.commands.ended = tuple(replace(DONE, id=str(n), target=f"m{n}") for n in range(HISTORY_LENGTH))
    async with box.app.run_test(size=(60, 12)) as pilot:
        await shown(box, pilot)
        await pilot.press("h")
        await until(pilot, lambda: isinstance(box.app.screen, SwitchesScreen) and "▸" in text_of(box))
        for key, target in (("end", "m199"), ("pageup", "m189"), ("home", "m0"), ("pagedown", "m10")):
            await pilot.press(key)
            await pilot.pause()
            assert next(row for row in text_of(box).splitlines() if row.startswith("▸")).split()[3] == target


async def test_an_empty_history_says_so() -> None:
    box = Box()
    async with box.app.run_test(size=(40, 10)) as pilot:
        await shown(box, pilot)
        await pilot.press("h")
        await until(pilot, lambda: "no switch has ended yet" in text_of(box))
        await pilot.press("enter", "y", "down", "q")
        await pilot.pause()
        assert box.app.screen is box.app.dashboard


class TestAtLogin:
    async def test_d_asks_and_sets_and_then_takes_back(self) -> None:
        box = Box("vllm-embedding")
        box.recorded = Recorded("rag", since=box.clock.time())
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            for answer, asked, at_login in (
                ("escape", [], None),
                ("y", [("default", "rag")], "rag"),
                ("y", [("default", "rag"), ("default", "")], None),
            ):
                await pilot.press("D")
                await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
                await pilot.press(answer)
                await until(pilot, lambda asked=asked: box.commands.asked == asked)
                assert box.commands.at_login == at_login
                await pilot.pause()

    async def test_without_a_reached_mode_there_is_nothing_to_set(self) -> None:
        box = Box()
        async with box.app.run_test(size=(80, 24)) as pilot:
            await shown(box, pilot)
            await pilot.press("D")
            await pilot.pause(0.05)
            assert box.app.screen is box.app.dashboard

    async def test_a_refusal_is_told(self) -> None:
        box = Box("vllm-embedding", options=ViewOptions(confirm=Confirm.NEVER))
        box.recorded = Recorded("rag", since=box.clock.time())

        def refuse(_mode: str | None, /) -> LoginMode:
            raise UnitRefused("gpumod-mode.service is hand-edited", hint="remove it first")

        box.commands.set_login_mode = refuse  # type: ignore[method-assign]
        async with box.app.run_test(size=(80, 24), notifications=True) as pilot:
            await shown(box, pilot)
            await pilot.press("D")
            await until(pilot, lambda: isinstance(box.app.screen, QuestionScreen))
            await pilot.press("y")
            await until(pilot, lambda: len(box.app._notifications) == 1)
            assert "hand-edited" in next(iter(box.app._notifications)).message

    def test_the_question_says_how_it_stands(self) -> None:
        login = LoginMode("code", "current", enabled=True, failed=True, lingers=False, user="sam")
        assert login_sentence(LoginMode(), "rag") == "No mode is switched to at login. Switch to rag at every login?"
        assert login_sentence(login, "code") == (
            "code is switched to at login. The last time it failed. Take that back?"
            " Now at boot only with lingering: loginctl enable-linger sam."
        )
