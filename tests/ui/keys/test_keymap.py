"""Keys that config.yaml changes: footer, help and what they do follow; what cannot be is named."""

import importlib
import pkgutil
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.dom import DOMNode

import gpumod_tui.ui
from gpumod_tui.core.errors import ConfigInvalid
from gpumod_tui.core.events import SwitchEnded
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.ui.app import GpumodApp
from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.keys.hints import TOPICS
from gpumod_tui.ui.keys.keymap import keymap
from gpumod_tui.ui.keys.scopes import PANES, scopes
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.units.actions import UNIT_KEYS
from gpumod_tui.ui.units.details import DetailsScreen
from tests.ui.dashboard.test_screens import begin, shown
from tests.ui.pictures import picture
from tests.ui.played import Box, until


def made(**keys: str) -> dict[str, str]:
    return keymap({name.replace("__", "."): key for name, key in keys.items()}, scopes(GpumodApp), "/c/config.yaml")


async def test_another_key_does_it_and_the_old_one_does_not() -> None:
    box = Box("glm-code", options=ViewOptions(keys={"unit.stop": "X,f5", "app.help": "H"}))
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        assert "X stop" in box.app.dashboard.footer.text()
        assert box.app.dashboard.footer.text().endswith("H help  q quit")
        await pilot.press("x", "question_mark")
        await pilot.pause()
        assert box.app.screen is box.app.dashboard
        await pilot.press("H")
        await pilot.pause()
        assert "X f5        stop it" in box.app.screen.query_one("Sheet").text()  # type: ignore[attr-defined]
        await pilot.press("escape", "f5")
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))
        assert box.commands.asked == [("plan", "stop", "glm-code")]


OTHERS = {
    "mode.retry": "f5",
    "plan.go": "f6",
    "plan.leave": "f7",
    "mode.blank": "f8",
    "mode.cancel": "f9",
    "app.close": "f10",
    "app.quit": "Q",
    "unit.clear_filter": "f11",
    "log.page_up": "f12",
    "help.close": "x",
    "leave.agree": "f2",
    "commands.leave": "f3",
}


async def test_whatever_names_a_key_names_the_one_that_is_bound() -> None:
    box = Box("glm-code", options=ViewOptions(keys=OTHERS))
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        board = box.app.dashboard

        async def told(*words: str, not_told: tuple[str, ...] = ()) -> None:
            await until(pilot, lambda: all(one in picture(box.app) for one in words))
            assert not [one for one in not_told if one in picture(box.app)]

        await pilot.press("4")
        await told("f6 do it   f7 leave it", not_told=("enter do it", "esc leave it"))
        await pilot.press("enter", "escape")
        assert isinstance(box.app.screen, PlanScreen)
        await pilot.press("f7")
        begin(box)
        await told("f9 cancels", not_told=("esc cancels", "r retry"))
        await pilot.press("Q")
        await told("f2 leave   esc stay", not_told=("q leave",))
        await pilot.press("escape")
        box.emit(SwitchEnded(ModeResult(False, "nemotron", outcome=Outcome.FAILED)))
        await told("f5 retry   f8 blank", "f10 close", not_told=("r retry", "b blank", "esc close", "esc cancel"))
        await pilot.press("f10", "slash", *"nothing", "enter")
        await told("no unit matches the filter; f11 shows all", not_told=("esc shows all",))
        await pilot.press("f11")
        board.journal.focus()
        board.journal.pattern = "nothing like this"
        await pilot.pause()
        await told("f12 looks further back", not_told=("pgup",))
        await pilot.press("question_mark")
        await told("x close", not_told=("esc close",))
        await pilot.press("x", "ctrl+p")
        await told("f3 leave", not_told=("esc leave",))
        await pilot.press("f3")
        await pilot.resize_terminal(30, 8)
        await told("Q leaves", not_told=("q leaves",))


