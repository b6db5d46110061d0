"""systemd's user manager over systemctl, for hosts without a user bus."""

import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from gpumod_tui.adapters._unit_state import (
    AT_LOGIN,
    COUNTERS,
    SERVICE_PROPERTIES,
    SLICE,
    UNIT_PROPERTIES,
    is_unit_name,
    missing,
    state_from,
)
from gpumod_tui.adapters._user_manager import shown, systemctl, unavailable
from gpumod_tui.core.digits import number_of
from gpumod_tui.core.errors import UnitMissing, UnitRefused
from gpumod_tui.core.models import UnitState

_RELOAD_S: Final = 60.0
_NO_UNIT: Final = re.compile(
    r"Unit \S+ (not found|not loaded|could not be found)|not loaded\.$|Unit file \S+ does not exist", re.MULTILINE
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
            return bool(self._command(unit, "disable", "--no-reload"))
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

    def on_change(self, callback: Callable[[], None]) -> "SystemctlUnits":  # noqa: ARG002
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
