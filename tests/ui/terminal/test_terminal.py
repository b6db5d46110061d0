"""A terminal that goes away, stops reading or is none ends the view at most: never the work beside it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyte
import pytest

from gpumod_tui import ui
from gpumod_tui.ui.terminal.driver import QUEUE_BYTES, LossyWriter
from tests.bed.host import wait_until

PROGRAM = """
import pathlib, sys, threading, time
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.poller import Poller
from gpumod_tui.demo.clock import RunningClock
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.ui import run_dashboard
from tests.ui.played import PlayedCommands

host = DemoHost(RunningClock(), running=("glm-code",), activity=True)
host.start()
out = pathlib.Path(sys.argv[1])
end = threading.Event()

def work():  # a switch: it must outlive the view
    out.with_suffix(".begun").write_text("begun")
    end.wait(120)
    time.sleep(0.5)
    out.with_suffix(".worked").write_text("worked to its end")

threading.Thread(target=work, daemon=False).start()
units = [service.unit for service in host.registry.services.values()]
code = run_dashboard(host.registry, Poller(host, Recorded),
                     lambda _units, sink, report: host.journal.follow(units, sink, report=report), PlayedCommands())
out.write_text(str(code))
host.close()
end.set()
"""

SWITCHING = """
import os, pathlib, sys, threading, time
from gpumod_tui.cli import dashboard
from gpumod_tui.cli import _switching
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import ModelStatus
from gpumod_tui.demo.clock import RunningClock
from gpumod_tui.demo.host import DemoHost

out = pathlib.Path(sys.argv[1])
tell = _switching.tell_result

def told(result, *, as_json):
    out.write_text(f"{result.mode} {result.outcome}")
    tell(result, as_json=as_json)

_switching.tell_result = told
clock = RunningClock()
host = DemoHost(clock, running=("vllm-embedding",))
host.script("glm-code").load_s = 60.0
host.start()

def is_loading():
    service = host.registry.service("glm-code")
    try:
        return any(model.status is ModelStatus.LOADING for model in host.drivers(service).models(service))
    except GpumodError:
        return False

def load():  # goes on for as long as a test needs it
    while not (out.with_suffix(".loaded").exists() and is_loading()):
        time.sleep(0.05)
    clock.skip(60.0)

threading.Thread(target=load, daemon=True).start()
code = dashboard._open(host)
host.close()
try:
    sys.stdout.flush()
except OSError:  # the terminal is gone
    pass
os._exit(code)  # as gpumod itself: Python 3.13 would end with 120 where nothing can be flushed
"""


ESCAPE = b"\x1b[27u"
"""As kitty's keyboard protocol has it: the bare byte before another key would be that key with alt."""


class Session:
    """The dashboard in a process of its own at a terminal of its own."""

    def __init__(self, folder: Path, program: str = PROGRAM) -> None:
        self.out = folder / "out"
        self.begun = b""
        """What was written until the units were on screen."""
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(Path.cwd())}
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.out)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def read_until(self, word: bytes, seconds: float = 60.0) -> bytes:
        end, seen = time.monotonic() + seconds, b""
        while word not in seen:
            assert time.monotonic() < end, seen[-2000:]
            if select.select([self.master], [], [], 0.2)[0]:
                seen += os.read(self.master, 65536)
        return seen

    def drain(self, seconds: float) -> bytes:
        end, seen = time.monotonic() + seconds, b""
        while (left := end - time.monotonic()) > 0:
            if select.select([self.master], [], [], left)[0]:
                seen += os.read(self.master, 65536)
        return seen

    def end_load(self) -> None:
        """Of SWITCHING: its model is loaded from now on."""
        self.out.with_suffix(".loaded").touch()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ended(self) -> str:
        assert self.process.wait(60) == 0
        assert self.out.with_suffix(".worked").read_text() == "worked to its end"
        return self.out.read_text()


@contextmanager
def session(folder: Path, program: str = PROGRAM) -> Iterator[Session]:
    made = Session(folder, program)
    try:
        made.begun = made.read_until(b"glm-code")
        yield made
    finally:
        if made.process.poll() is None:
            made.process.kill()
            made.process.wait()
        with suppress(OSError):
            os.close(made.master)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_the_view_and_restores_the_terminal(number: signal.Signals, tmp_path: Path) -> None:
    with session(tmp_path) as box:
        box.process.send_signal(number)
        assert b"\x1b[?1049l" in box.read_until(b"\x1b[?1049l")
        assert box.ended() == str(ui.LOST_EXIT)


def test_a_closed_terminal_ends_the_view_and_not_the_work(tmp_path: Path) -> None:
    with session(tmp_path) as box:
        os.close(box.master)
        assert box.ended() == str(ui.LOST_EXIT)


def test_q_ends_the_view(tmp_path: Path) -> None:
    with session(tmp_path) as box:
        os.write(box.master, b"q")
        box.read_until(b"\x1b[?1049l")
        assert box.ended() == "0"


def test_the_mouse_is_asked_for_presses_only_and_given_back(tmp_path: Path) -> None:
    with session(tmp_path) as box:
        os.write(box.master, b"q")
        seen = box.begun + box.read_until(b"\x1b[?1049l")
        assert seen.index(b"\x1b[?1000h") < seen.index(b"\x1b[?1000l")
        assert b"\x1b[?1003h" not in seen
        assert box.ended() == "0"


