"""`gpumod status --watch`: in place on a terminal, one block or one JSON line after the other elsewhere."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyte
import pytest

from gpumod_tui.cli._watch import Painter
from tests.unit.cli.test_faults import RUN, environment, gpumod


def shown(texts: list[str], columns: int = 40, rows: int = 6) -> list[str]:
    screen = pyte.Screen(columns, rows)
    stream = pyte.Stream(screen)
    for text in texts:
        stream.feed(text)
    return [line.rstrip() for line in screen.display]


def test_only_changed_lines_are_written() -> None:
    painter = Painter()
    first = painter.paint(["one", "two", "three"], 40, 6)
    assert painter.paint(["one", "two", "three"], 40, 6) == ""
    second = painter.paint(["one", "TWO", "three"], 40, 6)
    assert "three" not in second
    assert "one" not in second
    assert shown([first, second]) == ["one", "TWO", "three", "", "", ""]
    third = painter.paint(["one"], 40, 6)
    assert shown([first, second, third]) == ["one", "", "", "", "", ""]


def test_what_does_not_fit_is_counted_and_another_size_is_painted_anew() -> None:
    painter = Painter()
    many = [f"line {number}" for number in range(20)]
    first = painter.paint(many, 40, 6)
    assert shown([first]) == ["line 0", "line 1", "line 2", "line 3", "… 16 more lines", ""]
    second = painter.paint(many, 20, 4)
    assert shown([second], 20, 4) == ["line 0", "line 1", "… 18 more lines", ""]
    assert painter.paint(["x" * 100], 20, 4).count("x") == 20


def test_nothing_that_a_terminal_obeys_is_passed_on() -> None:
    assert shown([Painter().paint(["a\x1b[2Jb\x07c\nd"], 40, 6)])[0] == "a\ufffd[2Jb\ufffdc d"


def test_json_is_one_document_a_line(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "status", "--watch", "0.2", "--json"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        documents = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert all("snapshot" in document for document in documents)
        assert documents[0]["snapshot"]["at"] < documents[2]["snapshot"]["at"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


def test_whoever_read_enough_ends_it(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "status", "--watch=0.2"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "no mode" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("seconds", ["0", "nan", "x"])
def test_a_rate_that_cannot_be_is_a_usage_error(seconds: str, tmp_path: Path) -> None:
    done = gpumod("status", f"--watch={seconds}", folder=tmp_path)
    assert done.returncode == 2
    assert "--watch" in done.stderr


def test_on_a_terminal_ctrl_c_leaves_it_as_it_was(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, "status", "--watch"],
        env=environment(tmp_path, TERM="xterm"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    seen, end = b"", time.monotonic() + 15
    while b"no mode" not in seen and time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            seen += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert b"\x1b[?1049h" not in seen
    assert b"\x1b[?25l" not in seen
    assert b"Traceback" not in seen
    os.close(master)
