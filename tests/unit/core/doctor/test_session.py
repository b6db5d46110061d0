"""What the doctor finds on the session, the folders, the ledger and the last switch."""

import fcntl
import os
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.adapters.files.ledger import FileLedger
from gpumod_tui.core.admission.commitments import Commitment, LedgerState
from gpumod_tui.core.doctor.checks import session
from gpumod_tui.core.doctor.facts import Folder, LedgerLook, SetAside, Severity
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.switch.records import StepRecord, StoredState, SwitchRecord
from tests.unit._findings import errors, facts_below, only, warnings


def test_linger_is_a_file_and_unknown_without_logind(tmp_path: Path) -> None:
    facts = facts_below(tmp_path)
    assert facts.lingers() is None
    assert session.check_linger(None, "sam").severity is Severity.OK
    (tmp_path / "run/systemd/users").mkdir(parents=True)
    assert facts.lingers() is False
    found = session.check_linger(False, "sam")
    assert (found.severity, found.todo) == (Severity.WARNING, "loginctl enable-linger sam")
    (tmp_path / "var/lib/systemd/linger").mkdir(parents=True)
    (tmp_path / "var/lib/systemd/linger" / facts.user()).touch()
    assert facts.lingers() is True
    assert session.check_linger(True, "sam").severity is Severity.OK


@pytest.mark.parametrize(
    ("lines", "persistent", "expected"),
    [(1, True, (0, 1)), (1, False, (1, 0)), (0, True, (1, 0)), (0, False, (2, 0))],
)
def test_the_journal(lines: int, persistent: bool, expected: tuple[int, int]) -> None:
    found = list(session.check_journal(lines, is_persistent=persistent))
    assert (len(warnings(found)), len(only(found, Severity.OK))) == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_ours": False}, "another user"),
        ({"mode": 0o755}, "open to others (mode 755)"),
        ({"mode": 0o710}, "open to others (mode 710)"),
        ({"is_writable": False, "mode": 0o500}, "cannot be written"),
    ],
)
def test_the_runtime_folder_is_ours_alone(changes: dict[str, Any], words: str) -> None:
    good = Folder(Path("/run/x"), exists=True)
    assert not errors(session.check_folders(good, good))
    (found,) = errors(session.check_folders(replace(good, **changes), good))
    assert words in found.what
    assert errors(session.check_folders(good, replace(good, is_writable=False)))


def test_folders_are_read_as_they_are(tmp_path: Path) -> None:
    facts = facts_below(tmp_path)
    assert facts.runtime_folder() == Folder(tmp_path / "runtime")
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime").chmod(0o751)
    assert facts.runtime_folder() == Folder(tmp_path / "runtime", exists=True, mode=0o751)
    (tmp_path / "state").write_text("a file where a folder is due")
    assert facts.state_folder().is_writable is False


def test_a_folder_without_room_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    facts = facts_below(tmp_path)
    assert facts.state_folder().is_writable
    monkeypatch.setattr(os, "statvfs", lambda _path: os.statvfs_result((4096, 4096, 4, 0, 0, 9, 9, 9, 0, 255)))
    assert not facts.state_folder().is_writable


def test_the_ledger_is_looked_at_and_left_alone(tmp_path: Path) -> None:
    facts = facts_below(tmp_path)
    (tmp_path / "proc").symlink_to("/proc")
    assert facts.ledger() == LedgerLook()
    with FileLedger(tmp_path / "runtime").locked(1.0) as ledger:
        ledger.write(LedgerState((Commitment("1", "a.service", "", {0: 1}, None, 0.0),)))
        assert facts.ledger() == LedgerLook("", 1, os.getpid())
    assert facts.ledger() == LedgerLook("", 1)
    file = tmp_path / "runtime" / "ledger.json"
    file.write_text("{")
    assert "is damaged" in facts.ledger().problem
    assert file.read_text() == "{"
    file.write_text('{"version": 99, "state": {"commitments": []}}')
    assert "version 99" in facts.ledger().problem
    assert facts.ledger().set_aside == ()
    with FileLedger(tmp_path / "runtime").locked(1.0):
        (aside,) = facts.ledger().set_aside
    assert aside.path == tmp_path / "runtime" / "ledger.damaged"
    assert abs(aside.at - time.time()) < 60
    (finding,) = session.check_set_aside(LedgerLook(set_aside=(SetAside(aside.path, 0.0),)))
    assert finding.severity is Severity.WARNING
    assert "ledger.damaged was set aside at 19" in finding.what
    assert "rebuilt from what ran" in finding.why


def test_who_only_has_the_ledgers_lock_file_open_does_not_hold_it(tmp_path: Path) -> None:
    facts = facts_below(tmp_path)
    (tmp_path / "proc").symlink_to("/proc")
    (tmp_path / "runtime").mkdir(mode=0o700)
    with (tmp_path / "runtime/ledger.lock").open("w") as file:
        assert facts.ledger().held_by is None
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        assert facts.ledger().held_by == os.getpid()


def test_findings_on_the_ledger() -> None:
    assert session.check_ledger(LedgerLook("it is damaged"), "").severity is Severity.ERROR
    assert "gpumod pid 4" in session.check_ledger(LedgerLook("", 2, 4), "gpumod pid 4").what


def test_an_interrupted_switch_that_touched_the_box_is_an_error() -> None:
    record = SwitchRecord("1", "code", 77, 1, 0.0, (StepRecord("stop"),), touched=True)
    killed = session.check_switch(StoredState(Recorded(), record, held=False))
    assert (killed.severity, killed.todo) == (Severity.ERROR, "gpumod mode switch blank")
    harmless = session.check_switch(StoredState(Recorded(), replace(record, touched=False), held=False))
    assert harmless.severity is Severity.WARNING
    assert session.check_switch(StoredState(Recorded(), record, held=True)).severity is Severity.WARNING
    ended = replace(record, outcome="done")
    assert session.check_switch(StoredState(Recorded(), ended, held=False)).severity is Severity.OK


# -- all together
