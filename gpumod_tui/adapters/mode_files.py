"""The user's own modes as files."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from gpumod_tui.adapters._atomic import private_folder, write_whole
from gpumod_tui.core.errors import ModeRefused
from gpumod_tui.core.mode_editing import document
from gpumod_tui.core.models import Mode


class ModeFolder:
    """Satisfies the ModeFiles port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_own(self, mode: Mode) -> bool:
        """Whether its file lies in the folder or below it."""
        return mode.source is not None and mode.source.is_relative_to(self._folder)

    def write(self, mode: Mode) -> tuple[Path, Callable[[], None]]:
        """Other keys and comments of a file that is there already stay. Raises: ModeRefused."""
        from gpumod_tui.adapters._yaml import with_keys

        file = mode.source if mode.source is not None and self.is_own(mode) else self._folder / f"{mode.id}.yaml"
        try:
            if mode.source is None and os.path.lexists(file):
                raise ModeRefused(f"{file} is there already, and is no mode {mode.id}", hint="move it, or choose an id")
            private_folder(file.parent)
            # Where it is a link into somebody's dotfiles, the link stays.
            real = file.resolve()
            if not real.exists():
                write_whole(real, with_keys("", document(mode)))
                return file, lambda: real.unlink(missing_ok=True)
            old, rights = real.read_bytes(), stat.S_IMODE(real.stat().st_mode)
            write_whole(real, with_keys(old.decode(), document(mode)), mode=rights)
        except (OSError, ValueError) as error:
            raise ModeRefused(f"{file} cannot be written: {_why(error)}", hint="nothing was changed") from error
        return file, lambda: write_whole(real, old, mode=rights)

    def remove(self, mode: Mode) -> Path:
        """Raises: ModeRefused."""
        assert mode.source is not None
        try:
            mode.source.unlink()
        except OSError as error:
            raise ModeRefused(f"{mode.source} cannot be deleted: {_why(error)}", hint="nothing was changed") from error
        return mode.source


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
