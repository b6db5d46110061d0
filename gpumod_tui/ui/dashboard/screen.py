"""The dashboard: where everything stands, and which key does what."""

from collections.abc import Callable
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import var

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import BLANK, LogLine, Snapshot
from gpumod_tui.core.status.history import History
from gpumod_tui.core.view import View
from gpumod_tui.ui.common.confirm import TooSmall
from gpumod_tui.ui.dashboard.header import HeaderLine
from gpumod_tui.ui.dashboard.layout import Place, places
from gpumod_tui.ui.gpus.actions import GPU_KEYS, GpuKeys
from gpumod_tui.ui.gpus.pane import GpuPanel
from gpumod_tui.ui.journal.entry import Batch
from gpumod_tui.ui.journal.pane import JournalView
from gpumod_tui.ui.keys.footer import FooterLine
from gpumod_tui.ui.keys.hints import ends
from gpumod_tui.ui.messages import Ask, Cancel, Drop, UnitWish
from gpumod_tui.ui.modes.pane import ModeBar
from gpumod_tui.ui.modes.picker import ModePicker
from gpumod_tui.ui.modes.simulate import WhatIfScreen
from gpumod_tui.ui.switch.actions import SWITCH_KEYS, SwitchKeys
from gpumod_tui.ui.switch.plan import PlanningLine
from gpumod_tui.ui.switch.progress import Progress
from gpumod_tui.ui.switch.steps import StepList, as_text
from gpumod_tui.ui.theme.styles import UnitColours
from gpumod_tui.ui.units.actions import ACTING, UNIT_KEYS, SelectedUnit
from gpumod_tui.ui.units.pane import UnitTable

BOARD_ACTING: Final = ACTING | {"mode", "blank", "end", "retry", "drop", "cancel", "edit_modes", "login_mode"}
"""Actions that change something on the box, or plan to."""
MODES: Final = Binding.Group("mode")
BESIDE_MODES: Final = ("mode.what_if", "mode.edit")
"""Bindings that are shown there rather than in the footer."""


