"""A file that the operator asked for is written whole or not at all, and none is lost."""

import os
import stat
from pathlib import Path

import pytest

from gpumod_tui.adapters.files.atomic import save_text
from gpumod_tui.core.errors import FileNotSaved


def test_a_file_is_written_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert save_text(path, "lines\n漢\n", replace=False)
    assert path.read_text() == "lines\n漢\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["a.log"]


def test_one_that_is_there_stays_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("mine")
    assert not save_text(path, "lines", replace=False)
    assert path.read_text() == "mine"
    assert save_text(path, "lines", replace=True)
    assert path.read_text() == "lines"
    dangling = tmp_path / "b.log"
    dangling.symlink_to(tmp_path / "nowhere")
    assert not save_text(dangling, "lines", replace=False)


@pytest.mark.parametrize("links", [True, False])
def test_of_two_who_save_at_once_only_one_has_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, links: bool
) -> None:
    path = tmp_path / "a.log"
    fsync = os.fsync

    def another_was_faster(descriptor: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        assert save_text(path, "theirs", replace=False)
        fsync(descriptor)

    def no_links(*_names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", another_was_faster)
    assert not save_text(path, "mine", replace=False)
    assert path.read_text() == "theirs"
    assert [found.name for found in tmp_path.iterdir()] == ["a.log"]


def test_what_cannot_be_written_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotSaved, match="there is no folder"):
        save_text(tmp_path / "none" / "a.log", "lines", replace=False)
    with pytest.raises(FileNotSaved, match="is a folder"):
        save_text(tmp_path, "lines", replace=True)
    with pytest.raises(FileNotSaved, match="cannot be written"):
        save_text(tmp_path / "a\0b", "lines", replace=False)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileNotSaved, match="No space left on device"):
        save_text(tmp_path / "a.log", "lines", replace=False)
    assert not list(tmp_path.iterdir())
