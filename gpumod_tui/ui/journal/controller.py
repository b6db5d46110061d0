"""What the journal pane asks for: pages and files in threads of their own, questions on screens of their own."""

from collections.abc import Callable
from pathlib import Path

from textual.app import App

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import LogPage, LogPlace
from gpumod_tui.ui.backend import Archive
from gpumod_tui.ui.journal.dialogs import UnitsScreen, replace_screen
from gpumod_tui.ui.journal.entry import LogRequest
from gpumod_tui.ui.journal.messages import LogRead, LogSaved, SaveLog
from gpumod_tui.ui.theme.styles import UnitColours

InThread = Callable[[str, Callable[[], object], str], None]
"""(name, work, where its fault is told)"""


class LogDesk:
    """`archive` None: there is nothing but the newest lines."""

    def __init__(self, app: App[None], archive: Archive | None, in_thread: InThread, colours: UnitColours) -> None:
        self._app = app
        self._archive = archive
        self._in_thread = in_thread
        self._colours = colours

    def read(self, request: LogRequest) -> None:
        """Read pages; a `LogRead` answers."""
        self._in_thread("journal page", lambda: self._app.post_message(_read(self._archive, request)), "journal")

    def save(self, asked: SaveLog) -> None:
        """Write a file; a `LogSaved` answers."""
        self._in_thread("save", lambda: self._app.post_message(_save(self._archive, asked)), "save")

    def saved(self, saved: LogSaved) -> None:
        """Say how it went; a file of that name is written over only when that is agreed to."""
        asked = saved.asked
        if saved.fault:
            self._app.notify(saved.fault, title="save", severity="error", markup=False)
        elif saved.taken:
            again = SaveLog(asked.path, asked.text, asked.lines, replace=True)
            self._app.push_screen(replace_screen(asked.path), lambda agreed: self.save(again) if agreed else None)
        else:
            self._app.notify(f"{asked.lines} lines written to {asked.path}", markup=False)

    def choose(self, names: tuple[str, ...], chosen: frozenset[str], take: Callable[[frozenset[str]], object]) -> None:
        """Ask for units; `take` gets them, unless it stays as it was."""
        screen = UnitsScreen(names, chosen, self._colours)

        def decided(units: frozenset[str] | None) -> None:
            if units is not None:
                take(units)

        self._app.push_screen(screen, decided)


def _read(archive: Archive | None, request: LogRequest) -> LogRead:
    if archive is None:
        return LogRead(request, fault="this journal has no older lines to read")

    def page(place: LogPlace | None, *, later: bool) -> LogPage | None:
        if place is None:
            return None
        return archive.page(request.units, place, later=later, priority=request.priority)

    try:
        return LogRead(request, page(request.back, later=False), page(request.forth, later=True))
    except GpumodError as error:
        return LogRead(request, fault=str(error))
    except Exception as error:  # noqa: BLE001 - the pane would wait for ever
        return LogRead(request, fault=repr(error))


def _save(archive: Archive | None, asked: SaveLog) -> LogSaved:
    if archive is None:
        return LogSaved(asked, fault="nothing can be saved here")
    try:
        return LogSaved(asked, taken=not archive.save(Path(asked.path).expanduser(), asked.text, replace=asked.replace))
    except GpumodError as error:
        return LogSaved(asked, fault=f"{error} ({error.hint})" if error.hint else str(error))
    except RuntimeError as error:
        # `~` of nobody.
        return LogSaved(asked, fault=f"{asked.path}: {error}")
