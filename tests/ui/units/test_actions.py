"""What can be done to a unit: offered only where it is valid, and asked of the manager with the right words."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from textual.events import MouseScrollDown
from textual.pilot import Pilot

from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.events import ActEnded, SwitchEnded, SwitchStarted
from gpumod_tui.core.models import ModelState, ModelStatus, OnLeave, Snapshot
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.core.units.actions import EndProcess
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.units.end_process import EndScreen
from gpumod_tui.ui.units.model_picker import ChoiceList, PickerScreen
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import GLM, Box, dialog_text, until

SMALL = "GLM-Small-Q4_K_M"


def off() -> Box:
    return Box()


def up() -> Box:
    return Box("glm-code")


def with_models(snapshot: Snapshot, service_id: str, *models: ModelState, **service: Any) -> Snapshot:
    views = []
    for view in snapshot.services:
        if view.id != service_id:
            views.append(view)
            continue
        assert view.service is not None
        views.append(replace(view, models=models or view.models, service=replace(view.service, **service)))
    return replace(snapshot, services=tuple(views))


def failed() -> Box:
    box = Box("glm-code")
    box.host.die("glm-code")
    return box


def enabled() -> Box:
    box = Box("glm-code")
    box.host.script("glm-code").enabled = True
    return box


def unloaded() -> Box:
    box = Box("glm-code")
    service = box.host.registry.service("glm-code")
    box.host.drivers(service).unload(service, GLM)
    return box


@pytest.mark.parametrize(
    ("make", "offered"),
    [
        (off, {"start", "details", "enable"}),
        (up, {"stop", "restart", "details", "load", "unload", "sleep", "enable"}),
        (unloaded, {"stop", "restart", "details", "load", "enable"}),
        (failed, {"start", "restart", "details", "enable", "reset_failed"}),
        (enabled, {"stop", "restart", "details", "load", "unload", "sleep", "disable"}),
    ],
    ids=["off", "up", "unloaded", "failed", "enabled"],
)
async def test_only_what_is_valid_in_this_state_is_offered(make: Callable[[], Box], offered: set[str]) -> None:
    box = make()
    async with box.app.run_test(size=(200, 40)) as pilot:
        await shown(box, pilot)
        assert units_keys(box) - {"log", "filter", "sort"} == offered


def units_keys(box: Box) -> set[str]:
    """Actions on units that Textual would carry out now, by the last word of their ids."""
    found = [entry.binding.id or "" for entry in box.app.screen.active_bindings.values() if entry.enabled]
    moves = {"up", "down", "page_up", "page_down", "first", "last", "clear_filter"}
    return {id_.removeprefix("unit.") for id_ in found if id_.startswith("unit.")} - moves


async def test_what_has_no_preset_any_more_can_be_stopped_and_not_started() -> None:
    for box, offered in ((up(), {"stop", "details", "enable"}), (off(), {"details", "enable"})):
        snapshot = box.look()
        gone = replace(snapshot.services[0], service=None, probe=None, models=())
        async with box.app.run_test(size=(200, 40)) as pilot:
            await pilot.pause()
            box.snapshots.push(replace(snapshot, services=(gone, *snapshot.services[1:])))
            await pilot.pause()
            assert units_keys(box) - {"log", "filter", "sort"} == offered


async def test_of_an_orphan_nothing_but_a_look_and_its_end_is_offered() -> None:
    box = Box()
    box.host.foreign(1000)
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        assert "end" not in units_keys(box)
        await pilot.press("end")
        await pilot.pause()
        assert units_keys(box) - {"filter", "sort"} == {"end", "details"}


async def test_what_became_valid_is_offered_without_a_key() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(200, 40)) as pilot:
        await shown(box, pilot)
        assert "c clear" not in box.app.dashboard.footer.text()
        box.host.die("glm-code")
        await shown(box, pilot)
        await pilot.pause()
        assert "c clear" in box.app.dashboard.footer.text()


@pytest.mark.parametrize(
    ("make", "key", "asked"),
    [
        (off, "e", ("act", "enable glm-code")),
        (enabled, "e", ("act", "disable glm-code")),
        (failed, "c", ("act", "reset-failed glm-code")),
    ],
)
async def test_what_can_be_taken_back_is_done_at_once(
    make: Callable[[], Box], key: str, asked: tuple[str, ...]
) -> None:
    box = make()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press(key)
        await until(pilot, lambda: box.commands.asked == [asked])


@pytest.mark.parametrize(("make", "key"), [(off, "c"), (off, "l"), (off, "u"), (off, "p"), (up, "k"), (up, "K")])
async def test_what_is_not_valid_is_not_done(make: Callable[[], Box], key: str) -> None:
    box = make()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press(key)
        await pilot.pause()
        assert isinstance(box.app.screen, Dashboard)
    assert box.commands.asked == []


# -- models ----------------------------------------------------------------------------------------------------


def choices(box: Box) -> ChoiceList:
    assert isinstance(box.app.screen, PickerScreen)
    return box.app.screen.query_one(ChoiceList)


async def open_picker(box: Box, pilot: Pilot[Any], key: str) -> ChoiceList:
    await shown(box, pilot)
    await pilot.press(key)
    await until(pilot, lambda: isinstance(box.app.screen, PickerScreen) and "GiB" in choices(box).text())
    await until(pilot, lambda: choices(box).chosen is not None)
    await pilot.pause()
    return choices(box)


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40)])
async def test_a_model_is_chosen_from_what_the_router_has(size: tuple[int, int]) -> None:
    box = unloaded()
    async with box.app.run_test(size=size) as pilot:
        found = await open_picker(box, pilot, "l")
        text = found.text()
        assert "Load a model into glm-code" in text
        assert "free now: GPU 0:" in text
        assert "20.0 GiB" in text
        assert "6.0 GiB" in text
        assert "need: declared" in text
        await pilot.press("down")
        await pilot.pause()
        assert "file size" in found.text()
        await pilot.press("enter")
        await until(pilot, lambda: ("load", "glm-code", SMALL) in box.commands.asked)


async def test_what_is_loaded_already_is_shown_and_cannot_be_chosen() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        found = await open_picker(box, pilot, "l")
        assert found.chosen is not None
        assert found.chosen.id == SMALL
        await pilot.press("up")
        await pilot.pause()
        assert "it is loaded already" in found.text()
        assert "take it" not in found.text()
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(box.app.screen, PickerScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(box.app.screen, Dashboard)
    assert box.commands.asked == []


async def test_unload_begins_at_what_is_in_memory() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        found = await open_picker(box, pilot, "u")
        assert "Unload a model from glm-code" in found.text()
        await pilot.press("enter")
        await until(pilot, lambda: ("unload", "glm-code", GLM) in box.commands.asked)


async def test_a_router_that_does_not_answer_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box("glm-code")

    def refuse(_service: str) -> None:
        raise ServerError("glm-code: connection refused", hint="gpumod service logs glm-code")

    monkeypatch.setattr(box.commands, "models", refuse)
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        await pilot.press("l")
        await until(pilot, lambda: "connection refused" in choices(box).text())
        assert "gpumod service logs" in choices(box).text()
        await pilot.press("enter", "escape")
        await pilot.pause()
        assert isinstance(box.app.screen, Dashboard)


async def test_a_failed_load_is_tried_again_without_the_list() -> None:
    box = Box("glm-code")
    target = f"service load glm-code {SMALL}"
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        box.emit(SwitchStarted(target, box.clock.time()))
        await pilot.pause()
        steps = box.app.dashboard.steps.text()
        assert f"Load {SMALL} (glm-code)" in steps
        assert "preflight" not in steps
        box.emit(SwitchEnded(ModeResult(False, target, outcome=Outcome.REFUSED)))
        await pilot.pause()
        await pilot.press("r")
        await until(pilot, lambda: ("load", "glm-code", SMALL) in box.commands.asked)


# -- sleep and wake --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "key", "verb"), [(ModelStatus.LOADED, "p", "sleep"), (ModelStatus.SLEEPING, "k", "wake")]
)
async def test_sleep_and_wake_are_planned_first(status: ModelStatus, key: str, verb: str) -> None:
    box = Box("vllm-embedding")
    snapshot = with_models(box.look(), "vllm-embedding", ModelState("m", status), on_leave=OnLeave.SLEEP)
    async with box.app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        box.snapshots.push(snapshot)
        await pilot.pause()
        await pilot.press("down", "down")
        await pilot.pause()
        assert {"sleep", "wake"} & units_keys(box) == {verb}
        assert ("asleep" in box.app.dashboard.units.text()) == (verb == "wake")
        await pilot.press(key)
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        await pilot.press("enter")
        await until(pilot, lambda: ("submit", verb, "vllm-embedding") in box.commands.asked)


async def test_what_cannot_sleep_is_not_asked_to() -> None:
    box = Box("vllm-embedding")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await pilot.press("down", "down")
        await pilot.pause()
        assert not {"sleep", "wake", "load", "unload"} & units_keys(box)


# -- the end of a process --------------------------------------------------------------------------------------


def sheet(box: Box) -> str:
    assert isinstance(box.app.screen, EndScreen)
    return dialog_text(box)


async def ask_to_end(box: Box, pilot: Pilot[Any]) -> None:
    await shown(box, pilot)
    await pilot.press("end", "K")
    await until(pilot, lambda: isinstance(box.app.screen, EndScreen) and "command" in sheet(box))
    await pilot.pause()


@pytest.mark.parametrize("size", [(40, 10), (80, 24)])
async def test_a_process_is_shown_whole_before_anything_is_sent(size: tuple[int, int]) -> None:
    box = Box()
    pid = box.host.foreign(1228, command="python3 /home/op/train.py --epochs 100", user="op")
    box.film(70)
    async with box.app.run_test(size=size) as pilot:
        await ask_to_end(box, pilot)
        text = sheet(box)
        for words in (f"End pid {pid}", "op", "1.2 GiB on GPU 0", "1 min", "--epochs 100"):
            assert words in text
        assert "y end it (SIGTERM" in text
        assert "esc leave it" in text
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(box.app.screen, Dashboard), "enter is not the key"
        await pilot.press("K")
        await until(pilot, lambda: "command" in sheet(box))
        await pilot.press("y")
        await until(pilot, lambda: len(box.commands.asked) == 1)
    assert box.commands.asked == [("act", f"end python3 /home/op/train.py --epochs 100 (pid {pid})")]


async def test_another_users_process_says_whose_it_is() -> None:
    box = Box()
    box.host.foreign(1228, user="sam")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await ask_to_end(box, pilot)
        assert "it belongs to sam: only sam or root can end it" in sheet(box)
        await pilot.press("y")
        await pilot.pause()
        assert isinstance(box.app.screen, EndScreen)
    assert box.commands.asked == []


async def test_a_process_that_ended_meanwhile_is_not_hit() -> None:
    box = Box()
    pid = box.host.foreign(1228, user="op")
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        box.host.end_foreign(pid)
        await pilot.press("end", "K")
        await until(pilot, lambda: "it has ended" in sheet(box))
        await pilot.press("y")
        await pilot.pause()
    assert box.commands.asked == []


async def test_who_survives_sigterm_is_offered_sigkill() -> None:
    box = Box()
    pid = box.host.foreign(1228, user="op")
    acts: list[EndProcess] = []
    box.commands.submit_act = acts.append  # type: ignore[assignment, method-assign]
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        words = f"python3 (pid {pid}) goes on 5 s after SIGTERM"
        box.emit(ActEnded(f"end python3 (pid {pid})", False, words, survivor=(pid, pid)))
        await until(pilot, lambda: isinstance(box.app.screen, EndScreen) and "command" in sheet(box))
        await pilot.pause()
        assert words in sheet(box)
        assert "SIGKILL" in sheet(box)
        await pilot.press("y")
        await until(pilot, lambda: acts)
    assert acts == [EndProcess(pid, pid, "python3", force=True)]


async def test_the_end_of_an_act_is_told() -> None:
    box = Box()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        box.emit(
            ActEnded("enable glm-code", False, "unit glm-code.service is not installed", "gpumod template install")
        )
        await pilot.pause()
        (toast,) = box.app._notifications
        assert (toast.severity, toast.title) == ("error", "✖ enable glm-code")
        assert "gpumod template install" in toast.message
    assert box.app.dashboard.progress is None


async def test_the_mouse_chooses_and_scrolls() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(80, 24)) as pilot:
        found = await open_picker(box, pilot, "l")
        await pilot.click(ChoiceList, offset=(5, 2))
        await pilot.pause()
        assert found.chosen is not None
        assert found.chosen.id == GLM
        await pilot.press("escape", "enter")
        await until(pilot, lambda: box.app.screen.query(Sheet) and "State" in box.app.screen.query_one(Sheet).text())
        page = box.app.screen.query_one(Sheet)
        page.post_message(MouseScrollDown(page, 1, 1, 0, 1, 0, False, False, False))
        await until(pilot, lambda: page.top > 0)
