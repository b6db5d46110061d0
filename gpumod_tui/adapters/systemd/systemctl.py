"""systemd's user manager over systemctl, for hosts without a user bus."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from gpumod_tui.adapters.systemd.state import (
    AT_LOGIN,
    COUNTERS,
    SERVICE_PROPERTIES,
    SLICE,
    UNIT_PROPERTIES,
    is_unit_name,
    missing,
    state_from,
)
from gpumod_tui.core.doctor.facts import Condition, LoadedUnit
from gpumod_tui.core.errors import SystemdUnavailable, UnitMissing, UnitRefused
from gpumod_tui.core.models import UnitState
from gpumod_tui.core.text import number_of

if TYPE_CHECKING:
    from subprocess import CompletedProcess


CALL_S: Final = 10.0
"""A manager that has not answered by then hangs: it takes milliseconds."""
_HINT: Final = (
    "log in through a systemd user session (ssh, or machinectl shell) and check XDG_RUNTIME_DIR;"
    " `loginctl enable-linger` keeps the user manager running without a login"
)
_NO_MANAGER: Final = ("Failed to connect to bus", "Failed to connect to user scope bus", "Connection refused")


def unavailable(reason: str) -> SystemdUnavailable:
    """The user manager cannot be asked, with what to do about it."""
    return SystemdUnavailable(f"the systemd user manager cannot be asked: {reason}", hint=_HINT)


def systemctl(*arguments: str, timeout_s: float = CALL_S) -> CompletedProcess[str]:
    """`systemctl --user`, in English and without colours, whatever it exits with.

    Raises: SystemdUnavailable when systemctl is not there, hangs, or finds no manager.
    """
    import subprocess  # not for those who have a bus

    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    try:
        done = subprocess.run(
            ["systemctl", "--user", "--no-pager", "--no-ask-password", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise unavailable(f"systemctl: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise unavailable(f"systemctl gave no answer within {timeout_s:g} s") from error
    if done.returncode and any(sign in done.stderr for sign in _NO_MANAGER):
        raise unavailable(done.stderr.strip())
    return done


def shown(*arguments: str) -> str:
    """What `systemctl --user show` prints. Raises: SystemdUnavailable."""
    done = systemctl("show", *arguments)
    if done.returncode:
        raise unavailable(done.stderr.strip() or f"systemctl exited {done.returncode}")
    return done.stdout


_RELOAD_S: Final = 60.0
_NO_UNIT: Final = re.compile(
    r"Unit \S+ (not found|not loaded|could not be found)|not loaded\.$|Unit (file )?\S+ does not exist", re.MULTILINE
)
_EXEC_PATH: Final = re.compile(r"\{ path=(.*?) ; argv\[\]=")
_BASE: Final = ("Id", "Names", "LoadState", "ActiveState", "SubState", "Job")
# Printed as a number of microseconds in every version; the wall clock's is printed as a date in the local time zone.
_PROPERTIES: Final = (*_BASE, *SERVICE_PROPERTIES, *COUNTERS, *UNIT_PROPERTIES[:-1], "StateChangeTimestampMonotonic")
SHOWN: Final = (
    *("Description", "LoadState", "ActiveState", "SubState", "Result", "UnitFileState", "NeedDaemonReload"),
    *("FragmentPath", "DropInPaths", "Slice", "ControlGroup", "InvocationID", "MainPID", "NRestarts", "Restart"),
    *("ActiveEnterTimestamp", "InactiveEnterTimestamp", "ExecMainStartTimestamp", "ExecMainExitTimestamp"),
    *("ExecMainCode", "ExecMainStatus", "TasksCurrent", "MemoryCurrent", "MemoryPeak", "CPUUsageNSec"),
    *("Requires", "Requisite", "Wants", "BindsTo", "PartOf", "Conflicts", "After", "Before"),
    *("RequiredBy", "WantedBy", "TriggeredBy"),
)
"""What `show` asks for."""
_SAYS_NOT_WHERE: Final = "no installation config"
_SAYS_REMOVED: Final = "Removed "
_NUMBERS: Final = ("MainPID", "ExecMainCode", "ExecMainStatus", "NRestarts", "MemoryCurrent", "CPUUsageNSec", "Job")


class SystemctlUnits:
    """The port Units over systemctl. It holds no reference on units: after a start that a condition refused,
    the unit reads as inactive with result success."""

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """One entry per asked unit, `load_state="not-found"` where systemd has none. Raises: SystemdUnavailable."""
        asked = list(dict.fromkeys(units))
        valid = [unit for unit in asked if is_unit_name(unit)]
        states = {unit: missing(unit) for unit in asked}
        for unit, values in zip(valid, self._show(valid), strict=True):
            if values["LoadState"] != "not-found" or values["ActiveState"] != "inactive":
                states[unit] = state_from(unit, values)
        return states

    def managed(self) -> tuple[str, ...]:
        """Service units that systemd has loaded in gpumod.slice, sorted. Raises: SystemdUnavailable."""
        found = []
        for values in self._show(["*.service"]):
            inside = values.get("Slice") == SLICE or f"/{SLICE}/" in (values.get("ControlGroup") or "")
            if inside and (values["LoadState"] != "not-found" or values["ActiveState"] != "inactive"):
                found.append(values["Id"])
        return tuple(sorted(found))

    def control_group(self) -> str:
        """The user manager's own cgroup, below which those of all its units are. Raises: SystemdUnavailable."""
        name, found, path = shown("--property=ControlGroup").strip().partition("=")
        if name != "ControlGroup" or not found:
            raise unavailable("it does not tell its cgroup")
        return path

    def start(self, unit: str) -> None:
        """Queue a start. Raises: UnitMissing, UnitRefused, SystemdUnavailable."""
        if not is_unit_name(unit):
            raise UnitMissing(unit)
        self._command(unit, "start", "--no-block", "--job-mode=replace")

    def stop(self, unit: str) -> None:
        """Queue a stop (nothing happens if it is down). Raises: UnitRefused, SystemdUnavailable."""
        self._command_if_loaded(unit, "stop", "--no-block", "--job-mode=replace")

    def kill(self, unit: str, signal: int) -> None:
        """Send a signal to every process of its cgroup; none there is no error."""
        self._command_if_loaded(unit, "kill", f"--signal={int(signal)}", "--kill-who=all")

    def reset_failed(self, unit: str) -> None:
        """Clear a failed state and the start limit; not failed is no error."""
        self._command_if_loaded(unit, "reset-failed")

    def reload(self) -> None:
        """Make the manager read unit files again. Raises: SystemdUnavailable."""
        done = systemctl("daemon-reload", timeout_s=_RELOAD_S)
        if done.returncode:
            raise unavailable(done.stderr.strip())

    def enable(self, unit: str) -> bool:
        """Start it with the user manager from now on; whether it was not so before. `reload` makes it count.

        Raises: UnitMissing, UnitRefused, SystemdUnavailable.
        """
        if not is_unit_name(unit):
            raise UnitMissing(unit)
        said = self._command(unit, "enable", "--no-reload", "--force")
        if _SAYS_NOT_WHERE in said:
            said = self._command(AT_LOGIN, "add-wants", "--no-reload", "--force", more=(unit,))
        return bool(said)

    def disable(self, unit: str) -> bool:
        """Take `enable` back; whether there was anything to take back. Raises: UnitRefused, SystemdUnavailable."""
        if not is_unit_name(unit):
            return False
        try:
            # systemd 257 explains itself, too, where a unit has no [Install] section.
            return _SAYS_REMOVED in self._command(unit, "disable", "--no-reload")
        except UnitMissing:
            return False

    def file_states(self, units: Iterable[str]) -> dict[str, str]:
        """UnitFileState of each that has a file. Raises: SystemdUnavailable."""
        asked = [unit for unit in units if is_unit_name(unit)]
        if not asked:
            return {}
        done = systemctl("list-unit-files", "--no-legend", "--plain", "--", *asked)
        # It says 1 where none of them has a file.
        if done.returncode and done.stderr.strip():
            raise unavailable(done.stderr.strip())
        words = (line.split() for line in done.stdout.splitlines())
        return {word[0]: word[1] for word in words if len(word) > 1}

    def show(self, unit: str) -> dict[str, str]:
        """What systemd has of it, by systemd's names; empty: no such unit. Raises: SystemdUnavailable."""
        if not is_unit_name(unit):
            return {}
        text = shown(f"--property={','.join(SHOWN)}", "--", unit)
        values: dict[str, str] = dict(line.partition("=")[::2] for line in text.splitlines())
        return {} if values.get("LoadState") == "not-found" and values.get("ActiveState") == "inactive" else values

    def on_change(self, callback: Callable[[], None]) -> SystemctlUnits:  # noqa: ARG002
        """There are no signals here: the callback is never called."""
        return self

    def close(self) -> None:
        """Nothing is held."""

    def _show(self, units: list[str]) -> list[dict[str, Any]]:
        """Properties per unit, in the order asked."""
        if not units:
            return []
        text = shown("--all", f"--property={','.join(_PROPERTIES)}", "--", *units)
        boot_us = (time.time() - time.clock_gettime(time.CLOCK_MONOTONIC)) * 1_000_000
        blocks = [block for block in text.strip("\n").split("\n\n") if block]
        return [_values(block, boot_us) for block in blocks]

    def _command(self, unit: str, verb: str, *options: str, more: tuple[str, ...] = ()) -> str:
        """What systemctl says of it: nothing, but for links that were made or removed."""
        done = systemctl(verb, *options, "--", unit, *more)
        if not done.returncode:
            return done.stderr.strip()
        text = done.stderr.strip()
        if _NO_UNIT.search(text):
            raise UnitMissing(unit)
        raise UnitRefused(f"systemd refuses {unit}: {text}", hint=f"systemctl --user status {unit}")

    def _command_if_loaded(self, unit: str, verb: str, *options: str) -> None:
        if not is_unit_name(unit):
            return
        try:
            self._command(unit, verb, *options)
        except UnitMissing:
            # Not loaded: nothing of it runs, and nothing is remembered of it.
            return


