"""What if: services chosen by key or click, the answer of the planner at once, nothing touched."""

from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.simulate import Verdict
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.keys.help import HelpScreen
from gpumod_tui.ui.modes.editor import ModeEditor
from gpumod_tui.ui.modes.live_fit import LookingScreen
from gpumod_tui.ui.modes.simulate import WhatIfScreen
from gpumod_tui.ui.options import ViewOptions
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, until

SIZES = [(40, 10), (80, 24), (120, 40)]


async def asked(box: Box, pilot: Pilot[Any]) -> WhatIfScreen:
    """The screen, once its first look is back."""
    await shown(box, pilot)
    await pilot.press("w")
    await until(pilot, lambda: isinstance(box.app.screen, WhatIfScreen) and box.app.screen.what_if is not None)
    await pilot.pause()
    assert isinstance(box.app.screen, WhatIfScreen)
    return box.app.screen


def chosen(screen: LookingScreen) -> tuple[str, ...]:
    return screen.choice.chosen


@pytest.mark.parametrize("size", SIZES)
async def test_it_begins_with_what_runs_and_answers_each_choice(size: tuple[int, int]) -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=size) as pilot:
        screen = await asked(box, pilot)
        assert (chosen(screen), "✔ fits" in screen.sums.text()) == (("vllm-embedding",), True)
        await pilot.press("space")
        await pilot.pause()
        assert chosen(screen) == ("vllm-embedding", "glm-code")
        assert "✖ does not fit" in screen.sums.text()
        assert "✖ short by 2.8 GiB" in screen.sums.text()
        await pilot.press("down", "down", "enter")
        await pilot.pause()
        assert chosen(screen) == ("glm-code",)
        assert "✔ 3.0 GiB left" in screen.sums.text()
        await pilot.press("escape")
        await pilot.pause()
        assert box.app.screen is box.app.dashboard
    assert box.commands.asked == []


async def test_it_says_what_a_switch_to_the_same_mode_would() -> None:
    box = Box("vllm-embedding", "glm-code")
    box.host.foreign(2000)
    async with box.app.run_test(size=(120, 40)) as pilot:
        screen = await asked(box, pilot)
        for number, mode in enumerate(box.host.registry.modes, 1):
            await pilot.press(str(number))
            await pilot.pause()
            plan = Manager(box.host).plan(mode)
            found = screen.sums.simulation
            assert found is not None
            assert (found.fits, found.plan.arithmetic) == (not plan.blockers, plan.arithmetic)


async def test_the_arithmetic_and_all_who_are_in_it_are_shown() -> None:
    box = Box("vllm-embedding")
    box.host.foreign(2000)
    async with box.app.run_test(size=(120, 40)) as pilot:
        screen = await asked(box, pilot)
        await pilot.press("3")
        await pilot.pause()
        text = screen.sums.text()
        assert "needs 20.0 + margin 0.5 = 20.5 GiB" in text
        assert "comes ■  20.0 GiB  glm-code (GLM-4.7-Flash-UD-Q4_K_XL): declared" in text
        assert "stays ■   2.0 GiB  python3 pid" in text
        assert "beside it fits: no other mode · not: rag, nemotron" in text
        assert "stops vllm-embedding · starts glm-code" in text


async def test_keys_offer_what_is_valid_and_begin_anew() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(120, 40)) as pilot:
        screen = await asked(box, pilot)
        assert "w what runs" not in screen.footer.text()
        await pilot.press("b")
        await pilot.pause()
        assert chosen(screen) == ()
        assert "none" not in screen.footer.text()
        assert "23.5 GiB free" in screen.sums.text()
        await pilot.press("w")
        await pilot.pause()
        assert chosen(screen) == ("vllm-embedding",)
        await pilot.press("9")
        assert chosen(screen) == ("vllm-embedding",)


async def test_a_click_chooses_and_leaves() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        screen = await asked(box, pilot)
        await pilot.click("#choice", offset=(10, 2))
        await pilot.pause()
        assert chosen(screen) == ("nemotron-3-nano",)
        await pilot.click("#choice", offset=(10, 2))
        await pilot.click("#choice", offset=(10, 0))
        await pilot.pause()
        assert chosen(screen) == ()


async def test_it_follows_the_box() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        screen = await asked(box, pilot)
        await pilot.press("3")
        box.host.foreign(12_000)
        box.clock.advance(5.0)
        box.snapshots.push(box.look())
        await until(pilot, lambda: "✖ short by" in screen.sums.text())
        assert chosen(screen) == ("glm-code",), "the choice stays"


@pytest.mark.parametrize("part", ["gpus", "units"])
async def test_what_cannot_be_known_never_reads_as_fits(part: str) -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        getattr(box.host, part).error = "no NVIDIA driver"
        await pilot.press("w")
        await until(pilot, lambda: isinstance(box.app.screen, WhatIfScreen))
        screen = box.app.screen
        assert isinstance(screen, WhatIfScreen)
        await until(pilot, lambda: screen.sums.simulation is not None or screen.sums.fault)
        await pilot.press("3")
        await pilot.pause()
        assert "✔" not in screen.sums.text()
        assert "no NVIDIA driver" in screen.sums.text()
        assert screen.sums.simulation is None or screen.sums.simulation.verdict is Verdict.UNKNOWN


