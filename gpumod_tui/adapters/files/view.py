"""The dashboard's last view, in the state folder."""

import contextlib
from pathlib import Path

import msgspec

from gpumod_tui.adapters.files.atomic import private_folder, write_whole
from gpumod_tui.core.view import View


class ViewFile:
    """Reading never fails and writing never matters: it is a convenience."""

    def __init__(self, state: Path) -> None:
        self._file = state / "view.json"

    def read(self) -> View:
        """As it was left; an absent or broken file is no view at all."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=View)
        except (OSError, ValueError, msgspec.MsgspecError, RecursionError):
            return View()

    def write(self, view: View) -> None:
        """Whole or not at all; a full disk or a folder that cannot be written loses it."""
        with contextlib.suppress(OSError):
            private_folder(self._file.parent)
            write_whole(self._file, msgspec.json.encode(view))
