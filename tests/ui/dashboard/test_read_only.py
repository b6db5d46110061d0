"""A read-only dashboard offers nothing that acts, and lets nothing through."""

from collections.abc import Iterator

import pytest

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.events import SwitchEnded
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.backend import LOOKS, Commands, looking_only
from gpumod_tui.ui.journal.messages import SaveLog
from gpumod_tui.ui.messages import Ask
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.palette.screen import CommandScreen
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.journal.test_logs import Logs, asks
from tests.ui.pictures import picture
from tests.ui.played import Box, PlayedCommands, dialog_text, until


def _names() -> Iterator[str]:
    return (name for name in vars(Commands) if not name.startswith("_"))


@pytest.mark.parametrize("name", sorted(_names()))
def test_only_what_looks_gets_through(name: str) -> None:
    commands = PlayedCommands()
    offered = looking_only(commands)
    if name in LOOKS:
        assert getattr(offered, name) == getattr(commands, name)
    else:
        with pytest.raises(GpumodError, match="read-only"):
            getattr(offered, name)("a", "b")
    assert commands.asked == []


def test_what_looks_is_known_to_be_there() -> None:
    assert set(_names()) >= LOOKS


async def test_no_key_and_no_message_makes_it_act() -> None:
    box = Box("glm-code", options=ViewOptions(read_only=True))
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        assert "read-only" in box.app.dashboard.header.text()
        keys = list("123456789bsxrluepkKcD")
        for state in ("calm", "running", "failed"):
            if state == "running":
                begin(box)
            if state == "failed":
                box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
            await pilot.pause()
            for key in [*keys, "down", *keys, "down", *keys]:
                await pilot.press(key)
            if state == "running":
                await pilot.press("escape")
            footer = box.app.dashboard.footer.text()
            for words in ("mode", "blank", "start ", "stop", "restart", "retry", "cancel"):
                assert f" {words}" not in footer
        box.app.dashboard.post_message(Ask("mode", "blank"))
        await pilot.pause(0.2)
        assert box.app.screen is box.app.dashboard
    assert [asked for asked in box.commands.asked if asked[0] not in LOOKS] == []


DEAD = ("esc cancel", "esc drop", "r retry", "b blank", "r restart", "K end", "m make", "m edit", "D at login")
"""What only looking takes from the keys, as it would be named."""


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40)])
async def test_no_key_that_does_nothing_is_named_anywhere(size: tuple[int, int]) -> None:
    box = Box("glm-code", options=ViewOptions(read_only=True))
    pictures: dict[str, str] = {}
    async with box.app.run_test(size=size) as pilot:
        await shown(box, pilot)
        begin(box)
        await until(pilot, lambda: "load" in box.app.dashboard.steps.text())
        pictures["running"] = picture(box.app)
        error = SwitchError(
            "nemotron-3-nano died: exit code 1", "load", "nemotron-3-nano.service", hint="gpumod doctor"
        )
        box.emit(SwitchEnded(ModeResult(False, "nemotron", errors=(error,), outcome=Outcome.FAILED)))
        await until(pilot, lambda: "failed" in box.app.dashboard.steps.text())
        await pilot.pause()
        pictures["failed"] = picture(box.app)
        await pilot.press("w")
        await until(pilot, lambda: any("[x] " in line for line in picture(box.app).splitlines()))
        pictures["what if"] = picture(box.app)
    for state, told in pictures.items():
        assert [words for words in DEAD if words in told] == [], state
    assert "Switch to nemotron" in pictures["running"]
    assert "nemotron-3-nano died: exit code 1" in pictures["failed"]
    if size != (40, 10):
        assert "g logs   y copy   esc close" in pictures["failed"]


async def test_the_help_tells_of_no_key_that_acts() -> None:
    box = Box("glm-code", options=ViewOptions(read_only=True))
    async with box.app.run_test(size=(80, 200)) as pilot:
        await shown(box, pilot)
        await pilot.press("question_mark")
        await pilot.pause()
        told = dialog_text(box)
        for words in ("everything about the selected unit", "only lines that match", "whether services would fit"):
            assert words in told
        for words in (
            "start the selected",
            "stop everything",
            "cancel the switch",
            "every login",
            "to a file",
            "ends it",
        ):
            assert words not in told


async def test_no_key_and_no_message_writes_a_file() -> None:
    logs = Logs(options=ViewOptions(read_only=True))
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        await pilot.press("ctrl+s")
        assert not asks(journal)
        journal.post_message(SaveLog("/logs/a.log", "text", 1))
        await pilot.press("Y")
        await until(pilot, lambda: "200 lines copied" in logs.toasts)
        for _ in range(5):
            await pilot.pause(0.02)
        await pilot.press("ctrl+p")
        screen = logs.box.app.screen
        assert isinstance(screen, CommandScreen)
        await pilot.press(*"file")
        assert not [entry for entry in screen.found if "file" in entry.words]
    assert logs.archive.files == {}
