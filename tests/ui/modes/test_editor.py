"""Modes made, changed and deleted on screen; the dashboard shows them at once."""

import threading
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot

from gpumod_tui.core.catalog.modes import ModeSaved
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import Mode
from gpumod_tui.ui.common.confirm import Words
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.keys.key_row import KeyRow
from gpumod_tui.ui.modes.editor import ModeEditor
from gpumod_tui.ui.modes.picker import ModeList, ModePicker
from tests.ui.common.test_mouse import click
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, until


async def picked(box: Box, pilot: Pilot[Any], *keys: str) -> None:
    await shown(box, pilot)
    await pilot.press("m", *keys)
    await pilot.pause()


async def editor_of(box: Box, pilot: Pilot[Any]) -> ModeEditor:
    """Once its first look is back."""
    await until(pilot, lambda: isinstance(box.app.screen, ModeEditor) and box.app.screen.what_if is not None)
    await pilot.pause()
    assert isinstance(box.app.screen, ModeEditor)
    return box.app.screen


def services(box: Box, mode: str) -> tuple[str, ...]:
    return box.host.registry.modes[mode].services


def on_screen(box: Box, kind: type[object]) -> Any:
    return lambda: isinstance(box.app.screen, kind)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40)])
async def test_a_mode_is_made_of_what_runs(size: tuple[int, int]) -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=size) as pilot:
        await picked(box, pilot, "enter")
        editor = await editor_of(box, pilot)
        assert editor.choice.chosen == ("vllm-embedding",)
        await pilot.press(*"talk", "enter", *"Talk", "enter", *"a b", "enter", "end", "space")
        await pilot.pause()
        assert "✔ 1.9 GiB left" in editor.sums.text()
        await pilot.press("ctrl+s")
        await until(pilot, on_screen(box, ModePicker))
        saved = box.host.registry.modes["talk"]
        assert saved == Mode("talk", "Talk", ("vllm-embedding", "devstral-small-2"), "a b", saved.source)
        assert "talk" in box.app.screen.query_one(ModeList).text()
        await pilot.press("escape")
        await pilot.pause()
        if size[0] >= 80:
            assert "5 talk" in box.app.dashboard.modes.text()
        await pilot.press("5")
        await until(pilot, lambda: ("plan", "talk") in box.commands.asked)


async def test_a_mode_is_changed_and_the_given_one_stays_below() -> None:
    box = Box()
    async with box.app.run_test(size=(120, 40)) as pilot:
        await picked(box, pilot, "down", "down", "enter")
        editor = await editor_of(box, pilot)
        assert (editor.written().id, editor.choice.chosen) == ("code", ("glm-code",))
        await pilot.press("down", "down", "space", "ctrl+s")
        await until(pilot, on_screen(box, ModePicker))
        assert services(box, "code") == ("glm-code", "vllm-embedding")
        assert list(box.host.registry.modes) == ["blank", "rag", "code", "nemotron"], "it keeps its number"
        picker = box.app.screen
        assert isinstance(picker, ModePicker)
        await until(pilot, lambda: "your own" in picker.list.text())
        await pilot.press("d")
        await until(pilot, on_screen(box, QuestionScreen))
        await pilot.press("escape")
        await pilot.pause()
        assert ("delete", "code") not in box.commands.asked
        await pilot.press("d")
        await until(pilot, on_screen(box, QuestionScreen))
        await pilot.press("y")
        await until(pilot, lambda: services(box, "code") == ("glm-code",))
        await until(pilot, lambda: "your own" not in picker.list.text())


async def test_only_ones_own_modes_are_offered_to_delete() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "down", "d")
        assert isinstance(box.app.screen, ModePicker)
        assert "delete" not in box.app.screen.footer.text()


async def test_another_modes_id_is_asked_about() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        await editor_of(box, pilot)
        await pilot.press(*"code", "ctrl+s")
        await until(pilot, on_screen(box, QuestionScreen))
        asked = " ".join(box.app.screen.query_one(Words).text().split())
        assert "code is there already, with glm-code" in asked
        await pilot.press("n")
        await pilot.pause()
        assert services(box, "code") == ("glm-code",)
        await pilot.press("ctrl+s")
        await until(pilot, on_screen(box, QuestionScreen))
        await pilot.press("y")
        await until(pilot, lambda: services(box, "code") == ("vllm-embedding",))