async def test_a_choice_becomes_a_mode() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await asked(box, pilot)
        await pilot.press("space", "m")
        await until(pilot, lambda: isinstance(box.app.screen, ModeEditor))
        editor = box.app.screen
        assert isinstance(editor, ModeEditor)
        await until(pilot, lambda: editor.what_if is not None)
        assert chosen(editor) == ("glm-code",)


async def test_many_gpus_are_told_in_the_room_there_is() -> None:
    box = Box(gpu_count=8)
    async with box.app.run_test(size=(40, 10)) as pilot:
        screen = await asked(box, pilot)
        first, second, *_, last = screen.sums.text().splitlines()
        assert first.startswith("─ ✔ fits")
        assert second.split() == ["GPU", "0", "23.5", "GiB", "free"]
        assert "more rows" in last


async def test_a_look_that_changes_nothing_paints_nothing() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(120, 40)) as pilot:
        screen = await asked(box, pilot)
        painted = []
        for _ in range(2):
            screen.look()
            before = screen.what_if
            await until(pilot, lambda before=before: screen.what_if is not before)
            await pilot.pause()
            painted.append(screen.sums.rows_painted + screen.choice.rows_painted + screen.footer.rows_painted)
        # By the first one a peak has been learned, which is told.
        assert painted[0] == painted[1]


async def test_read_only_answers_and_saves_nothing() -> None:
    box = Box("vllm-embedding", options=ViewOptions(read_only=True))
    async with box.app.run_test(size=(80, 24)) as pilot:
        await asked(box, pilot)
        await pilot.press("m")
        screen = box.app.screen
        assert isinstance(screen, WhatIfScreen)
        assert "make a mode" not in screen.footer.text()
        box.app.push_screen(ModeEditor(screen.colours))
        await until(pilot, lambda: isinstance(box.app.screen, ModeEditor) and box.app.screen.what_if is not None)
        await pilot.press(*"talk", "ctrl+s")
        await until(pilot, lambda: any("read-only" in note.message for note in box.app._notifications))
        assert "talk" not in box.host.registry.modes


async def test_the_mode_bar_says_its_key_and_takes_the_click() -> None:
    box = Box("vllm-embedding", options=ViewOptions(keys={"mode.what_if": "f9"}))
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        text = box.app.dashboard.modes.text()
        assert text.endswith("f9 what if  m edit modes")
        await pilot.click("#modes", offset=(text.index("f9 what if") + 3, 0))
        await until(pilot, lambda: isinstance(box.app.screen, WhatIfScreen))


async def test_the_mode_bar_keeps_its_modes_where_there_is_no_room() -> None:
    box = Box()
    async with box.app.run_test(size=(60, 24)) as pilot:
        await shown(box, pilot)
        assert "4 nemotron" in box.app.dashboard.modes.text()
        assert "what if" not in box.app.dashboard.modes.text()


async def test_gpus_that_are_not_there_are_asked_for_by_their_sizes() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(80, 24)) as pilot:
        screen = await asked(box, pilot)
        await pilot.press("3", "g")
        await pilot.press(*"2x8 banana", "enter")
        await until(pilot, lambda: any("banana" in toast.message for toast in box.app._notifications))
        assert chosen(screen) == ("glm-code",), "what is typed chooses nothing"
        await pilot.press(*["backspace"] * 7)
        await pilot.press("enter")
        await until(pilot, lambda: screen.what_if is not None and screen.what_if.imagined)
        assert "simulated, idle: 8 + 8 GiB" in screen.choice.text()
        assert "✖ does not fit" in screen.sums.text()
        assert chosen(screen) == ("glm-code",)
        await pilot.press("g", *["backspace"] * 3)
        await pilot.press(*"48", "enter")
        await until(pilot, lambda: "✔ fits" in screen.sums.text())
        box.clock.advance(10.0)
        box.host.foreign(20000)
        await shown(box, pilot)
        assert "✔ fits" in screen.sums.text()
        await pilot.press("g", "backspace", "backspace", "enter")
        await until(pilot, lambda: screen.what_if is not None and not screen.what_if.imagined)
        assert "✖ does not fit" in screen.sums.text()
        assert "simulated" not in screen.choice.text()
        await pilot.press("g", "escape")
        await pilot.pause()
        assert box.app.screen is screen


async def test_help_shows_the_keys_of_this_screen() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await asked(box, pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(box.app.screen, HelpScreen))
        text = box.app.screen.query_one(Sheet).text()
        assert "simulated GPUs, by their sizes" in text
        assert "choose" in text
        assert "start the selected unit" not in text
        assert "end the view" not in text, "q closes this screen"
