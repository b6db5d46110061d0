"""What if these services ran: chosen by key or click, answered at once."""

from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from gpumod_tui.core.models import Mode
from gpumod_tui.core.switch.simulate import WhatIf, gpu_sizes
from gpumod_tui.core.text import GIB
from gpumod_tui.ui.common.input import Field
from gpumod_tui.ui.modes.editor import ModeEditor
from gpumod_tui.ui.modes.live_fit import LookingScreen
from gpumod_tui.ui.theme.styles import UnitColours

MODES: Final = Binding.Group("as mode")


class WhatIfScreen(LookingScreen):
    """It begins with what runs now. Nothing is touched."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "close", id="what_if.close"),
        *(Binding(str(key), f"as_mode({key})", "as mode", id=f"what_if.{key}", group=MODES) for key in range(1, 10)),
        Binding("b", "choose_none", "none", id="what_if.none"),
        Binding("w", "choose_running", "what runs", id="what_if.running"),
        Binding("g", "gpus", "other GPUs", id="what_if.gpus", tooltip="simulated GPUs, by their sizes"),
        Binding("m", "make_mode", "make a mode", id="what_if.make"),
    ]
    AUTO_FOCUS = "#choice"

    def __init__(self, colours: UnitColours, places: tuple[str, ...], *, read_only: bool = False) -> None:
        """`places`: ids of modes in the order of their numbers."""
        super().__init__("What if these ran", colours)
        self._read_only = read_only
        self._places = places
        self.sizes = Field("GPUs in GiB", "24 24 or 4x80; empty: those that are there", "")
        self.sizes.display = False

    def compose_above(self) -> ComposeResult:
        """A line for GPUs, while it is asked for."""
        yield self.sizes

    def other_rows(self) -> int:
        """That line."""
        return int(self.sizes.display)

    def looked(self, what_if: WhatIf) -> None:
        """What runs now is chosen."""
        self.choose(what_if.running)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is not valid now is neither offered nor done."""
        if action == "as_mode":
            return self._mode(parameters[0]) is not None
        if action == "make_mode" and self._read_only:
            return False
        if action in ("choose_none", "make_mode"):
            return bool(self.choice.chosen)
        if action == "choose_running":
            return self.what_if is not None and set(self.choice.chosen) != set(self.what_if.running)
        return True

    def action_as_mode(self, number: int) -> None:
        """The services of the mode with this number."""
        mode = self._mode(number)
        if mode is not None:
            self.choose(mode.services)

    def action_choose_none(self) -> None:
        """Begin from nothing."""
        self.choose(())

    def action_choose_running(self) -> None:
        """What runs now."""
        assert self.what_if is not None
        self.choose(self.what_if.running)

    def action_gpus(self) -> None:
        """Others than those that are there."""
        self._ask_sizes(asked=True)

    def on_input_submitted(self, message: Input.Submitted) -> None:
        """Reckon with these."""
        message.stop()
        try:
            self.gpus_bytes = gpu_sizes(message.value)
        except ValueError as error:
            self.app.notify(str(error), title="GPUs", severity="error", markup=False)
            return
        gib = " + ".join(f"{amount / GIB:g}" for amount in self.gpus_bytes)
        self.choice.note = f"simulated, idle: {gib} GiB" if gib else ""
        self._ask_sizes(asked=False)
        self.look()

    def _ask_sizes(self, *, asked: bool) -> None:
        self.sizes.display = asked
        (self.sizes.line if asked else self.choice).focus()
        self.share_out()
        self.refresh_bindings()

    def action_make_mode(self) -> None:
        """Save this choice."""
        self.app.switch_screen(ModeEditor(self.colours, services=self.choice.chosen))

    def _mode(self, number: object) -> Mode | None:
        if self.what_if is None or not isinstance(number, int) or number > len(self._places):
            return None
        return self.what_if.registry.modes.get(self._places[number - 1])

    def action_leave(self) -> None:
        """From the line to the list, and from there to the dashboard."""
        if self.sizes.display:
            self._ask_sizes(asked=False)
        else:
            self.dismiss()