@pytest.mark.parametrize(("id_", "word"), [("", "an id"), ("Talk", "an id"), ("blank", "built in")])
async def test_what_is_wrong_is_said_and_nothing_is_lost(id_: str, word: str) -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        editor = await editor_of(box, pilot)
        await pilot.press(*id_, "tab", "tab", "tab", "ctrl+s")
        await until(pilot, lambda: any(word in note.message for note in box.app._notifications))
        await pilot.pause()
        assert box.app.focused is editor.fields["id"].line, "where one types another"
        assert box.app.screen is editor
        assert editor.written().id == id_


async def test_a_mode_without_services_is_refused() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        await editor_of(box, pilot)
        await pilot.press(*"none", "ctrl+s")
        await until(pilot, lambda: any("holds no service" in note.message for note in box.app._notifications))


async def test_leaving_asks_only_when_something_was_changed() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        await editor_of(box, pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert on_screen(box, ModePicker)()
        await pilot.press("n")
        editor = await editor_of(box, pilot)
        await pilot.press("x", "escape")
        await until(pilot, on_screen(box, QuestionScreen))
        await click(pilot, box.app.screen.query_one(KeyRow), "esc no")
        await pilot.pause()
        assert box.app.screen is editor
        await pilot.press("escape")
        await until(pilot, on_screen(box, QuestionScreen))
        await click(pilot, box.app.screen.query_one(KeyRow), "y leave")
        await until(pilot, on_screen(box, ModePicker))


async def test_q_leaves_the_editor_and_not_the_dashboard() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        editor = await editor_of(box, pilot)
        await pilot.press("q")
        assert editor.written().id == "q", "in a field it is a letter"
        editor.choice.focus()
        await pilot.press("q")
        await until(pilot, on_screen(box, QuestionScreen))
        await pilot.press("y")
        await until(pilot, on_screen(box, ModePicker))
        assert not box.app._exit


async def test_letters_are_written_and_not_taken_for_keys() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        editor = await editor_of(box, pilot)
        await pilot.press(*"qwmb1")
        assert editor.written().id == "qwmb1"
        assert box.app.screen is editor


async def test_a_click_opens_a_mode() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot)
        await pilot.click("#mode-list", offset=(6, 3))
        editor = await editor_of(box, pilot)
        assert editor.written().id == "code"


async def test_modes_that_others_save_are_shown() -> None:
    box = Box()
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        manager = box.commands.manager
        assert manager is not None
        manager.save_mode(Mode("talk", "Talk", ("glm-code",)))
        box.app._watch_catalog()
        await until(pilot, lambda: "5 talk" in box.app.dashboard.modes.text())


async def test_presets_that_cannot_be_read_leave_the_modes_that_were_there() -> None:
    box = Box()
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        box.app._take_catalog(GpumodError("config.yaml is broken"))
        await pilot.pause()
        assert "3 code" in box.app.dashboard.modes.text()


async def test_fields_that_stand_still_cost_nothing() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        editor = await editor_of(box, pilot)
        assert not any(field.line.cursor_blink for field in editor.fields.values())


async def test_what_was_opened_while_it_was_saved_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box("vllm-embedding")
    gate, save = threading.Event(), box.commands.save_mode

    def slowly(mode: Mode, /, *, replaces: bool) -> ModeSaved:
        gate.wait(60.0)
        return save(mode, replaces=replaces)

    monkeypatch.setattr(box.commands, "save_mode", slowly)
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        editor = await editor_of(box, pilot)
        await pilot.press(*"talk", "ctrl+s", "tab", "tab", "tab", "question_mark")
        await until(pilot, lambda: box.app.screen is not editor)
        over = box.app.screen
        gate.set()
        await until(pilot, lambda: "talk" in box.host.registry.modes and not editor._saving)
        await pilot.pause()
        assert box.app.screen is over
        await pilot.press("escape")
        await until(pilot, lambda: box.app.screen is editor)
        await pilot.press("escape")
        await until(pilot, on_screen(box, ModePicker))


async def test_what_was_typed_in_one_piece_with_the_key_is_saved_whole() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await picked(box, pilot, "n")
        await editor_of(box, pilot)
        for key in (*"talk", "ctrl+s"):
            box.app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: ("save", "talk") in box.commands.asked)
