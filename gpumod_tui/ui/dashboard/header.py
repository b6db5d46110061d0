"""The first line: host, mode and its truth, NVIDIA driver, time."""

from functools import partial
from typing import Final

from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.models import ModeTruth, Snapshot
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, spread, strip, width_of
from gpumod_tui.ui.switch.progress import Progress
from gpumod_tui.ui.theme.styles import ACCENT, ALARM, BAD, DIM, GOOD, STRONG, TEXT, WARN

_TRUTHS = {
    ModeTruth.REACHED: ("●", GOOD),
    ModeTruth.PARTIAL: ("◐", WARN),
    ModeTruth.DRIFTED: ("◆", WARN),
    ModeTruth.UNKNOWN: ("○", DIM),
}
_NOTE_LEAST: Final = 16
"""Cells of what is wrong with the mode, before the host's name gives way."""


class HeaderLine(Painted):
    """One row."""

    snapshot: var[Snapshot | None] = var(None)
    progress: var[Progress | None] = var(None)
    alarms: var[int] = var(0)
    """Of the GPUs, that nobody has acknowledged."""

    def __init__(self, host_name: str, *, read_only: bool = False, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.read_only = read_only
        self.host_name = host_name

    def watch_snapshot(self) -> None:
        """New figures."""
        self.repaint()

    def watch_progress(self) -> None:
        """A switch began or ended."""
        self.repaint()

    def watch_alarms(self) -> None:
        """A GPU is in trouble, or somebody has seen it."""
        self.repaint()

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """Host and mode to the left, machine and time to the right. What is wrong with the mode takes the room of the
        NVIDIA driver, and so much of it as tells something that of the host; then its end is cut."""
        clock: Row = [(f"{fmt.clock(self.snapshot.at)} ", TEXT)] if self.snapshot is not None else []
        alarms = f" ✖ {self.alarms} GPU alarm{'s' if self.alarms > 1 else ''} " if width >= 60 else f" ✖ {self.alarms} "
        loud: Row = [(alarms, ALARM), ("  ", TEXT)] if self.alarms else []
        if self.read_only:
            loud += [("read-only", WARN), ("  ", TEXT)]
        host: Row = [(self.host_name, STRONG), ("  ", TEXT)]
        reading = self.snapshot.gpus if self.snapshot is not None else None
        driver: Row = []
        if reading is not None:
            driver = [(f"NVIDIA {reading.driver_version or fmt.UNKNOWN}", DIM), ("   ", TEXT)]
        mode, note = self._mode(), self._note()
        least = 3 + width_of(mode) + width_of(loud) + width_of(clock)
        if least + width_of(note) + width_of(host) + width_of(driver) > width:
            driver = []
        if least + min(width_of(note), _NOTE_LEAST) + width_of(host) > width:
            host = []
        left = [(" ", TEXT), *host, *mode, *note]
        return [strip(spread(left, [("  ", TEXT), *loud, *driver, *clock], width), width)]

    def _mode(self) -> Row:
        """What cannot be left out."""
        if self.progress is not None and self.progress.running:
            return [("▸ ", ACCENT), (self.progress.title, STRONG)]
        if self.snapshot is None:
            return [("looking…", DIM)]
        view = self.snapshot.mode
        sign, style = _TRUTHS[view.truth]
        at = view.since if view.truth is ModeTruth.REACHED else view.changed_at
        time = [(f" {fmt.clock(at)}", DIM)] if at is not None else []
        return [(view.mode or "no mode", STRONG), (" ", TEXT), (f"{sign} {view.truth}", style), *time]

    def _note(self) -> Row:
        """What is missing, what changed, or why it is not known."""
        if self.progress is not None and self.progress.running:
            return self._step(self.progress)
        if self.snapshot is None:
            return []
        view = self.snapshot.mode
        if not view.note or view.truth is ModeTruth.REACHED:
            return []
        return [(f": {view.note}", BAD if view.truth is ModeTruth.PARTIAL else DIM)]

    def _step(self, progress: Progress) -> Row:  # noqa: ARG002
        """How far the switch is; nothing where its steps stand below."""
        return []


class HeaderEcho(HeaderLine):
    """The same line on a screen that hides the steps of a switch: the one that runs is named here."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__("", id=id)

    def follow(self, header: HeaderLine) -> None:
        """Say what that one says, now and from now on."""
        self.host_name, self.read_only = header.host_name, header.read_only
        for name in ("snapshot", "progress", "alarms"):
            self.watch(header, name, partial(setattr, self, name))

    def _step(self, progress: Progress) -> Row:
        words = progress.step_words
        return [(f": {words}", TEXT)] if words else []
