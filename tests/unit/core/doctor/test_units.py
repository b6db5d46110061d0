"""What the doctor finds on the door of each unit, unit files and presets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.adapters.systemd.systemctl import loaded_units
from gpumod_tui.core.doctor.checks import units
from gpumod_tui.core.doctor.facts import Condition, LoadedUnit, Severity
from gpumod_tui.core.units.guard import GUARD_SOCKET
from tests.unit._findings import GPUMOD, condition, errors, installed, loaded, warnings


def test_a_unit_behind_the_door_is_fine() -> None:
    (found,) = units.check_door([installed("a")], {"a.service": loaded("a.service")})
    assert found.severity is Severity.OK


def test_a_condition_on_two_lines_is_one() -> None:
    text = f"[Service]\nExecCondition={GPUMOD} \\\n  preflight --unit %n\nExecStart=/bin/true\n"
    assert not errors(units.check_door([installed("a", text=text)], {"a.service": loaded("a.service")}))


@pytest.mark.parametrize(
    "text",
    [
        "[Service]\nExecStart=/bin/true\n",
        "[Service]\n#ExecCondition=/x/gpumod preflight --unit %n\n",
        "[Service]\nExecCondition=-/x/gpumod preflight --unit %n\n",
        "[Service]\nExecCondition=/bin/true\n",
        "[Service]\nExecCondition=/x/gpumod preflight --unit other.service\n",
    ],
)
def test_a_file_without_its_condition_is_an_error(text: str) -> None:
    found = errors(units.check_door([installed("a", text=text)], {"a.service": loaded("a.service")}))
    assert [one.what for one in found] == ["a.service has no ExecCondition= of gpumod in its file"]
    assert found[0].todo == "gpumod template install a --force --yes"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"conditions": ()}, "has no ExecCondition= of gpumod"),
        ({"conditions": (Condition("/bin/true", "/bin/true"),)}, "has no ExecCondition= of gpumod"),
        ({"conditions": (condition("a.service", ignores=True),)}, "does not heed"),
        ({"conditions": (condition("b.service"),)}, "asks for another unit's VRAM"),
    ],
)
def test_what_systemd_has_loaded_counts_and_not_only_the_file(changes: dict[str, Any], words: str) -> None:
    unit = loaded("a.service", drop_ins=("/d/x.conf",), **changes)
    (found,) = errors(units.check_door([installed("a")], {"a.service": unit}))
    assert words in found.what
    assert "/d/x.conf" in found.todo


def test_a_changed_file_asks_for_a_reload() -> None:
    found = list(units.check_door([installed("a")], {"a.service": loaded("a.service", needs_reload=True)}))
    assert [one.todo for one in warnings(found)] == ["systemctl --user daemon-reload"]


def test_a_unit_that_is_not_installed_is_no_matter_of_the_door() -> None:
    missing = installed("a", state="missing", text="")
    assert not list(units.check_door([missing], {"a.service": LoadedUnit("a.service")}))


def test_a_unit_that_systemd_cannot_load_is_an_error() -> None:
    (found,) = errors(units.check_door([installed("a")], {"a.service": LoadedUnit("a.service", "bad-setting")}))
    assert "systemd-analyze" in found.todo


def test_a_managed_unit_of_nobody_must_be_behind_the_door_too() -> None:
    (found,) = errors(units.check_door([], {"stray.service": loaded("stray.service", conditions=())}))
    assert "stray.service" in found.what


SHOWN = """\
ExecCondition={ path=/opt/g ; argv[]=/opt/g preflight --unit a.service ; ignore_errors=yes ; start_time=[n/a] ; pid=0 }
ExecCondition={ path=/bin/sh ; argv[]=/bin/sh -c exit 0; ; ; ignore_errors=no ; start_time=[n/a] ; pid=0 }
Environment="A=b c" GGML_X=1 "Q=x\\"y"
Id=a.service
LoadState=loaded
DropInPaths=/d/a.conf /d/b.conf
NeedDaemonReload=yes

Environment=
Id=nope.service
LoadState=not-found
DropInPaths=
NeedDaemonReload=no

Listen=127.0.0.1:7070 (Stream)
Listen=[::]:99 (Stream)
Id=g.socket
LoadState=loaded
"""


def test_what_systemctl_prints_becomes_units() -> None:
    found = loaded_units(["a.service", "nope.service", "g.socket", "more.service"], SHOWN)
    assert found == {
        "a.service": LoadedUnit(
            "a.service",
            "loaded",
            (
                Condition("/opt/g", "/opt/g preflight --unit a.service", True),
                Condition("/bin/sh", "/bin/sh -c exit 0; ;"),
            ),
            {"A": "b c", "GGML_X": "1", "Q": 'x"y'},
            ("/d/a.conf", "/d/b.conf"),
            True,
        ),
        "nope.service": LoadedUnit("nope.service", environment={}),
        "g.socket": LoadedUnit("g.socket", "loaded", environment={}, listens=("127.0.0.1:7070", "[::]:99")),
        "more.service": LoadedUnit("more.service"),
    }


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        ("current", None),
        ("missing", Severity.WARNING),
        ("outdated", Severity.WARNING),
        ("hand-edited", Severity.WARNING),
        ("foreign", Severity.WARNING),
    ],
)
def test_unit_files_and_presets(state: str, severity: Severity | None) -> None:
    found = list(units.check_unit_files([installed("a", state=state)], []))
    told = [one for one in found if one.severity is not Severity.OK]
    assert [one.severity for one in told] == ([severity] if severity else [])
    assert all("gpumod template install a" in one.todo for one in told)


def test_the_guards_units_are_installed_with_all() -> None:
    guard = replace(installed("x", state="outdated"), service_id="", unit=GUARD_SOCKET)
    (found,) = units.check_unit_files([guard], [])
    assert (found.severity, found.todo) == (Severity.WARNING, "gpumod template install --yes")


def test_an_unsafe_drop_in_and_missing_files_of_an_installed_unit_are_errors() -> None:
    one = installed("a", unsafe_drop_ins=("/d/x.conf sets Slice=",), missing=("program /x is not there",))
    assert len(errors(units.check_unit_files([one], []))) == 2
    never = replace(one, state="missing", unsafe_drop_ins=())
    assert not errors(units.check_unit_files([never], []))


def test_an_open_key_and_an_orphaned_unit_are_warnings() -> None:
    found = list(units.check_unit_files([installed("a", open_key_file=Path("/k"))], ["gone.service"]))
    key, orphan = warnings(found)
    assert key.todo == "chmod 600 /k"
    assert "gone.service" in orphan.what


# -- GPUs
