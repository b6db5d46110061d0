"""How the dashboard was left is how it opens; what of that cannot be read or is gone is passed over."""

from pathlib import Path

import pytest

from gpumod_tui.adapters.files.view import ViewFile
from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.core.view import View
from gpumod_tui.ui.app import GpumodApp
from gpumod_tui.ui.options import ViewOptions
from tests.ui.dashboard.test_screens import shown
from tests.ui.played import Box


async def test_the_last_view_comes_back() -> None:
    box = Box("glm-code")
    async with box.app.run_test(size=(120, 40)) as pilot:
        await shown(box, pilot)
        await pilot.press("o", "slash", *"e", "enter", "v", "v")
        await pilot.press("home", "down", "down", "g", "+", "T", "z", "L", "W", "slash", *"GET|POST", "enter")
        await pilot.pause()
    left = box.app.view
    usual = View().log_level
    assert left == View(
        Theme.LIGHT,
        left.unit,
        "VRAM",
        "e",
        (left.unit,),
        left.log_level,
        "GET|POST",
        left.log_rows,
        zoomed=True,
        window_min=left.window_min,
        graphs=True,
    )
    assert left.log_rows > View().log_rows
    assert left.log_level < usual
    box.view = left
    box.app = box.make(GpumodApp)
    async with box.app.run_test(size=(120, 40)) as pilot:
        assert box.app.view == left
        await shown(box, pilot)
        board = box.app.dashboard
        assert box.app.theme == "gpumod-light"
        assert board.journal.size.height == 38
        assert left.unit in board.journal.text().splitlines()[0]
        assert board.units.selected is not None
        assert board.units.selected.id == left.unit
        assert box.app.view == left


async def test_what_config_yaml_says_goes_before_what_was_left_and_what_is_gone_is_passed_over() -> None:
    box = Box("glm-code", options=ViewOptions(theme=Theme.CONTRAST))
    box.view = View(Theme.LIGHT, "gone", "no order", "", ("gone",), 99, "(", -1, window_min=12345)
    box.app = box.make(GpumodApp)
    async with box.app.run_test(size=(80, 24)) as pilot:
        await shown(box, pilot)
        assert box.app.theme == "gpumod-contrast"
        assert box.app.view == View(Theme.CONTRAST, "glm-code", window_min=box.app.view.window_min)
        assert box.app.view.window_min < 1000


def test_the_file_is_written_whole_and_read_again(tmp_path: Path) -> None:
    file = ViewFile(tmp_path / "state")
    assert file.read() == View()
    view = View(Theme.ANSI, "glm-code", log_filter="err|warn", window_min=60)
    file.write(view)
    assert ViewFile(tmp_path / "state").read() == view
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["view.json"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"theme": "nord"}', b'{"unit": 5}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_broken_file_is_no_view(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "view.json").write_bytes(content)
    assert ViewFile(tmp_path).read() == View()


def test_where_nothing_can_be_written_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    ViewFile(tmp_path / "state").write(View())
