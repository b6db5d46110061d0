"""Writes what was planned, and has systemd read it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpumod_tui.cli.install.guard import bring_guard_up, take_guard_down
from gpumod_tui.cli.install.plan import Action, Entry, all_refused
from gpumod_tui.core.errors import GpumodError

if TYPE_CHECKING:
    from gpumod_tui.wiring import RealHost


@dataclass(frozen=True, slots=True)
class Applied:
    """What an installation did besides writing the units."""

    recorded: tuple[str, ...]
    """Keys of config.yaml that were set."""
    errors: tuple[str, ...]
    guard: tuple[str, ...] = ()
    """What was done to the guard beside its unit files, in sentences."""


def apply(host: RealHost, entries: Sequence[Entry]) -> Applied:
    """Write the units, record folders that only this shell knows, and make the user manager read them.

    What fails is in `errors` and does not keep the rest from being done.
    """
    from gpumod_tui.adapters.files.config import record_folders

    if all_refused(entries):
        return Applied((), ())
    errors = []
    said: list[str] = []
    try:
        said += take_guard_down(host, entries)
    except GpumodError as error:
        errors.append(f"the guard could not be taken down: {error}; {error.hint}")
    for entry in entries:
        try:
            if entry.action is Action.WRITE and entry.wanted is not None:
                host.unit_files.write(entry.unit, entry.wanted)
                entry.written = True
            elif entry.action is Action.REMOVE:
                host.unit_files.remove(entry.unit)
                entry.written = True
        except OSError as error:
            entry.error = f"{error.strerror or error}"
            errors.append(f"{entry.path} could not be written: {entry.error}")
    recorded: tuple[str, ...] = ()
    try:
        recorded = record_folders(host.places, os.environ)
    except (OSError, GpumodError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        errors.append(f"config.yaml could not be written: {why}")
    try:
        host.units.reload()
        _note_running(host, [entry for entry in entries if entry.written and entry.service is not None])
    except GpumodError as error:
        errors.append(f"systemd has not read the units again: {error}; {error.hint}")
        return Applied(recorded, tuple(errors), tuple(said))
    try:
        said += bring_guard_up(host, entries)
    except GpumodError as error:
        errors.append(f"{error}; {error.hint}" if error.hint else str(error))
    return Applied(recorded, tuple(errors), tuple(said))


def _note_running(host: RealHost, changed: Sequence[Entry]) -> None:
    states = host.units.states(entry.unit for entry in changed)
    for entry in changed:
        state = states.get(entry.unit)
        if state is not None and not state.is_down:
            entry.notes.append("it is running; the new unit counts from its next start")
