"""Saving and deleting modes of the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import ModeRefused, ModeTaken, PresetInvalid
from gpumod_tui.core.models import BLANK, Mode

if TYPE_CHECKING:
    from gpumod_tui.core.engine import Engine


@dataclass(frozen=True, slots=True)
class ModeSaved:
    """What came of saving or deleting a mode."""

    mode: Mode
    """As it counts now; after deleting, as it was."""
    path: Path
    """Its file; after deleting, where that was."""
    registry: ServiceRegistry
    """The catalog as it is now."""
    shadows: Mode | None = None
    """The mode of the same id that another file defines: hidden by the saved one, or back after deleting."""


def document(mode: Mode) -> Mapping[str, object]:
    """The keys of the mode's file."""
    return {
        "id": mode.id,
        "name": mode.name or mode.id,
        "description": mode.description,
        "services": list(mode.services),
    }


def check(mode: Mode, registry: ServiceRegistry) -> Mode:
    """The mode as its file would give it. Raises: PresetInvalid, ModeRefused."""
    from gpumod_tui.core.catalog.load import mode_fault
    from gpumod_tui.core.catalog.parse import parse_preset

    if mode.id == BLANK:
        raise ModeRefused("mode blank is built in and empty", hint="choose another id")
    source = mode.source or Path(f"mode {mode.id or '?'}")
    parsed = parse_preset(document(mode), source, Path())
    for fault in parsed.faults:
        raise PresetInvalid(source, fault.key, fault.found, fault.expected)
    assert parsed.mode is not None
    if not mode.services:
        raise ModeRefused(f"mode {mode.id} holds no service", hint="add one; blank is the mode without services")
    wrong = mode_fault(parsed.mode, registry.services, registry.services)
    if wrong is not None:
        raise PresetInvalid(source, *wrong)
    return parsed.mode


def save_mode(host: Engine, mode: Mode, *, replaces: bool = False) -> ModeSaved:
    """Write the mode into the user's own presets. A mode of that id is replaced only with `replaces`: an own one in
    its file, any other is shadowed.

    Raises: ModeTaken, ModeRefused, PresetInvalid, ConfigInvalid; then nothing has changed.
    """
    registry = host.reload()
    before = registry.modes.get(mode.id)
    own = before is not None and host.mode_files.is_own(before)
    checked = check(replace(mode, source=before.source if before is not None and own else None), registry)
    if before is not None and not replaces:
        raise ModeTaken(
            f"mode {mode.id} is there already, with {', '.join(before.services) or 'no services'}"
            f" ({before.source or 'built in'})",
            hint="choose another id, or say that it is to be replaced",
        )
    path, undo = host.mode_files.write(replace(checked, source=before.source if before is not None and own else None))
    after = host.reload()
    now = after.modes.get(mode.id)
    if now is None or now != replace(checked, source=now.source) or now.source != path:
        undo()
        host.reload()
        stronger = f"{now.source} goes before it" if now is not None else "another file of that id is broken"
        raise ModeRefused(f"mode {mode.id} would not count in {path}: {stronger}", hint="gpumod preset check")
    return ModeSaved(now, path, after, None if own else before)


def delete_mode(host: Engine, mode_id: str) -> ModeSaved:
    """Delete an own mode's file. Raises: UnknownName, ModeRefused, ConfigInvalid; then nothing has changed."""
    mode = host.reload().mode(mode_id)
    if not host.mode_files.is_own(mode):
        where = f"defined in {mode.source}" if mode.source else "built in"
        raise ModeRefused(
            f"mode {mode_id} is none of your own: it is {where}",
            hint="only modes in ~/.config/gpumod/presets can be deleted here",
        )
    path = host.mode_files.remove(mode)
    after = host.reload()
    return ModeSaved(mode, path, after, after.modes.get(mode_id))
