"""gpumod-mode.service, which switches to a mode at login (port `LoginModes`)."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from gpumod_tui.adapters.systemd.unit_files import FileState, InstalledUnits
from gpumod_tui.core.errors import StateUnavailable, UnitRefused
from gpumod_tui.core.models import ActiveState
from gpumod_tui.core.ports import Units
from gpumod_tui.core.units.login import LOGIN_UNIT, LoginMode

_MODE: Final = re.compile(r"^Mode=(.*)$", re.MULTILINE)


class LoginModeUnit:
    """One unit file, enabled while it is there."""

    def __init__(
        self,
        units: Units,
        files: InstalledUnits,
        *,
        record: Callable[[], object],
        lingers: Callable[[], bool | None],
        user: Callable[[], str],
    ) -> None:
        """`record`: puts what only a shell knows where units see it, too."""
        self._units = units
        self._files = files
        self._record = record
        self._lingers = lingers
        self._user = user

    def read(self) -> LoginMode:
        """Raises: SystemdUnavailable."""
        text = self._files.text(LOGIN_UNIT)
        found = _MODE.search(text or "")
        mode = found[1].replace("%%", "%") if found else None
        file = self._files.installed(LOGIN_UNIT, self._wanted(mode) if mode is not None else None)
        if file is FileState.MISSING:
            return LoginMode()
        state = self._units.states((LOGIN_UNIT,))[LOGIN_UNIT]
        return LoginMode(
            mode,
            str(file),
            enabled=self._units.file_states((LOGIN_UNIT,)).get(LOGIN_UNIT) == "enabled",
            failed=state.active_state is ActiveState.FAILED,
            lingers=self._lingers(),
            user=self._user(),
        )

    def write(self, mode: str) -> LoginMode:
        """Raises: UnitRefused where the file is not ours to replace, StateUnavailable, SystemdUnavailable."""
        self._must_be_ours()
        try:
            self._record()
            self._files.write(LOGIN_UNIT, self._wanted(mode))
        except OSError as error:
            raise StateUnavailable(f"{self._files.path(LOGIN_UNIT)} cannot be written: {error.strerror}") from error
        self._units.reload()
        self._units.enable(LOGIN_UNIT)
        # A failure of the mode before says nothing about this one.
        self._units.reset_failed(LOGIN_UNIT)
        self._units.reload()
        return replace(self.read(), failed=False)

    def clear(self) -> bool:
        """Raises: UnitRefused where the file is not ours to remove, StateUnavailable, SystemdUnavailable."""
        if self._files.installed(LOGIN_UNIT, None) is FileState.MISSING:
            return False
        self._must_be_ours()
        self._units.disable(LOGIN_UNIT)
        try:
            self._files.remove(LOGIN_UNIT)
        except OSError as error:
            raise StateUnavailable(f"{self._files.path(LOGIN_UNIT)} cannot be removed: {error.strerror}") from error
        self._units.reset_failed(LOGIN_UNIT)
        self._units.reload()
        return True

    def _must_be_ours(self) -> None:
        file = self._files.installed(LOGIN_UNIT, None)
        if file in (FileState.EDITED, FileState.FOREIGN):
            path = self._files.path(LOGIN_UNIT)
            raise UnitRefused(f"{path} is {file}: it is kept as it is", hint=f"remove it first: rm {path}")

    @staticmethod
    def _wanted(mode: str) -> str:
        from gpumod_tui.adapters.systemd.render import render_login_mode

        return render_login_mode(mode)
