"""The unit table: which columns fit, in which order the rows stand, and which of them are shown."""

import re
from dataclasses import replace
from typing import Any

import pytest
from textual.events import Paste
from textual.pilot import Pilot

from gpumod_tui.core.models import Health, ModelState, ModelStatus, Probe, Snapshot
from gpumod_tui.ui.theme.styles import UnitColours
from gpumod_tui.ui.units.columns import columns, heading
from gpumod_tui.ui.units.order import Order, arranged, key_of
from gpumod_tui.ui.units.pane import UnitTable
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import GLM, Box, until


def table(box: Box, width: int, snapshot: Snapshot | None = None) -> list[str]:
    units = UnitTable(UnitColours(box.host.registry.services))
    units.set_reactive(UnitTable.snapshot, snapshot or box.look())
    return [row.text for row in units.rows(width, 20)]


def changed(snapshot: Snapshot, service_id: str, **fields: Any) -> Snapshot:
    views = (replace(view, **fields) if view.id == service_id else view for view in snapshot.services)
    return replace(snapshot, services=tuple(views))


def busy() -> Box:
    box = Box("vllm-embedding")
    box.host.script("devstral-small-2").start_fails = 1
    box.host.units.start("devstral-small-2.service")
    box.film(12)
    box.host.foreign(8000, command="train.py")
    box.host.foreign(500, command="notebook")
    return box


# -- columns ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [40, 50, 64, 80, 99, 100, 110, 120, 140, 160, 200, 240])
def test_each_row_is_as_wide_as_the_screen_and_its_last_column_is_whole(width: int) -> None:
    box = busy()
    head, *rows = table(box, width)
    assert {len(head), *map(len, rows)} == {width}
    embedding = next(row for row in rows if "vllm-" in row)
    assert " 4.8 " in embedding
    if width >= 64:
        assert head.rstrip("─ ").endswith("since")
        assert embedding.rstrip().endswith(("now", "10 s"))
    assert all(f"pid {holder.pid}" in "".join(rows) for holder in box.look().orphans)


@pytest.mark.parametrize(
    ("width", "there", "missing"),
    [
        (40, ["state", "GiB"], ["ready", "since", "port", "CPU"]),
        (64, ["ready", "VRAM / declared GiB", "since"], ["port", "model", "CPU"]),
        (80, ["ready", "port", "VRAM / declared GiB", "since"], ["model", "CPU"]),
        (100, ["port", "model", "since"], ["CPU"]),
        (120, ["port", "model", "VRAM / declared GiB", "GPU", "CPU", "RAM GiB", "since"], ["login"]),
        (140, ["GPU", "restarts", "CPU", "RAM GiB", "login", "model"], []),
    ],
)
def test_columns_appear_by_room(width: int, there: list[str], missing: list[str]) -> None:
    head = table(Box("glm-code"), width)[0]
    assert [word for word in there if word not in head] == []
    assert [word for word in missing if word in head] == []


def test_columns_never_take_more_than_there_is() -> None:
    for width in range(30, 300):
        for longest in (3, 12, 49):
            at = columns(width, longest)
            assert min(at.name, at.state, at.memory) > 0
            if width >= 64:
                assert len(heading(at, "Units")) == width, at
            assert at.model >= 0


def test_what_is_not_measured_reads_so_and_what_is_off_has_no_figures() -> None:
    box = Box("glm-code")
    snapshot = changed(box.look(), "glm-code", cpu_percent=None)
    state = replace(snapshot.services[0].state, memory_bytes=None, restarts=3, file_state="enabled")
    _, glm, nemotron, *_ = table(box, 200, changed(snapshot, "glm-code", state=state))
    assert glm.count("N/A") == 2
    assert " 3 " in glm
    assert "yes" in glm
    assert "N/A" not in nemotron
    _, glm, *_ = table(box, 200, changed(box.look(), "glm-code", cpu_percent=137.4))
    assert "135 %" in glm
    assert " 1.6 " in glm


@pytest.mark.parametrize("width", [80, 120, 200])
def test_restarts_are_told_wherever_there_is_no_column_for_them(width: int) -> None:
    snapshot = Box("glm-code").look()
    state = replace(snapshot.services[0].state, restarts=3)
    glm = table(Box("glm-code"), width, changed(snapshot, "glm-code", state=state))[1]
    assert "active running" in glm
    assert ("running ↻3 " if width < 140 else "running ") in glm
    assert " 3 " in glm.replace("↻", " ")


# -- loading ---------------------------------------------------------------------------------------------------


def loading(snapshot: Snapshot, progress: float | None) -> Snapshot:
    return changed(snapshot, "glm-code", models=(ModelState(GLM, ModelStatus.LOADING, progress=progress),))


def test_a_load_has_a_bar_where_something_tells_how_far_it_is() -> None:
    box = Box("glm-code")
    assert "█████████████" in table(box, 160, loading(box.look(), 0.71))[1]
    assert f"{GLM} ██████████████▎╌╌╌╌╌ 71 %" in table(box, 200, loading(box.look(), 0.71))[1]
    assert "71 %" in table(box, 160, loading(box.look(), 0.71))[1]
    assert "load █████▋╌╌ 71 %" in table(box, 80, loading(box.look(), 0.71))[1]
    assert " 71 %" in table(box, 64, loading(box.look(), 0.71))[1]
    assert "load 71 %" in table(box, 40, loading(box.look(), 0.71))[1]