def leave_during_a_switch(box: Session) -> None:
    for keys, answer in (
        (b"3", b"do it"),
        (b"\r", b" cancels"),
        (b"q", b"goes on to its end"),
        (b"q", b"goes on; "),
    ):
        os.write(box.master, keys)
        box.read_until(answer)


def test_who_leaves_during_a_switch_is_told_how_it_ended(tmp_path: Path) -> None:
    with session(tmp_path, SWITCHING) as box:
        leave_during_a_switch(box)
        box.end_load()
        box.read_until(b"code: done in")
        assert box.process.wait(60) == 0


def test_a_terminal_that_hangs_up_after_the_view_was_left_ends_no_switch(tmp_path: Path) -> None:
    with session(tmp_path, SWITCHING) as box:
        leave_during_a_switch(box)
        os.close(box.master)
        box.process.send_signal(signal.SIGHUP)
        box.end_load()
        assert box.process.wait(60) == 0
        assert box.out.read_text() == "code done"


def test_a_terminal_that_hangs_up_twice_ends_the_view_and_no_switch(tmp_path: Path) -> None:
    with session(tmp_path, SWITCHING) as box:
        for keys, answer in ((b"3", b"do it"), (b"\r", b" cancels")):
            os.write(box.master, keys)
            box.read_until(answer)
        os.close(box.master)
        for _ in range(10):
            time.sleep(0.1)
            box.process.send_signal(signal.SIGHUP)
        box.end_load()
        assert box.process.wait(60) == 0
        assert box.out.read_text() == "code done"


def test_sigterm_after_the_view_was_left_ends_no_switch(tmp_path: Path) -> None:
    with session(tmp_path, SWITCHING) as box:
        leave_during_a_switch(box)
        box.process.send_signal(signal.SIGTERM)
        box.end_load()
        assert box.process.wait(60) == 0
        assert box.out.read_text() == "code done"


def test_ctrl_c_after_the_view_was_left_cancels_in_good_order(tmp_path: Path) -> None:
    with session(tmp_path, SWITCHING) as box:
        leave_during_a_switch(box)
        os.write(box.master, b"\x03")
        time.sleep(0.1)
        os.write(box.master, b"\x03")
        box.read_until(b"code: cancelled")
        # The second one may come when nothing is left but the interpreter's end: to a shell that is 130 as well.
        assert box.process.wait(60) in (130, -signal.SIGINT)
        assert box.out.read_text() == "code cancelled"


def test_a_terminal_that_stops_reading_costs_nothing_and_gets_a_whole_screen_afterwards(tmp_path: Path) -> None:
    with session(tmp_path) as box:
        for _ in range(30):
            os.write(box.master, b"?")
            time.sleep(0.1)
            os.write(box.master, ESCAPE)
            time.sleep(0.1)
        # Once it has done what the keys say, which takes a slow machine longer.
        wait_until(lambda: cpu_seconds_of_the_next_second(box) < 0.25, 300.0, what="it costs nothing")
        os.write(box.master, b"q")
        box.read_until(b"\x1b[?1049l")
        assert box.ended() == "0"


def cpu_seconds_of_the_next_second(box: Session) -> float:
    before = box.cpu_seconds()
    time.sleep(1.0)
    return box.cpu_seconds() - before


def test_the_writer_drops_old_frames_and_asks_for_a_whole_one() -> None:
    reading, writing = os.pipe()
    recovered: list[bool] = []
    writer = LossyWriter(writing, lambda: None, lambda: recovered.append(True))
    begun = time.monotonic()
    for _ in range(100):
        writer.write("x" * (QUEUE_BYTES // 8))
    assert time.monotonic() - begun < 30.0
    assert writer.frames_dropped > 50
    end = time.monotonic() + 30.0
    while not recovered and time.monotonic() < end:
        if select.select([reading], [], [], 0.1)[0]:
            os.read(reading, 65536)
    assert recovered
    writer.stop()
    os.close(reading)
    os.close(writing)


def test_the_writer_falls_silent_when_nobody_is_there_any_more() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    lost: list[bool] = []
    writer = LossyWriter(writing, lambda: lost.append(True), lambda: None)
    for _ in range(5):
        writer.write("frame")
    writer.stop()
    writer.write("more")
    assert lost == [True]
    os.close(writing)


def test_no_dashboard_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not ui.can_show()
    monkeypatch.setenv("TERM", "dumb")
    assert not ui.can_show()


def test_asking_for_the_dashboard_imports_no_textual() -> None:
    code = "import sys, gpumod_tui.ui; sys.exit('textual' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_ends_a_thread_is_told_on_the_screen_and_not_over_it(tmp_path: Path) -> None:
    breaks = "threading.Timer(1.0, lambda: {}['odd']).start()\ncode = run_dashboard("
    with session(tmp_path, PROGRAM.replace("code = run_dashboard(", breaks)) as box:
        screen = pyte.Screen(120, 40)
        stream = pyte.ByteStream(screen)
        stream.feed(box.begun)
        end = time.monotonic() + 30.0
        while "internal error: KeyError: 'odd'" not in "\n".join(screen.display):
            assert time.monotonic() < end, "\n".join(screen.display)
            stream.feed(box.drain(0.2))
        os.write(box.master, b"q")
        assert b"Traceback" not in box.read_until(b"\x1b[?1049l")
        assert box.ended() == "0"
