"""The history of switches: nothing that ended is missing or told twice, and losing it loses nothing else."""

import errno
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gpumod_tui.adapters.files import switch_log
from gpumod_tui.adapters.files.state import StateDir
from gpumod_tui.core.models import Holder, LogLine
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import HISTORY_LENGTH, Moment, StepRecord, SwitchError, SwitchRecord, kept
from gpumod_tui.demo.host import DemoHost
from tests.unit.adapters.files.test_state import _killed_at, store_in, taken

SWITCHER = """
import os, sys, time
from dataclasses import replace
from pathlib import Path
from gpumod_tui.adapters.files.state import StateDir
os.fsync = lambda _: None  # the disk must not set the pace
store = StateDir(Path(sys.argv[1]) / "state", Path(sys.argv[1]) / "run")
done = 0
while done < 40:
    lock = store.acquire(f"{sys.argv[2]}{done}")
    if lock is None:
        time.sleep(0.001)
        continue
    lock.write(replace(lock.record, outcome="done", ended_at=time.time()))
    lock.release()
    done += 1
"""


@pytest.fixture
def store(tmp_path: Path) -> StateDir:
    return store_in(tmp_path)


def end(store: StateDir, target: str = "code", outcome: str = "done") -> SwitchRecord:
    lock = taken(store, target)
    lock.write(replace(lock.record, outcome=outcome, ended_at=lock.record.started_at + 1.5))
    lock.release()
    return lock.record


def test_what_ended_is_there_the_newest_first(store: StateDir) -> None:
    assert store.history().switches == ()
    records = [end(store, "code"), end(store, "rag", "failed")]
    assert list(store.history().switches) == records[::-1]
    assert [one.seconds for one in records] == [1.5, 1.5]


def test_what_runs_is_not_there_yet(store: StateDir) -> None:
    first = end(store)
    lock = taken(store, "rag")
    assert store.history().switches == (first,)
    lock.release()
    assert [one.outcome for one in store.history().switches] == [None, "done"], "killed"
    end(store, "blank")
    assert [one.target for one in store.history().switches] == ["blank", "rag", "code"], "and kept after it"


def test_it_is_bounded(store: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    for number in range(HISTORY_LENGTH + 3):
        end(store, f"m{number}")
    switches = store.history().switches
    assert len(switches) == HISTORY_LENGTH
    assert switches[0].target == f"m{HISTORY_LENGTH + 2}"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"version": 1}', b'{"version": 9, "switches": []}'])
def test_a_broken_file_is_set_aside_and_loses_nothing_else(store: StateDir, tmp_path: Path, content: bytes) -> None:
    lock = taken(store, "rag")
    lock.write(replace(lock.record, outcome="done"), Recorded("rag", 1.0))
    lock.release()
    file = tmp_path / "state/switches.json"
    file.write_bytes(content)
    assert str(file) in store.history().problem
    assert store.read().recorded.mode == "rag"
    end(store, "code")
    assert store.history().problem == ""
    assert [one.target for one in store.history().switches] == ["code", "rag"]
    assert file.with_name("switches.json.damaged").read_bytes() == content


def test_a_history_that_cannot_be_written_holds_up_no_switch(store: StateDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    first = end(store)
    with monkeypatch.context() as patch:
        patch.setattr(switch_log, "write_whole", full)
        record = end(store, "rag")
    assert store.read().switch == record
    assert store.history().switches == (record, first)
    end(store, "blank")
    assert [one.target for one in store.history().switches] == ["blank", "rag", "code"], "caught up with"


def test_killed_between_any_two_lines_every_end_is_told_once(tmp_path: Path) -> None:
    lines = 0
    for line in range(1, 400):
        store = store_in(tmp_path / str(line))
        first = end(store, "rag")
        lock = taken(store)
        ended = replace(lock.record, outcome="done", ended_at=lock.record.started_at)
        whole = _killed_at(line, lambda lock=lock, ended=ended: lock.write(ended), switch_log.__file__)  # type: ignore[misc]
        lock.release()
        switches = store.history().switches
        assert [one.id for one in switches] == [ended.id, first.id], f"line {line}"
        next_one = end(store, "blank")
        assert [one.id for one in store.history().switches] == [next_one.id, ended.id, first.id], f"line {line}"
        lines = line
        if whole:
            break
    else:
        pytest.fail("it never came to its end")
    assert lines > 30


def test_two_processes_lose_none_of_each_other(store: StateDir, tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", SWITCHER, str(tmp_path), name]) for name in ("a", "b")]
    assert [child.wait(60) for child in children] == [0, 0]
    wanted = sorted(f"{name}{number}" for name in ("a", "b") for number in range(40))
    assert sorted(one.target for one in store.history().switches) == wanted


def test_a_record_of_an_older_gpumod_is_read(store: StateDir, tmp_path: Path) -> None:
    old = {"id": "1", "target": "code", "pid": 7, "pid_start": 1, "started_at": 5.0, "steps": [{"step": "stop"}]}
    (tmp_path / "state").mkdir()
    (tmp_path / "state/state.json").write_bytes(msgspec.json.encode({"recorded": {}, "switch": old}))
    assert store.history().switches[0].steps == (StepRecord("stop"),)


def test_evidence_is_kept_and_cut(store: StateDir) -> None:
    lines = tuple(LogLine(float(number), "a.service", "x" * 1000) for number in range(30))
    error = SwitchError("died", "start", "a.service", (Holder(7, 0, 1024, "python3"),), lines, "look")
    lock = taken(store)
    lock.write(replace(lock.record, outcome="failed", errors=kept((error,) * 9)))
    read = store.history().switches[0].errors
    assert len(read) == 3
    assert read[0].holders == error.holders
    assert [len(line.message) for line in read[0].journal] == [300] * 5


def test_a_moment_counts_for_its_own_step_of_its_own_switch(store: StateDir) -> None:
    lock = taken(store)
    lock.write(replace(lock.record, steps=(StepRecord("load"),)))
    moment = Moment(lock.record.id, "load", "GLM text_model", 0.5)
    lock.tell(moment)
    assert store.read().moment == moment
    lock.write(replace(lock.record, steps=(StepRecord("load", "", True, 1.0), StepRecord("verify"))))
    assert store.read().moment is None
    lock.release()
    again = taken(store)
    again.write(replace(again.record, steps=(StepRecord("load"),)))
    assert store.read().moment is None


def test_a_record_says_what_its_process_was_called_with(monkeypatch: pytest.MonkeyPatch, store: StateDir) -> None:
    monkeypatch.setattr(sys, "argv", ["/opt/x/bin/gpumod", "mode", "switch", "a b"])
    assert taken(store).record.command == "gpumod mode switch 'a b'"


def test_a_switch_tells_others_where_its_steps_are() -> None:
    host = DemoHost(running=("vllm-embedding",))
    moments: list[Moment] = []
    host.store.put_moment = moments.append  # type: ignore[method-assign, assignment]
    manager = Manager(host)
    assert manager.switch_mode("code").success
    manager.close()
    record = host.store.history().switches[0]
    assert record.starting == ("glm-code.service",)
    assert record.stopping == ("vllm-embedding.service",)
    assert all(told.at is not None and told.ok for told in record.steps)
    assert {"release", "load"} <= {moment.step for moment in moments}
    release = next(moment for moment in moments if moment.step == "release")
    assert release.levels[0].free_bytes < release.levels[0].goal_bytes
