"""What the screens of one unit look like, at all sizes."""

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.events import ActEnded
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.units.model_picker import ChoiceList
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box, a_long_day, until

SIZES = [(40, 10), (80, 24), (120, 40), (200, 60)]
Compare = Callable[..., bool]


def _id(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def press(box: Box, *keys: str, until_there: str) -> Callable[[Pilot[Any]], Any]:
    async def run(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press(*keys)
        kind = ChoiceList if keys[-1] in "lu" else Sheet
        await until(pilot, lambda: any(until_there in one.text() for one in box.app.screen.query(kind)))
        await pilot.pause()

    return run


@pytest.mark.parametrize("size", SIZES, ids=_id)
def test_details(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_long_day()
    assert snap_compare(box.app, terminal_size=size, run_before=press(box, "enter", until_there="1 State"))


@pytest.mark.parametrize("size", SIZES[:3], ids=_id)
def test_picker(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_long_day()
    assert snap_compare(box.app, terminal_size=size, run_before=press(box, "l", until_there="GLM-Sma"))


@pytest.mark.parametrize("size", SIZES[:3], ids=_id)
def test_the_end_of_a_process(size: tuple[int, int], snap_compare: Compare) -> None:
    box = Box("glm-code")
    box.host.foreign(1228, command="python3 /home/op/train.py", user="op")
    assert snap_compare(box.app, terminal_size=size, run_before=press(box, "end", "K", until_there="command"))


def test_one_that_survived(snap_compare: Compare) -> None:
    box = Box("glm-code")
    pid = box.host.foreign(1228, command="python3", user="op")

    async def run(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        said = f"python3 (pid {pid}) goes on 5 s after SIGTERM; it waits in the kernel (state D)"
        box.emit(ActEnded(f"end python3 (pid {pid})", False, said, survivor=(pid, pid)))
        await until(pilot, lambda: any("command" in one.text() for one in box.app.screen.query(Sheet)))
        await pilot.pause()

    assert snap_compare(box.app, terminal_size=(80, 24), run_before=run)


@pytest.mark.parametrize("size", [(40, 10), (200, 60)], ids=_id)
def test_the_table_with_a_load_an_alarm_and_orphans(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_long_day()
    service = box.host.registry.service("glm-code")
    box.host.drivers(service).unload(service, "GLM-4.7-Flash-UD-Q4_K_XL")
    box.film(3)
    box.host.script("glm-code").load_never_ends = True
    box.host.drivers(service).load(service, "GLM-4.7-Flash-UD-Q4_K_XL")
    box.film(40)
    assert snap_compare(box.app, terminal_size=size, run_before=lambda pilot: shown(box, pilot))