async def test_a_load_of_which_nothing_tells_how_far_it_is_says_how_long_it_takes() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        units = box.app.dashboard.units
        now = box.look()
        units.snapshot = loading(now, None)
        units.snapshot = loading(replace(now, at=now.at + 12.0), None)
        await pilot.pause()
        assert "loading 12 s" in units.text()
        units.snapshot = replace(now, at=now.at + 13.0)
        units.snapshot = loading(replace(now, at=now.at + 14.0), None)
        await pilot.pause()
        assert "loading 0 s" in units.text(), "this is another load"


def test_a_server_that_does_not_answer_yet_says_how_long_it_takes() -> None:
    box = Box("vllm-embedding")
    box.clock.advance(7.0)
    coming = changed(box.look(), "vllm-embedding", probe=Probe(Health.DOWN, "connection refused"), models=())
    assert "loading 7 s" in table(box, 120, coming)[3]
    dead = changed(box.look(), "vllm-embedding", probe=Probe(Health.DEAD, "its engine is dead"), models=())
    assert "its engine is dead" in table(box, 120, dead)[3]
    assert "✖" in table(box, 80, dead)[3]


# -- order and filter ------------------------------------------------------------------------------------------


def test_orders() -> None:
    snapshot = busy().look()
    names = {order: [key_of(item).partition(" on ")[0] for item in arranged(snapshot, order, "")] for order in Order}
    train, notebook = (f"pid {holder.pid}" for holder in snapshot.orphans)
    assert names[Order.CATALOG] == [
        "glm-code",
        "nemotron-3-nano",
        "vllm-embedding",
        "devstral-small-2",
        train,
        notebook,
    ]
    assert names[Order.VRAM][:3] == [train, "vllm-embedding", notebook]
    assert names[Order.NAME][:4] == ["devstral-small-2", "glm-code", "nemotron-3-nano", "vllm-embedding"]
    assert names[Order.STATE][:2] == ["devstral-small-2", "vllm-embedding"]
    assert set(names[Order.STATE][-2:]) == {train, notebook}


@pytest.mark.parametrize(
    ("needle", "found"),
    [("EMBED", 1), ("failed", 1), ("sam", 2), ("train", 1), ("inactive", 2), ("Nemotron 3", 1), ("nothing like it", 0)],
)
def test_the_filter_looks_at_names_states_models_and_who_else_holds_memory(needle: str, found: int) -> None:
    assert len(arranged(busy().look(), Order.CATALOG, needle)) == found


async def press(pilot: Pilot[Any], *keys: str) -> None:
    await pilot.press(*keys)
    await pilot.pause()


async def test_the_cursor_stays_on_its_unit_wherever_that_goes() -> None:
    box = busy()
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        units = box.app.dashboard.units
        await press(pilot, "down", "down")
        for title in ("Units by VRAM", "Units by name", "Units by state", "Units "):
            await press(pilot, "o")
            assert title in units.text()
            assert units.selected is not None
            assert units.selected.id == "vllm-embedding"
            assert "▸■ vllm-embedding" in units.text()
        box.host.units.stop("vllm-embedding.service")
        box.film(3)
        await press(pilot, "o")
        await shown(box, pilot)
        assert "▸■ vllm-embedding" in units.text()


async def test_the_filter_is_typed_in_place_and_keys_mean_letters_then() -> None:
    box = busy()
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        units = box.app.dashboard.units
        await press(pilot, "slash", *"xq1embex")
        await press(pilot, "backspace")
        assert "/xq1embe▏" in units.text()
        assert "no unit matches the filter" in units.text()
        await press(pilot, "escape", "slash", *"embed", "enter")
        assert "Units, /embed " in units.text()
        assert "▏" not in units.text()
        assert [line[3:17] for line in units.text().splitlines()[1:] if line] == ["vllm-embedding"]
        assert units.selected is not None
        await press(pilot, "escape")
        assert "/embed" not in units.text()
        assert len(units.text().splitlines()) >= 7
        assert units.selected.id == "vllm-embedding"
    assert box.commands.asked == []


@pytest.mark.parametrize("width", [40, 64, 80, 120])
async def test_a_long_filter_covers_whole_words_of_the_heading(width: int) -> None:
    names = {"state", "ready", "GiB", "VRAM / declared GiB", "port", "model", "since", "GPU", "CPU", "RAM GiB"}
    names |= {"port VRAM / declared GiB", "ready  port VRAM / declared GiB", "ready VRAM / declared GiB", "CPU RAM GiB"}
    box = busy()
    async with box.app.run_test(size=(width, 24)) as pilot:
        await shown(box, pilot)
        for number in range(1, 40):
            box.app.dashboard.units.needle = "e" * number
            await pilot.pause()
            head = box.app.dashboard.units.rows(width, 5)[0].text
            assert len(head) == width
            words = {word.strip() for word in re.split(r"[─ ]{2,}", head) if word}
            assert {word for word in words if "/e" not in word} <= names, head


async def test_an_orphan_is_a_row_like_a_unit_and_the_cursor_leaves_it_when_it_has_ended() -> None:
    box = busy()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        units = box.app.dashboard.units
        await press(pilot, "end")
        assert units.orphan is not None
        assert (units.orphan.command, units.selected) == ("notebook", None)
        assert "▸! pid" in units.text()
        box.host.end_foreign(units.orphan.pid)
        await shown(box, pilot)
        assert units.orphan.command == "train.py"


async def test_a_filter_can_be_pasted_and_ends_when_the_focus_goes() -> None:
    box = busy()
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        units = box.app.dashboard.units
        await press(pilot, "slash")
        units.post_message(Paste("glm\x1b[31m\nsecond line"))
        await until(pilot, lambda: units.needle == "glm")
        await press(pilot, "tab")
        assert not units.typing
        assert not units.has_focus
