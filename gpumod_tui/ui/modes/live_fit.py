"""Screens that reckon with the box as it is: they look at it when they open, and again when it has changed."""

from typing import Final

from textual.app import ComposeResult

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import Snapshot
from gpumod_tui.core.switch.simulate import WhatIf
from gpumod_tui.core.text import MIB
from gpumod_tui.ui.background import errand
from gpumod_tui.ui.common.dialog import FullScreen
from gpumod_tui.ui.keys.footer import FooterLine
from gpumod_tui.ui.modes.fit import SumView
from gpumod_tui.ui.modes.service_list import ServiceChoice
from gpumod_tui.ui.theme.styles import UnitColours

LOOK_AGAIN_S: Final = 2.0
"""Between two looks at the box: each asks every server."""
_MOVED_BYTES: Final = 64 * MIB
"""Free memory that changes by less changes no answer that is worth a look."""


class LookingScreen(FullScreen[None]):
    """A list of services, and the sum of those that are chosen."""

    DEFAULT_CSS = "LookingScreen > #sums { height: 1fr; }"

    def __init__(self, title: str, colours: UnitColours, note: str = "") -> None:
        """`title` and `note` of the list of services."""
        super().__init__()
        self.colours = colours
        self.choice = ServiceChoice(title, colours, note=note, id="choice")
        self.sums = SumView(colours, id="sums")
        self.footer = FooterLine(id="footer")
        self.what_if: WhatIf | None = None
        """None: the first look is not back yet."""
        self.gpus_bytes: tuple[int, ...] = ()
        """Sizes of simulated GPUs; empty: those that are there."""
        self._looking = False
        self._looked_at = 0.0
        self._seen: object = None

    def compose(self) -> ComposeResult:
        """From top to bottom."""
        yield self.header
        yield from self.compose_above()
        yield self.choice
        yield self.sums
        yield self.footer

    def compose_above(self) -> ComposeResult:
        """What stands between header and list."""
        yield from ()

    def other_rows(self) -> int:
        """Rows of that."""
        return 0

    def on_mount(self) -> None:
        """The first look."""
        self.look()
        self.share_out()

    def on_resize(self) -> None:
        """The terminal changed."""
        self.share_out()

    def take(self, snapshot: Snapshot) -> None:
        """Look again if what an answer depends on has changed."""
        seen = _stands(snapshot)
        if seen != self._seen and not self._looking and abs(snapshot.at - self._looked_at) >= LOOK_AGAIN_S:
            self._seen, self._looked_at = seen, snapshot.at
            self.look()

    def look(self) -> None:
        """In a thread."""
        self._looking = True
        wanted = self.gpus_bytes

        def show(found: WhatIf | GpumodError) -> None:
            # What was asked about other GPUs comes too late.
            if wanted == self.gpus_bytes:
                self._show(found)

        self.post_message(errand("look", lambda commands: commands.what_if(wanted), show))

    def _show(self, found: WhatIf | GpumodError) -> None:
        self._looking = False
        if not self.is_attached:
            return
        if isinstance(found, GpumodError):
            self.sums.fault = f"{found} ({found.hint})" if found.hint else str(found)
            self.choice.empty = "services cannot be read now"
        else:
            first, self.what_if, self.sums.fault = self.what_if is None, found, ""
            self.choice.candidates, self.choice.empty = found.candidates, "no services defined yet: gpumod preset list"
            if first:
                self.looked(found)
            self.reckon()
        self.share_out()

    def looked(self, what_if: WhatIf) -> None:
        """The first look is back."""

    def on_service_choice_toggled(self, message: ServiceChoice.Toggled) -> None:
        """Choose it, or leave it."""
        chosen = self.choice.chosen
        if message.service in chosen:
            self.choose(tuple(name for name in chosen if name != message.service))
        else:
            self.choose((*chosen, message.service))

    def choose(self, services: tuple[str, ...]) -> None:
        """Another choice."""
        self.choice.chosen = services
        self.reckon()
        self.share_out()
        self.refresh_bindings()

    def reckon(self) -> None:
        """Pure: a key is answered at once."""
        if self.what_if is None:
            return
        known = self.what_if.registry.services
        found = self.what_if.run(name for name in self.choice.chosen if name in known)
        self.choice.along = frozenset(found.services) - frozenset(found.chosen)
        self.sums.simulation = found

    def share_out(self) -> None:
        """The list has what the sums leave, and half of the screen where both want more than there is."""
        if not self.is_attached:
            return
        room = self.size.height - 1 - self.header_rows - self.other_rows()
        wanted = self.choice.wanted_height
        left = room - self.sums.wanted_height(self.size.width)
        self.choice.styles.height = max(min(wanted, max(2, room // 2)), min(wanted, left))


def _stands(snapshot: Snapshot) -> object:
    gpus = snapshot.gpus.gpus if snapshot.gpus else ()
    memory = tuple(
        (gpu.index, gpu.error, None if gpu.free_bytes is None else gpu.free_bytes // _MOVED_BYTES) for gpu in gpus
    )
    units = tuple((view.id, view.state.active_state, view.is_ready) for view in snapshot.services)
    return memory, units, tuple(holder.pid for holder in snapshot.orphans)
