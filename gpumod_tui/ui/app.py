"""The application: threads in by messages, commands out, nothing that blocks."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

from rich.console import RenderableType
from textual._compositor import CompositorUpdate
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.screen import Screen
from textual.widgets import Input

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.events import ActEnded, Event
from gpumod_tui.core.models import Snapshot
from gpumod_tui.core.status.history import History
from gpumod_tui.core.view import View
from gpumod_tui.ui.backend import Archive, Commands, EventConnect, JournalFollow, Snapshots, looking_only
from gpumod_tui.ui.background import Errand, ErrandDone, errand
from gpumod_tui.ui.base_app import DressedApp
from gpumod_tui.ui.common.confirm import LeaveScreen, leave_screen
from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.journal.controller import LogDesk
from gpumod_tui.ui.journal.follow import LogFeed
from gpumod_tui.ui.journal.messages import ChooseUnits, LogRead, LogSaved, SaveLog, WantLog
from gpumod_tui.ui.messages import Ask, CatalogChanged, EndWish, Fault, ManagerEvent, PlanMade, SnapshotTaken, UnitWish
from gpumod_tui.ui.modes.live_fit import LookingScreen
from gpumod_tui.ui.modes.picker import ModePicker
from gpumod_tui.ui.notifications import Notice, bad_end, failures
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.palette.screen import CommandScreen
from gpumod_tui.ui.switch.controller import GUARD_S, SwitchDesk
from gpumod_tui.ui.switch.progress import Progress
from gpumod_tui.ui.switch.progress import title as switch_title
from gpumod_tui.ui.terminal.cell_diff import Cells
from gpumod_tui.ui.theme.styles import UnitColours
from gpumod_tui.ui.units.controller import UnitDesk
from gpumod_tui.ui.units.pane import UnitTable

DEFAULTS: Final = ViewOptions()
FLUSH_S: Final = 0.33
"""Between two batches of journal lines: more often would choke keys on a slow line."""
CATALOG_S: Final = 3.0
"""Between two looks at the preset files."""


class GpumodApp(DressedApp):
    """The view of one box. It owns no switch: what it asks for goes on without it."""

    ENABLE_COMMAND_PALETTE = False
    ALLOW_SELECT = False
    """With the mouse: it would paint, and the terminal's own selection (shift held) does it better."""
    CSS_PATH = Path(__file__).parent / "styles" / "app.tcss"
    TITLE = "gpumod"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+p", "palette", "commands", id="app.palette", tooltip="find and do anything by name"),
        Binding("T", "next_theme", "theme", id="app.theme", show=False, tooltip="next theme"),
        Binding("question_mark", "help", "help", id="app.help"),
        Binding("ctrl+l", "dismiss", "dismiss", id="app.dismiss", show=False, tooltip="no toasts any more"),
        Binding("q", "leave", "quit", id="app.quit", tooltip="end the view; a switch that runs goes on"),
        Binding(
            "ctrl+q,ctrl+c",
            "leave",
            "quit",
            id="app.quit_anywhere",
            show=False,
            priority=True,
            tooltip="the same on any screen",
        ),
    ]

    def __init__(
        self,
        registry: ServiceRegistry,
        snapshots: Snapshots,
        journal: JournalFollow,
        commands: Commands,
        *,
        connect: EventConnect = lambda _sink: None,
        archive: Archive | None = None,
        history: History | None = None,
        host_name: str = "localhost",
        options: ViewOptions = DEFAULTS,
        view: View | None = None,
        live: bool = True,
    ) -> None:
        """`view`: how it was left the last time.

        `live` False: no timer of its own, for tests that call `flush` themselves; a plan is open to keys at once then.
        Raises: ConfigInvalid.
        """
        super().__init__(options, options.theme or (view and view.theme) or Theme.DARK)
        self.history = history or History()
        self.lost = False
        """The terminal is gone, or a signal asked for the end."""
        self.loop: asyncio.AbstractEventLoop | None = None
        self._cells = Cells()
        self._snapshots = snapshots
        self._commands = looking_only(commands) if options.read_only else commands
        self._connect = connect
        self._live = live
        self._feed = LogFeed(journal, self._in_thread, lambda fault: self.post_message(Fault("journal", fault)))
        self._now = 0.0
        self._leaving = False
        self._colours = UnitColours(registry.services)
        self._catalog = registry
        self._logs = LogDesk(self, archive, self._in_thread, self._colours)
        self.dashboard = Dashboard(
            registry, self.history, self._colours, host_name, view or View(), read_only=options.read_only
        )
        self._switches = SwitchDesk(
            self,
            self.dashboard,
            self._commands,
            self._in_thread,
            self._colours,
            options.confirm,
            guard_s=GUARD_S if live else 0.0,
        )
        self._desk = UnitDesk(
            self,
            self._commands,
            self._in_thread,
            self._colours,
            self._switches.when_free,
            read_only=options.read_only,
        )

    @property
    def view(self) -> View:
        """To be remembered."""
        return replace(self.dashboard.view, theme=self.theme_on)

    @property
    def mode_ids(self) -> tuple[str, ...]:
        """In the order of their numbers."""
        return self.dashboard.places

    @property
    def running_switch(self) -> str | None:
        """Target of a switch of this process that has not ended."""
        return self._switches.running

    def get_default_screen(self) -> Dashboard:
        """The one screen that is always there."""
        return self.dashboard

    def on_mount(self) -> None:
        """Start what feeds the screen."""
        self.loop = asyncio.get_running_loop()
        if self.lost:
            self.exit()
        self._connect(self._tell)
        self._snapshots.start(lambda snapshot: self.post_message(SnapshotTaken(snapshot)))
        self._feed.begin()
        if self._live:
            self.set_interval(FLUSH_S, self.flush)
            self.set_interval(CATALOG_S, self._watch_catalog)

    async def on_unmount(self) -> None:
        """End and join what was started, off the loop: a join may take as long as a server's answer."""
        await asyncio.to_thread(self._end_sources)

    def _tell(self, event: Event) -> bool:
        return not self._leaving and self.post_message(ManagerEvent(event))

    def exit(self, result: None = None, return_code: int = 0, message: RenderableType | None = None) -> None:
        """From here on nothing is shown any more."""
        self._leaving = True
        super().exit(result, return_code, message)

    # -- data in -----------------------------------------------------------------------------------------------

    def on_snapshot_taken(self, message: SnapshotTaken) -> None:
        """The newest look at the box."""
        self.show(message.snapshot)

    def show(self, snapshot: Snapshot) -> None:
        """Hand a snapshot to the screen."""
        self._now = snapshot.at
        self.history.add(snapshot)
        for notice in failures(self.dashboard.snapshot, snapshot):
            self._tell_notice(notice)
        self.dashboard.snapshot = snapshot
        self._feed.see(frozenset(view.state.unit for view in snapshot.services))
        self._desk.show(snapshot)
        for screen in self.screen_stack:
            if isinstance(screen, LookingScreen):
                screen.take(snapshot)
        self._switches.show(snapshot)

    def on_manager_event(self, message: ManagerEvent) -> None:
        """One event of a switch."""
        event: Event = message.event
        if isinstance(event, ActEnded):
            self._desk.ended(event)
            return
        if self._switches.turns_away(event):
            return
        ended = self._switches.follow(event)
        self.history.marks.follow(event, self._now)
        if ended is not None:
            self._tell_end(ended)

    def _tell_end(self, ended: Progress) -> None:
        """To somebody who looks elsewhere, on this terminal or on another one."""
        notice = bad_end(ended)
        if notice is not None and not (self.screen is self.dashboard and self.dashboard.shows_steps):
            self._tell_notice(notice)
        if 0 < self.options.bell_after_s < self._now - ended.at:
            self.ring(f"{ended.title}: {ended.end_words}")

    def _tell_notice(self, notice: Notice) -> None:
        self.notify(notice.text, title=notice.title, severity=notice.severity, markup=False)

    def on_fault(self, message: Fault) -> None:
        """A thread ended in an error; the journal's is told again, empty, when it works."""
        if message.where == "journal":
            self.dashboard.journal.fault = message.reason
        else:
            self.notify(message.reason, title=message.where, severity="error", markup=False)

    def flush(self) -> None:
        """Show the journal lines that came since the last time."""
        batch = self._feed.buffer.drain()
        if batch.lines or batch.lost:
            self.dashboard.take_lines(batch)

    # -- the journal's pages -----------------------------------------------------------------------------------

    def on_want_log(self, message: WantLog) -> None:
        """Read them."""
        self._logs.read(message.request)

    def on_log_read(self, message: LogRead) -> None:
        """Here they are."""
        self.dashboard.journal.take_pages(message)

    def on_save_log(self, message: SaveLog) -> None:
        """Write a file."""
        if not self.options.read_only:
            self._logs.save(message)

    def on_log_saved(self, message: LogSaved) -> None:
        """How that went."""
        self._logs.saved(message)

    def on_choose_units(self, message: ChooseUnits) -> None:
        """Whose journal is to be shown?"""
        journal = self.dashboard.journal

        def take(units: frozenset[str]) -> None:
            journal.units = units

        self._logs.choose(self.dashboard.log_names, message.chosen, take)

    # -- commands out ------------------------------------------------------------------------------------------

    def on_ask(self, message: Ask) -> None:
        """Plan it."""
        if not self.options.read_only:
            self._switches.ask(message)

    def on_unit_wish(self, message: UnitWish) -> None:
        """Something is wanted of a unit that is no switch."""
        self._desk.wish(message)

    def on_end_wish(self, message: EndWish) -> None:
        """A process is to end."""
        self._desk.end(message.pid, asks=message.asks)

    def on_plan_made(self, message: PlanMade) -> None:
        """A plan, or why there is none."""
        self._switches.made(message)

    def on_errand(self, message: Errand) -> None:
        """Ask in a thread."""
        self._in_thread(message.name, lambda: self.post_message(ErrandDone(message.ask(self._commands))), message.name)

    def on_errand_done(self, message: ErrandDone) -> None:
        """Tell whoever asked."""
        message.tell()

    def on_catalog_changed(self, message: CatalogChanged) -> None:
        """Show the modes that there are now."""
        self._catalog = message.registry
        self.dashboard.adopt(message.registry)
        for screen in self.screen_stack:
            if isinstance(screen, ModePicker):
                screen.adopt(message.registry, self.dashboard.places)

    def _watch_catalog(self) -> None:
        """Somebody else may save a mode: the command line, another dashboard, an editor."""
        self.post_message(errand("presets", lambda commands: commands.catalog(), self._take_catalog))

    def _take_catalog(self, found: ServiceRegistry | GpumodError) -> None:
        if isinstance(found, GpumodError):
            return
        if (found.modes, found.services) != (self._catalog.modes, self._catalog.services):
            self.post_message(CatalogChanged(found))

    def on_drop(self) -> None:
        """What waits is not wanted any more."""
        self._switches.drop()

    def on_cancel(self) -> None:
        """The switch that runs is to end."""
        self._switches.cancel()

    def action_leave(self) -> None:
        """End the view; while a switch runs, say first that it goes on: whoever wants it then, means it."""
        if isinstance(self.screen, LeaveScreen):
            self.screen.action_agree()
        elif self.running_switch is None:
            self.exit()
        else:
            self.push_screen(
                leave_screen(switch_title(self.running_switch), self._switches.then),
                lambda agreed: self.exit() if agreed else None,
            )

    # -- the terminal ------------------------------------------------------------------------------------------

    def terminal_lost(self) -> None:
        """It is gone: the view ends, nothing else."""
        self.lost = True
        self.exit()

    def _display(self, screen: Screen[Any], renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate):
            renderable = self._cells.only_changes(renderable)
        super()._display(screen, renderable)

    def repaint_all(self) -> None:
        """Frames were dropped: what is on screen is not what was meant."""
        self._cells.forget()
        self.screen.refresh(layout=True)

    # -- threads -----------------------------------------------------------------------------------------------

    def on_key(self, event: Key) -> None:
        """A key that was typed ahead came by what was open before: it goes to where one types now."""
        focused = self.focused
        if isinstance(focused, Input) and event.character is not None and event.is_printable:
            focused.replace(event.character, *focused.selection)
            event.stop()
            event.prevent_default()
        elif isinstance(focused, UnitTable):
            focused.on_key(event)
        elif isinstance(self.screen, CommandScreen):
            self.screen.on_key(event)

    def _end_sources(self) -> None:
        self._snapshots.stop()
        self._feed.close()

    def _in_thread(self, name: str, work: Callable[[], object], where: str) -> None:
        def run() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - a thread's exception is shown nowhere else
                self.post_message(Fault(where, str(error) or repr(error)))

        threading.Thread(target=run, name=f"gpumod-ui-{name}", daemon=True).start()