class Dashboard(GpuKeys, SwitchKeys, SelectedUnit):
    """Knows its widgets; what a key asks for goes out as a message."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "next pane", id="app.next_pane", show=False),
        Binding("shift+tab", "app.focus_previous", "previous pane", id="app.previous_pane", show=False),
        Binding(
            "escape",
            "drop",
            "drop next",
            id="mode.drop",
            tooltip="what is planned, or waits behind a switch, is not done",
        ),
        Binding("escape", "cancel", "cancel", id="mode.cancel", tooltip="cancel the switch that runs"),
        Binding("r", "retry", "retry", id="mode.retry", tooltip="after a failure: try the same again"),
        Binding("y", "copy", "copy", id="mode.copy", tooltip="copy a failure with its evidence"),
        Binding(
            "escape",
            "close",
            "close",
            id="app.close",
            tooltip="close what is shown: the zoom, a frozen graph, a result, one unit's log",
        ),
        *GPU_KEYS,
        *(Binding(str(key), f"mode({key})", "mode", id=f"mode.{key}", group=MODES) for key in range(1, 10)),
        Binding("b", "blank", "blank", id="mode.blank", tooltip="stop everything: the way back from every failure"),
        Binding("escape", "clear_filter", "all units", id="unit.clear_filter", tooltip="clear the filter of the units"),
        *UNIT_KEYS[:3],
        Binding("enter", "wish('details')", "details", id="unit.details", tooltip="everything about the selected unit"),
        *UNIT_KEYS[3:],
        Binding("K", "end", "end it", id="unit.end", tooltip="end a process that belongs to no managed unit: asks"),
        Binding("g", "log_of_unit", "its log", id="unit.log", tooltip="its journal alone"),
        Binding("g", "all_logs", "all logs", id="log.all", tooltip="the journal of all units again"),
        Binding("z", "zoom", "zoom", id="log.zoom", tooltip="the journal alone, or everything again"),
        Binding("f", "stand_still", "stand still", id="log.stand_still"),
        Binding("f", "follow", "follow", id="log.follow"),
        *SWITCH_KEYS,
        Binding("w", "what_if", "what if", id="mode.what_if", show=False, tooltip="whether services would fit"),
        Binding("m", "edit_modes", "edit modes", id="mode.edit", show=False, tooltip="make, change and delete modes"),
    ]
    AUTO_FOCUS = "#units"

    snapshot: var[Snapshot | None] = var(None)
    progress: var[Progress | None] = var(None)
    zoomed: var[bool] = var(False)
    """The journal has the whole screen."""

    def __init__(
        self,
        registry: ServiceRegistry,
        history: History,
        colours: UnitColours,
        host_name: str,
        view: View,
        *,
        read_only: bool = False,
    ) -> None:
        super().__init__()
        self._read_only = read_only
        self._wanted_unit = view.unit
        """To be selected as soon as there is such a unit."""
        self._registry = registry
        self.places = tuple(registry.modes)
        """Ids of modes in the order of their numbers. What is deleted leaves its number free until it is back."""
        self._colours = colours
        name_width = max([len(name) for name in registry.services] + [8])
        self.header = HeaderLine(host_name, read_only=read_only, id="header")
        self.gpus = GpuPanel(history, colours, id="gpus")
        self.modes = ModeBar(registry, self.places, id="modes")
        self.planning = PlanningLine(id="planning")
        self.steps = StepList(colours, id="steps")
        self.units = UnitTable(colours, id="units")
        self.journal = JournalView(colours, name_width, read_only=read_only, id="journal")
        self.footer = FooterLine(id="footer")
        self._said: dict[str, LogLine] = {}
        """The newest line of each unit since the switch on screen began, the newest last."""
        self._said_in: tuple[str, float] | None = None
        self.too_small = TooSmall()
        self._panes = (
            self.header,
            self.gpus,
            self.modes,
            self.planning,
            self.steps,
            self.units,
            self.journal,
            self.footer,
        )
        self._places: dict[str | None, Place | None] = {}
        self.journal.units = frozenset(view.log_units).intersection(registry.services)
        self.journal.set_reactive(JournalView.priority, view.log_level if 0 <= view.log_level <= 7 else 7)
        self._wanted_filter = view.log_filter
        self.set_reactive(Dashboard.zoomed, view.zoomed)
        self.journal.show_line_rows(view.log_rows)
        self.units.show_order(view.unit_order, view.unit_filter)
        self.gpus.show_window(view.window_min)
        self.gpus.graphs = view.graphs

    @property
    def view(self) -> View:
        """To be remembered."""
        selected = self.units.selected
        return View(
            unit=selected.id if selected is not None else self._wanted_unit,
            unit_order=self.units.order,
            unit_filter=self.units.needle,
            log_units=tuple(sorted(self.journal.units)),
            log_level=self.journal.priority,
            log_filter=self.journal.pattern,
            log_rows=self.journal.line_rows,
            zoomed=self.zoomed,
            window_min=self.gpus.window_min,
            graphs=self.gpus.graphs,
        )

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield from self._panes
        yield self.too_small

    def on_mount(self) -> None:
        """The first layout."""
        self.journal.pattern = self._wanted_filter
        self.bindings_updated_signal.subscribe(self, lambda _screen: self._say_keys())
        self.share_rows()

    def on_resize(self) -> None:
        """The terminal changed."""
        self.share_rows()

    def on_gpu_panel_reshaped(self) -> None:
        """Graphs want other rows than bars."""
        self.share_rows()

    def on_planning_line_changed(self) -> None:
        """A plan takes a while, or is there."""
        self.share_rows()
        self.refresh_bindings()

    def watch_snapshot(self, snapshot: Snapshot | None) -> None:
        """Hand it on."""
        if snapshot is None:
            return
        self.header.snapshot = self.gpus.snapshot = self.modes.snapshot = self.units.snapshot = snapshot
        self.header.alarms = self.gpus.alarms
        self.steps.now = self.journal.now = snapshot.at
        if self._wanted_unit and snapshot.services:
            self.units.select(self._wanted_unit)
            self._wanted_unit = ""
        self.share_rows()

    def watch_progress(self, progress: Progress | None) -> None:
        """Hand it on."""
        self.header.progress = self.modes.progress = self.steps.progress = progress
        shown = (progress.target, progress.at) if progress is not None else None
        if shown != self._said_in:
            self._said_in = shown
            self._said.clear()
            self.steps.lines = ()
        self.share_rows()

    def watch_zoomed(self) -> None:
        """The journal takes the screen, or gives it back."""
        if self.is_mounted:
            (self.journal if self.zoomed else self.units).focus()
            self.share_rows()

    @property
    def shows_steps(self) -> bool:
        """The steps of a switch stand on it, and why it failed."""
        return self.steps.display and not self.zoomed

    @property
    def log_names(self) -> tuple[str, ...]:
        """Services whose journal can be chosen."""
        views = self.snapshot.services if self.snapshot is not None else ()
        return tuple(view.id for view in views) or tuple(self._registry.services)

    def take_lines(self, batch: Batch) -> None:
        """One batch of the journal."""
        self.journal.take(batch)
        if self.progress is not None and self.progress.running:
            for line in batch.lines:
                if line.unit.removesuffix(".service") in self.progress.services:
                    self._said.pop(line.unit, None)
                    self._said[line.unit] = line
            self.steps.lines = tuple(self._said.values())

    # -- actions: `may_NAME`, where there is one, says whether `action_NAME` is valid now -----------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is not valid now is neither offered nor done."""
        if self._read_only and action in BOARD_ACTING and parameters != ("details",):
            return False
        may: Callable[..., bool] | None = getattr(self, f"may_{action}", None)
        return may is None or may(*parameters)

    def may_mode(self, number: int) -> bool:
        """There is one with that number."""
        return number <= len(self.places) and self.places[number - 1] in self._registry.modes

    def action_mode(self, number: int) -> None:
        """The mode with this number."""
        self.post_message(Ask("mode", self.places[number - 1]))

    def adopt(self, registry: ServiceRegistry) -> None:
        """The catalog has changed; a new mode comes last, so that no key means another mode than before."""
        self._registry = registry
        self.places += tuple(name for name in registry.modes if name not in self.places)
        self.modes.adopt(registry, self.places)
        self.refresh_bindings()

    def action_what_if(self) -> None:
        """Services to choose from, and their sum."""
        self.app.push_screen(WhatIfScreen(self._colours, self.places, read_only=self._read_only))

    def action_edit_modes(self) -> None:
        """All modes, to change them."""
        self.app.push_screen(ModePicker(self._registry, self.places, self._colours))

    def action_blank(self) -> None:
        """The way back from every failure."""
        self.post_message(Ask("mode", BLANK))

    def may_service(self, verb: str) -> bool:
        """As far as the selected unit's state says; while a failure is shown, `r` retries that."""
        return super().may_service(verb) and not (verb == "restart" and self.may_retry())

    def may_retry(self) -> bool:
        """A failure is shown."""
        return self.progress is not None and self.progress.failed

    def action_retry(self) -> None:
        """The same again."""
        assert self.progress is not None
        if self.progress.target in self._registry.modes:
            self.post_message(Ask("mode", self.progress.target))
        else:
            _, verb, name, model = [*self.progress.target.split(" ", 3), "", "", ""][:4]
            self.post_message(UnitWish(verb, name, model) if model else Ask(verb, name))

    @property
    def _aside(self) -> bool:
        """The journal has the screen or the graph stands still: `esc` ends that and nothing else."""
        return self.zoomed or self.gpus.frozen

    @property
    def _waits(self) -> bool:
        return self.progress is not None and self.progress.running and bool(self.progress.waiting)

    def may_drop(self) -> bool:
        """Something is being planned, or waits for the end of a switch."""
        return (bool(self.planning.title) or self._waits) and not self._aside

    def action_drop(self) -> None:
        """It is not done; a switch that runs goes on."""
        self.post_message(Drop())

    def may_cancel(self) -> bool:
        """A switch runs, and there is nothing to be dropped first."""
        runs = self.progress is not None and self.progress.running
        return runs and not self.may_drop() and not self._aside

    def action_cancel(self) -> None:
        """Ask the switch that runs to end."""
        self.post_message(Cancel())

    def may_copy(self) -> bool:
        """A failure is shown."""
        return self.may_retry()

    def action_copy(self) -> None:
        """All that is known of it, to the terminal's clipboard."""
        assert self.progress is not None
        self.app.copy_to_clipboard(as_text(self.progress))
        self.notify("copied, where the terminal takes it (OSC 52)")

    def may_close(self) -> bool:
        """Something is shown that can be closed."""
        shown = self._aside or self.progress is not None or bool(self.journal.units)
        return not self.may_cancel() and not self.may_drop() and shown

    def action_close(self) -> None:
        """The zoom first, then a frozen graph, the end of a switch, the choice of one unit's journal."""
        if self.zoomed:
            self.zoomed = False
        elif self.gpus.frozen:
            self.action_unfreeze()
        elif self.progress is not None:
            self.progress = None
        else:
            self.journal.units = frozenset()

    def may_log_of_unit(self) -> bool:
        """There is a unit, and its journal is not what is shown."""
        return self._log_wanted not in ("", self.journal.unit)

    def action_log_of_unit(self) -> None:
        """The selected unit's journal alone, or that of what failed."""
        self.journal.unit = self._log_wanted

    def may_all_logs(self) -> bool:
        """One unit's journal is shown."""
        return bool(self.journal.units) and not self.may_log_of_unit()

    def action_all_logs(self) -> None:
        """Of all units again."""
        self.journal.units = frozenset()

    def may_stand_still(self) -> bool:
        """It follows."""
        return self.journal.following

    def action_stand_still(self) -> None:
        """The journal stays where it is."""
        self.journal.following = False

    def may_follow(self) -> bool:
        """It stands still."""
        return not self.journal.following

    def action_follow(self) -> None:
        """The journal shows what comes."""
        self.journal.following = True

    def action_zoom(self) -> None:
        """The journal alone, or everything again."""
        self.zoomed = not self.zoomed

    @property
    def _log_wanted(self) -> str:
        """Service id, empty: none. While a failure is shown, the unit that failed."""
        result = self.progress.result if self.progress is not None else None
        if result is not None and result.errors and result.errors[0].unit:
            return result.errors[0].unit.removesuffix(".service")
        return self.units.selected.id if self.units.selected else ""

    def _rows_of_steps(self, width: int) -> int:
        """All that they want; above a zoomed pane heading and step, and the keys after a failure."""
        wanted = self.steps.wanted_height(width)
        return min(wanted, 2 + self.may_retry()) if self.zoomed else wanted

    def share_rows(self) -> None:
        """Share the rows of the screen out, as it is now."""
        reading = self.snapshot.gpus if self.snapshot is not None else None
        width, height = self.size
        wanted = places(
            width,
            height,
            gpus=max(1, len(reading.gpus)) if reading else 1,
            steps=self._rows_of_steps(width),
            units=self.units.wanted_height,
            planning=self.planning.wanted_height,
            zoomed="journal" if self.zoomed else "",
            graphs=self.gpus.graphs,
        )
        was_too_small = self.too_small.display
        self.too_small.display = wanted is None
        for pane in self._panes:
            place = wanted.get(pane.id or "") if wanted is not None else None
            if pane.id in self._places and self._places[pane.id] == place:
                continue
            self._places[pane.id] = place
            pane.display = place is not None and place.height > 0
            if place is not None:
                pane.styles.offset = (place.x, place.y)
                pane.styles.width, pane.styles.height = place.width, place.height
        if was_too_small and wanted is not None:
            # What is hidden loses the focus.
            (self.journal if self.zoomed else self.units).focus()
        self.footer.offer()
        self._say_keys()

    def _say_keys(self) -> None:
        """Where they stand beside what they act on."""
        self.steps.aside = self.planning.aside = self._aside
        self.modes.ends = ends(self.active_bindings, self.app.get_key_display, BESIDE_MODES)
