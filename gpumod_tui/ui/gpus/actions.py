"""Keys of the GPU panel that are meant from anywhere on the dashboard."""

from typing import Final

from textual.binding import Binding
from textual.screen import Screen

from gpumod_tui.ui.dashboard.header import HeaderLine
from gpumod_tui.ui.gpus.pane import GpuPanel

GPU_KEYS: Final = (
    Binding("a", "acknowledge", "acknowledge", id="gpu.acknowledge", tooltip="acknowledge the alarms"),
    Binding("space", "freeze", "freeze", id="gpu.freeze", show=False, tooltip="freeze the graph and look back"),
    Binding("space", "unfreeze", "go on", id="gpu.unfreeze", tooltip="let the frozen graph go on"),
    Binding("left", "graph_cursor(-1)", "earlier", id="gpu.earlier", tooltip="in a frozen graph: look earlier"),
    Binding("right", "graph_cursor(1)", "later", id="gpu.later", tooltip="in a frozen graph: look later"),
    Binding("shift+left", "graph_cursor(-10)", "ten earlier", id="gpu.ten_earlier", show=False),
    Binding("shift+right", "graph_cursor(10)", "ten later", id="gpu.ten_later", show=False),
    Binding("plus,equals_sign", "window(1)", "longer window", id="gpu.longer", key_display="+", show=False),
    Binding("minus", "window(-1)", "shorter window", id="gpu.shorter", key_display="-", show=False),
    Binding("v", "graph_or_bars", "graph/bars", id="gpu.form", show=False, tooltip="graphs of the GPUs, or bars"),
)


class GpuKeys(Screen[None]):
    """A screen with a GPU panel; `may_NAME` says whether `action_NAME` is valid now."""

    gpus: GpuPanel
    header: HeaderLine

    def may_acknowledge(self) -> bool:
        """There is an alarm."""
        return self.gpus.alarms > 0

    def action_acknowledge(self) -> None:
        """It was seen."""
        self.gpus.acknowledge()
        self.header.alarms = 0
        self.refresh_bindings()

    def may_freeze(self) -> bool:
        """There are graphs, and they move."""
        return self.gpus.shows_graphs and not self.gpus.frozen

    def action_freeze(self) -> None:
        """Stand still; what comes is remembered behind it."""
        self.gpus.freeze()
        self.refresh_bindings()

    def may_unfreeze(self) -> bool:
        """They stand still."""
        return self.gpus.frozen

    def action_unfreeze(self) -> None:
        """Show what is now."""
        self.gpus.unfreeze()
        self.refresh_bindings()

    def may_graph_cursor(self, by: int) -> bool:
        """The graph stands still."""
        del by
        return self.gpus.frozen

    def action_graph_cursor(self, by: int) -> None:
        """Look earlier (negative) or later, by columns."""
        self.gpus.move(by)

    def may_window(self, by: int) -> bool:
        """There is a longer or shorter one."""
        return self.gpus.can_zoom(by)

    def action_window(self, by: int) -> None:
        """A longer or shorter window."""
        self.gpus.zoom(by)
        self.refresh_bindings()

    def may_graph_or_bars(self) -> bool:
        """There is a GPU."""
        return self.gpus.snapshot is not None and self.gpus.snapshot.gpus is not None

    def action_graph_or_bars(self) -> None:
        """The other form, as far as there is room."""
        self.gpus.toggle()
        self.refresh_bindings()
