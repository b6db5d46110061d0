"""The switch lock and the state file, between processes that come, go and are killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from gpumod_tui.adapters.files import atomic as _atomic
from gpumod_tui.adapters.files import state as state_dir
from gpumod_tui.adapters.files.state import FileLock, StateDir
from gpumod_tui.core.errors import StateUnavailable
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.records import StepRecord, Tally

HOLDER = """
import sys
from pathlib import Path
from gpumod_tui.adapters.files.state import StateDir
lock = StateDir(Path(sys.argv[1]) / "state", Path(sys.argv[1]) / "run").acquire("rag")
print("held" if lock else "busy", flush=True)
sys.stdin.read()
"""
SWITCHER = """
import os, sys
from dataclasses import replace
from pathlib import Path
from gpumod_tui.adapters.files.state import StateDir
os.fsync = lambda _: None  # the disk must not set the pace
store = StateDir(Path(sys.argv[1]) / "state", Path(sys.argv[1]) / "run")
for number in range(100_000):
    lock = store.acquire("code")
    lock.write(replace(lock.record, outcome="done"))
    lock.release()
    if number == 0:
        print("switching", flush=True)
"""


def store_in(folder: Path) -> StateDir:
    return StateDir(folder / "state", folder / "run")


@pytest.fixture
def store(tmp_path: Path) -> StateDir:
    return store_in(tmp_path)


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[[str], "subprocess.Popen[str]"]]:
    """Runs a script that is given the folder, until the test's end."""
    children: list[subprocess.Popen[str]] = []

    def start(script: str) -> "subprocess.Popen[str]":
        child = subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def said(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def unwritable(_store: StateDir, _record: object, _recorded: object) -> None:
    raise StateUnavailable("state.json: No space left on device")


def taken(store: StateDir, target: str = "code") -> FileLock:
    lock = store.acquire(target)
    assert lock is not None
    return lock


class TestLock:
    def test_is_held_by_one_switch_at_a_time_also_within_a_process(self, store: StateDir) -> None:
        lock = taken(store)
        assert store.acquire("rag") is None
        assert store.read().held
        lock.release()
        lock.release()
        assert not store.read().held
        taken(store).release()

    def test_a_look_at_it_does_not_end_it(self, store: StateDir) -> None:
        taken(store)
        store.read()
        assert store.acquire("rag") is None

    def test_the_holder_is_known_where_its_record_could_not_be_written(
        self, store: StateDir, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ended = taken(store, "rag")
        ended.write(replace(ended.record, outcome="done", ended_at=1.0))
        ended.release()
        with monkeypatch.context() as full:
            full.setattr(StateDir, "write", unwritable)
            lock = taken(store, "code")
        running = store.read().running
        assert running is not None
        assert (running.id, running.target, running.pid) == (lock.record.id, "code", os.getpid())
        lock.release()
        assert store.read().running is None

    def test_another_process_names_itself_and_leaves_the_lock_when_killed(
        self, store: StateDir, spawn: Callable[[str], "subprocess.Popen[str]"]
    ) -> None:
        child = spawn(HOLDER)
        assert said(child) == "held"
        assert store.acquire("code") is None
        running = store.read().running
        assert running is not None
        assert (running.target, running.pid, running.step) == ("rag", child.pid, "begin")
        child.kill()
        child.wait()
        state = store.read()
        assert (state.running, state.interrupted) == (None, running)
        taken(store).release()

    def test_of_many_at_once_one_has_it(self, spawn: Callable[[str], "subprocess.Popen[str]"]) -> None:
        children = [spawn(HOLDER) for _ in range(4)]
        assert sorted(said(child) for child in children) == ["busy", "busy", "busy", "held"]

    def test_a_switch_that_begins_or_ends_is_never_read_as_interrupted(
        self, store: StateDir, spawn: Callable[[str], "subprocess.Popen[str]"]
    ) -> None:
        child = spawn(SWITCHER)
        assert said(child) == "switching"
        seen: set[str | None] = set()
        while len(seen) < 100:
            state = store.read()
            assert state.interrupted is None
            assert state.switch is not None
            seen.add(state.switch.id)
        assert child.poll() is None

    @pytest.mark.parametrize("moment", ["before the look at the lock", "after it"])
    def test_nor_when_that_happens_between_two_lines_of_the_reader(self, tmp_path: Path, moment: str) -> None:
        class Raced(StateDir):
            happens: Callable[[], None] | None = None

            def _held(self) -> bool:
                act, self.happens = self.happens, None
                if act and moment.startswith("before"):
                    act()
                held = super()._held()
                if act and moment.startswith("after"):
                    act()
                return held

        store = Raced(tmp_path / "state", tmp_path / "run")
        locks: list[FileLock] = []
        store.happens = lambda: locks.append(taken(store_in(tmp_path)))
        assert store.read().interrupted is None

        def end() -> None:
            locks[0].write(replace(locks[0].record, outcome="done"))
            locks[0].release()

        store.happens = end
        assert store.read().interrupted is None

    def test_files_are_for_their_owner_only(self, store: StateDir, tmp_path: Path) -> None:
        store.request_cancel(taken(store).record.id)
        modes = {str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
        assert modes == {
            "state": 0o700,
            "state/state.json": 0o600,
            "run": 0o700,
            "run/switch.json": 0o600,
            "run/switch.lock": 0o600,
            "run/cancel": 0o600,
        }


class TestRecord:
    def test_what_is_written_is_read(self, store: StateDir) -> None:
        lock = taken(store)
        record = replace(lock.record, steps=(StepRecord("stop", "x", ok=True, seconds=0.5),), touched=True)
        lock.write(record, Recorded("code", 7.0, "a note"))
        assert store.read().switch == record
        lock.write(replace(record, outcome="done"))
        state = store.read()
        assert state.recorded == Recorded("code", 7.0, "a note"), "kept where none is given"
        assert (state.running, state.interrupted) == (None, None)

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"recorded": 3}', b"\xff\xfe", b'{"switch": {"id": "x"}}', b"null"]
    )
    def test_a_damaged_file_reads_as_nothing_recorded_and_is_replaced(
        self, store: StateDir, tmp_path: Path, content: bytes
    ) -> None:
        taken(store).release()
        (tmp_path / "state/state.json").write_bytes(content)
        state = store.read()
        assert (state.recorded.mode, state.switch) == (None, None)
        assert "damaged" in state.recorded.note
        lock = taken(store)
        lock.write(replace(lock.record, outcome="done"), Recorded("rag", 1.0))
        assert store.read().recorded == Recorded("rag", 1.0)

    def test_switches_are_counted_by_how_they_ended(self, store: StateDir) -> None:
        for outcome, seconds in (("done", 2.0), ("failed", 5.0), ("done", 3.0)):
            lock = taken(store)
            lock.write(replace(lock.record, note="half-way"))
            lock.write(replace(lock.record, outcome=outcome, ended_at=lock.record.started_at + seconds))
            lock.release()
        assert store.read().tallies == {"done": Tally(2, 5.0), "failed": Tally(1, 5.0)}

    def test_a_folder_that_is_a_file_says_so_and_holds_up_no_switch(self, store: StateDir, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("")
        assert "state.json cannot be read" in store.read().recorded.note
        lock = taken(store)
        with pytest.raises(StateUnavailable, match="state"):
            lock.write(lock.record)
        lock.release()

    def test_killed_between_any_two_lines_the_file_is_whole(self, store: StateDir) -> None:
        lock = taken(store)
        before = replace(lock.record, note="before" * 100)
        after = replace(before, note="after" * 2000, outcome="done")
        seen: set[str | None] = set()
        for line in range(1, 200):
            lock.write(before, Recorded("rag", 1.0))
            whole = _killed_at(line, lambda: lock.write(after, Recorded("code", 2.0)))
            state = store.read()
            assert (state.switch, state.recorded.mode) in ((before, "rag"), (after, "code")), f"line {line}"
            seen.add(state.recorded.mode)
            if whole:
                break
        else:
            pytest.fail("it never came to its end")
        assert line > 15
        assert seen == {"rag", "code"}


class TestCancel:
    def test_a_request_hits_the_switch_that_it_names_and_no_later_one(self, store: StateDir) -> None:
        first = taken(store)
        assert not first.cancel_requested()
        store.request_cancel(first.record.id)
        assert first.cancel_requested()
        first.release()
        second = taken(store)
        assert not second.cancel_requested()
        store.request_cancel(second.record.id)
        assert second.cancel_requested()

    def test_an_unreadable_request_is_none(self, store: StateDir, tmp_path: Path) -> None:
        lock = taken(store)
        (tmp_path / "run/cancel").write_bytes(b"\xff")
        assert not lock.cancel_requested()


class TestSignal:
    def test_reaches_the_process_of_the_record(
        self, store: StateDir, spawn: Callable[[str], "subprocess.Popen[str]"]
    ) -> None:
        child = spawn(HOLDER)
        assert said(child) == "held"
        record = store.read().running
        assert record is not None
        assert store.signal(record, signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        assert not store.signal(record, signal.SIGKILL)

    def test_spares_a_process_that_was_given_the_same_pid_later(
        self, store: StateDir, spawn: Callable[[str], "subprocess.Popen[str]"]
    ) -> None:
        child = spawn(HOLDER)
        assert said(child) == "held"
        record = store.read().running
        assert record is not None
        assert not store.signal(replace(record, pid_start=record.pid_start - 1), signal.SIGKILL)
        assert child.poll() is None


def _killed_at(count: int, act: Callable[[], None], *files: str) -> bool:
    """Run `act` in a child that kills itself at the so many'th line of the adapter; whether it came to its end."""
    child = os.fork()
    if child == 0:
        left = count
        traced = (state_dir.__file__, _atomic.__file__, *files)

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal left
            if frame.f_code.co_filename not in traced:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == 0