async def test_who_shared_a_key_keeps_it_when_the_other_one_moves() -> None:
    box = Box("glm-code", options=ViewOptions(keys={"unit.restart": "R"}))
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        assert "R restart" in box.app.dashboard.footer.text()
        await pilot.press("r")
        await pilot.pause()
        assert box.commands.asked == []
        await pilot.press("R")
        await until(pilot, lambda: isinstance(box.app.screen, PlanScreen))


def test_two_may_change_places() -> None:
    assert made(unit__start="x", unit__stop="s") == {"unit.start": "x", "unit.stop": "s"}


@pytest.mark.parametrize(
    ("id_", "key", "words"),
    [
        ("unit.halt", "X", "unit.halt: found an unknown id, expected unit.last (did you mean that?)"),
        ("nonsense", "X", "nonsense: found an unknown id, expected one of"),
        ("unit.stop", "s", "unit.stop: found s, expected a key that is free: s is unit.start"),
        ("unit.stop", "?", "unit.stop: found ?, expected a key that is free: ? is app.help"),
        ("unit.stop", "down", "unit.stop: found down, expected a key that is free: down is"),
        ("unit.stop", "", "unit.stop: found '', expected keys such as"),
        ("unit.stop", "X,", "unit.stop: found '', expected keys such as"),
        ("unit.stop", "control+x", "unit.stop: found 'control+x', expected keys such as"),
        ("unit.stop", "xx", "unit.stop: found 'xx', expected keys such as"),
    ],
)
def test_what_cannot_be_is_named_with_file_id_and_what_is_expected(id_: str, key: str, words: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"^/c/config\.yaml: ") as caught:
        keymap({id_: key}, scopes(GpumodApp), "/c/config.yaml")
    assert f"keys.{words}" in str(caught.value)
    assert caught.value.hint == "gpumod keys lists all ids with their keys"


@pytest.mark.parametrize("key", ["X", "ctrl+x", "f12", "pageup", "question_mark", ";", ",", "alt+x", "é", "shift+f5"])
def test_all_kinds_of_keys_are_known(key: str) -> None:
    wanted = "ctrl+pageup" if key == "pageup" else "section_sign" if key == "question_mark" else key
    assert list(keymap({"app.theme": wanted}, scopes(GpumodApp), "")) == ["app.theme"]


def test_the_same_key_may_mean_another_thing_in_another_pane() -> None:
    assert made(unit__page_up="ctrl+u", log__page_up="ctrl+u")


def _kinds() -> set[type[DOMNode]]:
    root = Path(gpumod_tui.ui.__file__).parent
    found: set[type[DOMNode]] = set()
    for module in pkgutil.walk_packages([str(root)], "gpumod_tui.ui."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and issubclass(value, DOMNode) and value.__dict__.get("BINDINGS"):
                found.add(value)
    return {kind for kind in found if kind.__module__.startswith("gpumod_tui.ui")}


def test_whatever_binds_keys_can_be_rebound_and_says_what_they_do() -> None:
    known = {kind for scope in scopes(GpumodApp) for kind in scope}
    assert _kinds() <= known
    for kind in known:
        for binding in kind.BINDINGS:
            assert not isinstance(binding, tuple)
            assert binding.id, f"{kind.__name__} {binding.key}"
            assert binding.description, binding.id
            at_home = kind in (GpumodApp, Dashboard, *PANES)
            at_home |= kind is DetailsScreen and binding in UNIT_KEYS
            assert (binding.id.split(".")[0] in TOPICS) == at_home, binding.id


def test_by_default_no_pane_takes_a_key_from_the_dashboard() -> None:
    for app, board, pane in (scope for scope in scopes(GpumodApp) if len(scope) == 3):
        taken = [{b.key for b in Binding.make_bindings(kind.BINDINGS)} for kind in (app, board, pane)]
        # y copies what a failure says while one is shown, else what the pane shows.
        assert taken[2] & (taken[0] | taken[1]) <= {"y"}, pane
        # q closes what is open, and quits where nothing is.
        assert taken[1] & taken[0] <= ({"q"} if board is not Dashboard else set())
