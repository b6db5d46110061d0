"""Learned peaks on disk: many writers, killed writers, damaged files, full disks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpumod_tui.adapters.files import peaks as module
from gpumod_tui.adapters.files.peaks import MOST_KEYS, PeaksFile
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.core.vram.peaks import PeakKey

KEY = PeakKey("unit a", "0123", "1-2", "580.1", "0 NVIDIA X")


def key(name: str) -> PeakKey:
    return PeakKey(f"unit {name}", "", "", "", "")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "state", tmp_path / "runtime"


def test_the_highest_stays_gpu_by_gpu_for_every_process(folders: tuple[Path, Path]) -> None:
    one, other = PeaksFile(*folders), PeaksFile(*folders)
    assert one.highest(KEY) is None
    one.note(KEY, {0: 5 * GIB})
    assert other.highest(KEY) == {0: 5 * GIB}
    other.note(KEY, {0: 4 * GIB, 1: 2 * GIB})
    one.note(KEY, {1: GIB})
    assert one.highest(KEY) == {0: 5 * GIB, 1: 2 * GIB} == PeaksFile(*folders).highest(KEY)
    assert one.highest(key("b")) is None


@pytest.mark.parametrize("field", PeakKey.__dataclass_fields__)
def test_a_peak_of_something_else_says_nothing(folders: tuple[Path, Path], field: str) -> None:
    from dataclasses import replace

    peaks = PeaksFile(*folders)
    peaks.note(KEY, {0: GIB})
    assert peaks.highest(replace(KEY, **{field: "other"})) is None


def test_less_than_a_mib_more_is_not_written(folders: tuple[Path, Path]) -> None:
    peaks = PeaksFile(*folders)
    peaks.note(KEY, {0: GIB})
    before = (folders[0] / "peaks.json").stat()
    for size in (GIB, GIB - 1, GIB + MIB - 1, 0, -5, 1 << 62):
        peaks.note(KEY, {0: size})
    after = (folders[0] / "peaks.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    peaks.note(KEY, {0: GIB + MIB})
    assert peaks.highest(KEY) == {0: GIB + MIB}
    assert (folders[0] / "peaks.json").stat().st_ino != before.st_ino


def test_the_newest_keys_are_kept_and_one_in_use_is_new(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1e9
    monkeypatch.setattr("gpumod_tui.adapters.files.peaks.time.time", lambda: now)
    monkeypatch.setattr(module, "MOST_KEYS", most := 20)
    peaks = PeaksFile(*folders)
    for number in range(most):
        peaks.note(key(str(number)), {0: GIB})
        now += 1
    now += 90000
    peaks.note(key("0"), {0: GIB})
    now += 1
    peaks.note(key("new"), {0: GIB})
    assert peaks.highest(key("0")) == peaks.highest(key("new")) == {0: GIB}
    assert peaks.highest(key("1")) is None
    assert len(json.loads((folders[0] / "peaks.json").read_text())["peaks"]) == most


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b'{"version":1}',
        b'{"version":2,"peaks":{}}',
        b'{"version":1,"peaks":{"k":{"by_gpu":{"0":"many"},"at":0}}}',
        b'{"version":1,"peaks":{"k":{"by_gpu":{"0":-1},"at":0}}}',
        b'{"version":1,"peaks":{"k":{"by_gpu":{"0":1e300},"at":0}}}',
    ],
)
def test_a_damaged_file_is_set_aside_and_said(folders: tuple[Path, Path], content: bytes) -> None:
    folders[0].mkdir()
    (folders[0] / "peaks.json").write_bytes(content)
    peaks = PeaksFile(*folders)
    assert peaks.highest(KEY) is None
    assert "peaks.json" in peaks.problem
    assert (folders[0] / "peaks.json.damaged").read_bytes() == content
    peaks.note(KEY, {0: GIB})
    assert PeaksFile(*folders).highest(KEY) == {0: GIB}


def test_what_cannot_be_written_is_kept_and_written_later(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = PeaksFile(*folders)
    with monkeypatch.context() as full:
        full.setattr(module, "write_whole", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left")))
        peaks.note(KEY, {0: GIB})
        assert "No space left" in peaks.problem
        assert peaks.highest(KEY) == {0: GIB}
        for number in range(2 * MOST_KEYS):
            peaks.note(key(str(number)), {0: GIB})
        assert len(peaks._unwritten) == MOST_KEYS
    peaks.note(KEY, {0: 2 * GIB})
    assert PeaksFile(*folders).highest(KEY) == {0: 2 * GIB}
    assert peaks._unwritten == {}


WRITER = """
import os, sys
from pathlib import Path
from gpumod_tui.adapters.files import peaks as module
from gpumod_tui.adapters.files.peaks import PeaksFile
from gpumod_tui.core.vram.peaks import PeakKey
os.fsync = lambda _: None  # the disk must not set the pace
module._LOCK_S = 60.0  # nor the others make one give up
peaks = PeaksFile(Path(sys.argv[1]), Path(sys.argv[2]))
own = PeakKey("unit " + sys.argv[3], "", "", "", "")
shared = PeakKey("unit shared", "", "", "", "")
for step in range(1, int(sys.argv[4]) + 1):
    peaks.note(own, {0: step << 20})
    peaks.note(shared, {int(sys.argv[3]): step << 20})
    print(step, flush=True)
"""


def writer(folders: tuple[Path, Path], number: int, steps: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, *map(str, folders), str(number), str(steps)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_once_lose_nothing(folders: tuple[Path, Path]) -> None:
    writers = [writer(folders, number, 40) for number in range(5)]
    for process in writers:
        process.communicate(timeout=300)
        assert process.returncode == 0
    peaks = PeaksFile(*folders)
    assert [peaks.highest(key(str(number))) for number in range(5)] == [{0: 40 * MIB}] * 5
    assert peaks.highest(key("shared")) == dict.fromkeys(range(5), 40 * MIB)
    assert peaks.problem == ""


def test_a_killed_writer_leaves_a_whole_file_and_no_lock(folders: tuple[Path, Path]) -> None:
    for round_ in range(8):
        process = writer(folders, 7, 100000)
        assert process.stdout is not None
        told = int(process.stdout.readline())
        time.sleep(0.003 * round_)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.communicate()[0].split()
        told = int(rest[-1]) if rest else told
        peaks = PeaksFile(*folders)
        found = peaks.highest(key("7"))
        assert found is not None
        assert found[0] >= told * MIB
        assert peaks.problem == ""
    PeaksFile(*folders).note(key("after"), {0: GIB})
    assert PeaksFile(*folders).highest(key("after")) == {0: GIB}
