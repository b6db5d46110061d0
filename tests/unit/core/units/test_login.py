"""The user unit that switches to a mode at login: written, shown, refused, removed, and looked at by the doctor."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gpumod_tui.adapters.systemd.login import LoginModeUnit
from gpumod_tui.adapters.systemd.render import render_login_mode
from gpumod_tui.adapters.systemd.unit_files import InstalledUnits
from gpumod_tui.core.doctor.checks.session import check_login_mode
from gpumod_tui.core.doctor.facts import Severity
from gpumod_tui.core.errors import UnitRefused, UnknownName
from gpumod_tui.core.models import ActiveState, UnitState
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.units.login import LOGIN_UNIT, LoginMode
from gpumod_tui.core.units.unit_file import Stamp, read_stamp
from gpumod_tui.demo.host import DemoHost


class PlayedUnits:
    """Remembers what it was asked to do; the unit is enabled from `enable` on."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.state = UnitState(LOGIN_UNIT)
        self.file_state = "disabled"

    def states(self, _units: object) -> dict[str, UnitState]:
        return {LOGIN_UNIT: self.state}

    def file_states(self, _units: object) -> dict[str, str]:
        return {LOGIN_UNIT: self.file_state}

    def enable(self, unit: str) -> bool:
        self.asked.append(f"enable {unit}")
        self.file_state = "enabled"
        return True

    def disable(self, unit: str) -> bool:
        self.asked.append(f"disable {unit}")
        return True

    def reset_failed(self, unit: str) -> None:
        self.asked.append(f"reset-failed {unit}")

    def reload(self) -> None:
        self.asked.append("reload")


class Box:
    def __init__(self, folder: Path) -> None:
        self.units = PlayedUnits()
        self.file = folder / LOGIN_UNIT
        self.files = InstalledUnits(folder)
        self.recorded = 0
        self.lingers: bool | None = True
        self.login = LoginModeUnit(
            self.units,  # type: ignore[arg-type]
            self.files,
            record=self._record,
            lingers=lambda: self.lingers,
            user=lambda: "sam",
        )

    def _record(self) -> None:
        self.recorded += 1


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "units")


def test_it_is_written_enabled_and_read_back(box: Box) -> None:
    assert box.login.read() == LoginMode()
    login = box.login.write("code")
    assert (login.mode, login.file, login.enabled, login.note) == ("code", "current", True, "")
    assert box.units.asked.index(f"enable {LOGIN_UNIT}") > box.units.asked.index("reload")
    assert box.recorded == 1, "folders that only this shell knows are recorded for it"
    text = box.file.read_text()
    assert read_stamp(text) is Stamp.OURS
    assert " mode switch code --wait-for-gpus 120\n" in text
    assert box.login.write("rag").mode == "rag"


def test_it_is_no_service_that_a_switch_stops(box: Box) -> None:
    box.login.write("code")
    assert box.files.stamped() == ()
    assert "gpumod.slice" not in box.file.read_text().replace("{#", "")


def test_its_text_is_right_for_systemd(tmp_path: Path) -> None:
    path = tmp_path / LOGIN_UNIT
    path.write_text(render_login_mode("code"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", str(path)], capture_output=True, text=True, check=False
    )
    assert LOGIN_UNIT not in done.stderr, done.stderr


def test_lingering_is_asked_for_where_it_is_missing(box: Box) -> None:
    box.lingers = False
    assert box.login.write("code").note == "at boot only with lingering: loginctl enable-linger sam"
    box.lingers = None
    assert box.login.read().note == ""


def test_clearing_removes_it_and_twice_is_no_error(box: Box) -> None:
    assert not box.login.clear()
    box.login.write("code")
    assert box.login.clear()
    assert not box.file.exists()
    assert f"disable {LOGIN_UNIT}" in box.units.asked
    assert box.login.read() == LoginMode()


@pytest.mark.parametrize("edit", ["# mine\n{}", "{}Nice=19\n"])
def test_what_was_edited_by_hand_is_kept(box: Box, edit: str) -> None:
    box.login.write("code")
    edited = edit.format(box.file.read_text())
    box.file.write_text(edited)
    for act in (lambda: box.login.write("rag"), box.login.clear):
        with pytest.raises(UnitRefused, match="kept as it is"):
            act()
    assert box.file.read_text() == edited


def test_a_file_of_another_version_reads_as_outdated(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.login.write("code")
    monkeypatch.setattr("gpumod_tui.adapters.systemd.render.gpumod_command", lambda: ("/elsewhere/python",))
    assert box.login.read().file == "outdated"
    assert box.login.write("code").file == "current"


def test_a_run_that_failed_is_told_until_another_mode_is_set(box: Box) -> None:
    box.login.write("code")
    box.units.state = replace(box.units.state, active_state=ActiveState.FAILED)
    assert box.login.read().failed
    assert not box.login.write("rag").failed


def test_the_manager_knows_which_modes_there_are() -> None:
    manager = Manager(DemoHost())
    with pytest.raises(UnknownName):
        manager.set_login_mode("cod")
    assert manager.set_login_mode("code").mode == "code"
    assert manager.set_login_mode(None) == manager.login_mode() == LoginMode()


SET = LoginMode("code", "current", enabled=True)


@pytest.mark.parametrize(
    ("login", "severity", "words"),
    [
        (LoginMode(), Severity.OK, "no mode"),
        (SET, Severity.OK, "code is switched to at login"),
        (replace(SET, mode="gone"), Severity.ERROR, "is no mode"),
        (replace(SET, failed=True), Severity.WARNING, "failed"),
        (replace(SET, enabled=False), Severity.WARNING, "not enabled"),
        (replace(SET, file="outdated"), Severity.WARNING, "outdated"),
        (replace(SET, file="hand-edited"), Severity.WARNING, "hand-edited"),
        (replace(SET, mode=None, file="foreign"), Severity.WARNING, "foreign"),
    ],
)
def test_the_doctor_knows_it(login: LoginMode, severity: Severity, words: str) -> None:
    finding = check_login_mode(login, {"blank", "code"})
    assert finding.severity is severity
    assert words in finding.what