def _values(block: str, boot_us: float) -> dict[str, Any]:
    """One block of `systemctl show` with systemd's numbers as numbers; "[not set]" and the like are None."""
    values: dict[str, Any] = dict(line.partition("=")[::2] for line in block.splitlines())
    for name in _NUMBERS:
        values[name] = number_of(values.get(name, ""))
    program = _EXEC_PATH.search(values.get("ExecStart", ""))
    values["ExecStart"] = program.group(1) if program else None
    changed_us = number_of(values.pop("StateChangeTimestampMonotonic", ""))
    values["StateChangeTimestamp"] = boot_us + changed_us if changed_us else None
    return values


PROPERTIES: Final = (
    "Id",
    "LoadState",
    "ExecCondition",
    "Environment",
    "DropInPaths",
    "NeedDaemonReload",
    "Listen",
)
_CONDITION: Final = re.compile(r"\{ path=(.*?) ; argv\[\]=(.*) ; ignore_errors=(yes|no) ; ")


def loaded_units(units: Sequence[str], text: str) -> dict[str, LoadedUnit]:
    """`text`: what `systemctl show --property=…` prints for the units, in their order."""
    blocks = [block for block in text.strip("\n").split("\n\n") if block]
    found = {unit: _loaded(unit, block) for unit, block in zip(units, blocks, strict=False)}
    return {unit: found.get(unit, LoadedUnit(unit)) for unit in units}


def _loaded(unit: str, block: str) -> LoadedUnit:
    """A property stands on several lines where it has several values."""
    values: dict[str, list[str]] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        values.setdefault(name, []).append(value)
    conditions = [match for text in values.get("ExecCondition", ()) if (match := _CONDITION.search(text))]
    return LoadedUnit(
        unit,
        load_state=values.get("LoadState", ["not-found"])[0],
        conditions=tuple(Condition(match[1], match[2], match[3] == "yes") for match in conditions),
        environment=assignments(" ".join(values.get("Environment", ()))),
        drop_ins=tuple(" ".join(values.get("DropInPaths", ())).split()),
        needs_reload=values.get("NeedDaemonReload", ["no"])[0] == "yes",
        listens=tuple(text.rpartition(" (")[0] or text for text in values.get("Listen", ()) if text),
    )


def assignments(text: str) -> Mapping[str, str] | None:
    """`A=1 "B=two words"` as systemd prints it; None: it cannot be taken apart."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
