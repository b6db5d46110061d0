"""A file that is none must not hold up the commands that read folders of presets."""

import os
import threading
from pathlib import Path

from gpumod_tui.adapters.files.yaml import read_yaml
from gpumod_tui.core.catalog.validation import Fault


def in_time(path: Path) -> tuple[object, str, Fault | None]:
    found: list[tuple[object, str, Fault | None]] = []
    thread = threading.Thread(target=lambda: found.append(read_yaml(path)), daemon=True)
    thread.start()
    thread.join(30.0)
    assert found, f"{path} is still being read"
    return found[0]


def test_a_named_pipe_is_a_problem_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert in_time(tmp_path / "a.yaml") == (None, "", Fault("", "a named pipe", "a regular file"))


def test_a_device_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("/dev/zero")
    assert in_time(tmp_path / "a.yaml") == (None, "", Fault("", "a device", "a regular file"))


def test_folders_and_what_is_missing_are_problems_and_leak_nothing(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        assert read_yaml(tmp_path)[2] == Fault("", "a folder", "a regular file")
        assert read_yaml(tmp_path / "gone.yaml")[2] is not None
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1\n")
    assert read_yaml(tmp_path / "a.yaml") == ({"a": 1}, "a: 1\n", None)
