"""What `template install` would write, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from gpumod_tui.adapters.systemd.unit_files import FileState
from gpumod_tui.core.errors import GpumodError, GpuUnavailable
from gpumod_tui.core.models import GpuReading, Service, UnitState
from gpumod_tui.core.units.guard import GUARD_UNITS, guarded_ports

if TYPE_CHECKING:
    from gpumod_tui.wiring import RealHost


class Action(StrEnum):
    """What is to happen to a unit file."""

    WRITE = "write"
    REMOVE = "remove"
    KEEP = "keep"
    """It is not ours to replace."""
    NOTHING = "nothing"
    REFUSE = "refuse"


@dataclass(slots=True)
class Entry:
    """One unit file: a service's, or one of the guard's."""

    name: str
    """For people: the service's id, or the unit of the guard."""
    unit: str
    template: str
    service: Service | None
    path: Path
    state: FileState
    before: str
    """The installed text; empty: none."""
    wanted: str | None
    """None: it cannot be rendered, `problem` says why."""
    problem: str = ""
    notes: list[str] = field(default_factory=list)
    action: Action = Action.NOTHING
    written: bool = False
    error: str = ""

    @property
    def diff(self) -> str:
        """A unified diff, empty where nothing is to be written."""
        if self.action not in (Action.WRITE, Action.REMOVE):
            return ""
        import difflib

        lines = difflib.unified_diff(
            self.before.splitlines(keepends=True),
            (self.wanted or "").splitlines(keepends=True),
            str(self.path) if self.before else "/dev/null",
            str(self.path) if self.wanted else "/dev/null",
        )
        return "".join(lines)

    @property
    def outcome(self) -> str:
        """A phrase on what happened, once it has."""
        if self.error:
            return f"not written: {self.error}"
        if self.written and self.action is Action.REMOVE:
            return "removed"
        if self.written:
            return "replaced" if self.before else "installed"
        if self.action is Action.KEEP:
            return f"kept ({self.state}; --force replaces it)"
        return "refused" if self.action is Action.REFUSE else "unchanged"

    def as_json(self) -> dict[str, object]:
        """For --json."""
        return {
            "service": self.service.id if self.service else None,
            "unit": self.unit,
            "template": self.template,
            "path": str(self.path),
            "state": str(self.state),
            "action": str(self.action),
            "written": self.written,
            "problem": self.problem or None,
            "error": self.error or None,
            "notes": self.notes,
            "diff": self.diff,
        }


def survey(host: RealHost, services: Sequence[Service], *, force: bool = False) -> list[Entry]:
    """How each service's unit file stands, and what installing would do to it."""
    reading, reason = _read_gpus(host, services)
    return [_entry(host, service, reading, reason, force) for service in services]


def survey_guard(host: RealHost, *, force: bool = False) -> list[Entry]:
    """The same for the guard's units; they are to go where no service of the catalog is guarded."""
    from gpumod_tui.adapters.systemd.render import render_guard

    wanted = render_guard(guarded_ports(host.registry.services.values()))
    found = []
    for unit in GUARD_UNITS:
        text = wanted.get(unit)
        entry = _found(host, unit, text, name=unit, unit=unit, template=unit)
        if text is not None:
            _decide(entry, force)
        elif entry.state is FileState.UNKNOWN:
            entry.action = Action.REMOVE
        elif entry.state is FileState.MISSING:
            continue
        found.append(entry)
    return found


def _read_gpus(host: RealHost, services: Iterable[Service]) -> tuple[GpuReading | None, str]:
    if not any(service.vram_bytes != 0 and any(isinstance(gpu, int) for gpu in service.gpus) for service in services):
        return None, ""
    try:
        return host.gpus.read(processes=False), ""
    except GpuUnavailable as error:
        return None, str(error)


def _entry(host: RealHost, service: Service, reading: GpuReading | None, reason: str, force: bool) -> Entry:
    from gpumod_tui.adapters.systemd.render import render_unit

    wanted, problem = None, ""
    try:
        wanted = render_unit(service, reading)
    except GpuUnavailable as error:
        problem = f"{error} ({reason})" if reason else str(error)
    except GpumodError as error:
        problem = str(error)
    files = host.unit_files
    entry = _found(
        host,
        service.unit,
        wanted,
        problem,
        name=service.id,
        unit=service.unit,
        template=service.driver,
        service=service,
    )
    if files.is_open_to_others(service.api_key_file):
        entry.notes.append(f"key file {service.api_key_file} can be read by others: chmod 600 {service.api_key_file}")
    entry.notes += [text for text in files.missing_files(service, UnitState(service.unit)) if wanted is not None]
    _decide(entry, force)
    return entry


def _found(
    host: RealHost,
    file: str,
    wanted: str | None,
    problem: str = "",
    *,
    name: str,
    unit: str,
    template: str,
    service: Service | None = None,
) -> Entry:
    files = host.unit_files
    drop_ins = [f"drop-in {text}: remove it" for text in files.unsafe_drop_ins(file)]
    return Entry(
        name=name,
        unit=unit,
        template=template,
        service=service,
        path=files.path(file),
        state=files.installed(file, wanted),
        before=files.text(file) or "",
        wanted=wanted,
        problem=problem,
        notes=drop_ins,
    )


def _decide(entry: Entry, force: bool) -> None:
    if entry.wanted is None:
        entry.action = Action.REFUSE
    elif entry.state in (FileState.MISSING, FileState.OUTDATED):
        entry.action = Action.WRITE
    elif entry.state in (FileState.EDITED, FileState.FOREIGN):
        entry.action = Action.WRITE if force else Action.KEEP
        if not force:
            entry.notes.append(f"{entry.path.name} is {entry.state}: kept; --force replaces it")


def all_refused(entries: Sequence[Entry]) -> bool:
    """No service can be installed, so nothing is touched."""
    services = [entry for entry in entries if entry.service is not None]
    return bool(services) and all(entry.action is Action.REFUSE for entry in services)


def orphans(host: RealHost) -> list[str]:
    """Units of ours whose preset is gone or broken."""
    known = {service.unit for service in host.registry.services.values()}
    return [unit for unit in host.unit_files.stamped() if unit not in known]
