"""The ledger's file and its lock, whatever is done to the folder meanwhile."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gpumod_tui.adapters.files.ledger import FileLedger, peek, set_aside
from gpumod_tui.core.admission.commitments import LedgerState
from gpumod_tui.core.errors import StateUnavailable

KNOWN = LedgerState(known=True)


def test_who_waits_for_a_lock_that_is_deleted_takes_the_one_that_is_there(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    lock = tmp_path / "ledger.lock"
    with ledger.locked(1.0):
        lock.unlink()
        with ledger.locked(1.0) as other:
            other.write(KNOWN)
            with pytest.raises(StateUnavailable, match="held by another"), ledger.locked(0.0):
                pass


def test_who_holds_a_lock_that_was_deleted_writes_nothing(tmp_path: Path) -> None:
    ledger = FileLedger(tmp_path)
    with ledger.locked(1.0) as mine:
        (tmp_path / "ledger.lock").unlink()
        with ledger.locked(1.0) as other:
            other.write(KNOWN)
        with pytest.raises(StateUnavailable, match="was deleted while it was held"):
            mine.write(LedgerState())
    with ledger.locked(1.0) as after:
        assert after.state == KNOWN


def test_what_killed_writers_left_behind_goes_with_the_next_writing(tmp_path: Path) -> None:
    (tmp_path / ".ledger.json.k1ll3d").write_text("half")
    with FileLedger(tmp_path).locked(1.0) as ledger:
        ledger.write(KNOWN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ledger.json", "ledger.lock"]


def test_a_writer_that_is_killed_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = FileLedger(tmp_path)
    with ledger.locked(1.0) as held:
        held.write(KNOWN)

    class Killed(BaseException): ...

    def die(_descriptor: int) -> None:
        raise Killed

    monkeypatch.setattr("gpumod_tui.adapters.files.atomic.os.fsync", die)
    with pytest.raises(Killed), ledger.locked(1.0) as held:
        held.write(LedgerState(doubted_at=1.0))
    with ledger.locked(1.0) as after:
        assert after.state == KNOWN


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_set_aside_and_keeps_nobody_waiting(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "ledger.json")
    (tmp_path / "ledger.damaged").write_text("from another time")
    assert peek(tmp_path) == (0, f"{tmp_path / 'ledger.json'} is no file")
    with FileLedger(tmp_path).locked(1.0) as ledger:
        assert "is no file, and was set aside as ledger.strange" in ledger.state.lost
    with FileLedger(tmp_path).locked(1.0) as ledger:
        assert "is no file" in ledger.state.lost, "nobody has rebuilt it yet"
        ledger.write(KNOWN)
    assert (tmp_path / "ledger.json").is_file()
    assert [one.path.name for one in set_aside(tmp_path)] == ["ledger.damaged", "ledger.strange"]
