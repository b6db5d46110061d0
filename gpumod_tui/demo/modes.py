"""The played user's own modes: kept in memory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import Mode

FOLDER: Final = Path("/played/presets")
"""No file is written there or anywhere."""


class MemoryModes:
    """Satisfies the ModeFiles port."""

    def __init__(self, shipped: ServiceRegistry) -> None:
        self._shipped = shipped
        self._own: dict[str, Mode] = {}

    def registry(self) -> ServiceRegistry:
        """The catalog with the own modes over the shipped ones; new ones come last."""
        return replace(self._shipped, modes=MappingProxyType({**self._shipped.modes, **self._own}))

    def is_own(self, mode: Mode) -> bool:
        """Whether it was saved here."""
        return mode.source is not None and mode.source.parent == FOLDER

    def write(self, mode: Mode) -> tuple[Path, Callable[[], None]]:
        """Keep it."""
        before = dict(self._own)
        file = FOLDER / f"{mode.id}.yaml"
        self._own[mode.id] = replace(mode, source=file)

        def undo() -> None:
            self._own = before

        return file, undo

    def remove(self, mode: Mode) -> Path:
        """Forget it."""
        del self._own[mode.id]
        return FOLDER / f"{mode.id}.yaml"
