"""What the screens of "what if" and of modes look like, at all sizes and in every dress."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.ui.modes.live_fit import LookingScreen
from gpumod_tui.ui.modes.picker import ModePicker
from gpumod_tui.ui.options import ViewOptions
from tests.ui.dashboard.test_screens import ALL_SIZES, Compare, _id, shown
from tests.ui.played import Box, until

Before = Callable[[Pilot[Any]], Awaitable[None]]


def a_box(**options: Any) -> Box:
    """Something runs that counts, and somebody else's process."""
    box = Box("vllm-embedding", options=ViewOptions(**options))
    box.host.foreign(1228)
    box.film(5)
    # Peaks are learned by looks; when the first one is back must not matter.
    box.host.admission.take_stock()
    return box


def looking(box: Box, *keys: str) -> Before:
    """After these keys, and once the look at the box is back."""

    async def before(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        first, *rest = keys
        await pilot.press(first)
        await pilot.pause()
        if isinstance(box.app.screen, ModePicker) and rest:
            await pilot.press(*rest)
            rest = []
        await until(pilot, lambda: not isinstance(box.app.screen, LookingScreen) or box.app.screen.what_if is not None)
        await pilot.press(*rest)
        await pilot.pause()

    return before


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_what_if_it_fits(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_box()
    assert snap_compare(box.app, terminal_size=size, run_before=looking(box, "w", "3"))


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_what_if_it_does_not_fit(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_box()
    assert snap_compare(box.app, terminal_size=size, run_before=looking(box, "w", "space"))


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_mode_editor(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_box()
    assert snap_compare(box.app, terminal_size=size, run_before=looking(box, "m", "down", "down", "enter"))


@pytest.mark.parametrize("size", ALL_SIZES, ids=_id)
def test_mode_picker(size: tuple[int, int], snap_compare: Compare) -> None:
    box = a_box()
    assert snap_compare(box.app, terminal_size=size, run_before=looking(box, "m"))


@pytest.mark.parametrize("dress", ["ascii", "light", "no-colour"])
@pytest.mark.parametrize("keys", [("w", "space"), ("m", "down", "down", "enter")], ids=["what-if", "editor"])
def test_in_every_dress(
    keys: tuple[str, ...], dress: str, snap_compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dress == "no-colour":
        monkeypatch.setenv("NO_COLOR", "1")
    box = a_box(ascii_only=dress == "ascii", theme=Theme.LIGHT if dress == "light" else None)
    assert snap_compare(box.app, terminal_size=(80, 24), run_before=looking(box, *keys))


@pytest.mark.parametrize("part", ["gpus", "units"])
def test_what_cannot_be_known(part: str, snap_compare: Compare) -> None:
    box = a_box()
    getattr(box.host, part).error = "the NVIDIA driver was updated" if part == "gpus" else "no user bus"

    async def before(pilot: Pilot[Any]) -> None:
        await shown(box, pilot)
        await pilot.press("w")
        screen = box.app.screen
        await until(pilot, lambda: screen.sums.fault or screen.sums.simulation)  # type: ignore[attr-defined]
        await pilot.press("3")
        await pilot.pause()

    assert snap_compare(box.app, terminal_size=(80, 24), run_before=before)
