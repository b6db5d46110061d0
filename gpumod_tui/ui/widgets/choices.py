"""A list of models to choose one from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from textual.events import Click
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui import format as fmt
from gpumod_tui.ui.palette import ACCENT, BAD, CURSOR, DIM, STRONG, TEXT, WARN
from gpumod_tui.ui.rows import Row, clip_middle, pad, rpad, rule, strip
from gpumod_tui.ui.widgets.painted import Pane

_STATUS: Final = 11
_NEED: Final = 9


@dataclass(frozen=True, slots=True)
class Choice:
    """One row."""

    id: str
    status: str
    need_bytes: int | None
    """None: unknown."""
    basis: str
    """Where the need comes from."""
    why_not: str = ""
    """Why it cannot be chosen; empty: it can."""
    failed: bool = False
    """Its last load ended in an error."""


class ChoiceList(Pane):
    """Heading, rows, what is known of the chosen one."""

    cursor: var[int] = var(0)

    def __init__(self, title: str, note: str) -> None:
        super().__init__()
        self._title = title
        self._note = note
        self._choices: tuple[Choice, ...] | None = None
        """None: nobody has answered yet."""
        self._fault = ""
        self._top = 0
        """The first row shown."""

    @property
    def wanted_height(self) -> int:
        """Rows that show everything."""
        return 4 + max(1, len(self._choices or ()))

    @property
    def chosen(self) -> Choice | None:
        """The one under the cursor."""
        return self._choices[min(self.cursor, len(self._choices) - 1)] if self._choices else None

    def show(self, choices: Sequence[Choice], fault: str) -> None:
        """What there is; the cursor begins on the first that can be chosen."""
        self._choices, self._fault = tuple(choices), fault
        self.cursor = next((place for place, one in enumerate(choices) if not one.why_not), 0)
        self.repaint()

    def move(self, by: int) -> None:
        """Up or down, no further than the ends."""
        self.cursor = max(0, min(self.cursor + by, len(self._choices or ()) - 1))

    def wheel(self, lines: int) -> None:
        """One further."""
        self.move(1 if lines > 0 else -1)

    def on_click(self, event: Click) -> None:
        """What stands in that row; enter takes it."""
        place = event.y - 2 + self._top
        if event.y >= 2 and place < len(self._choices or ()):
            self.cursor = place

    def watch_cursor(self) -> None:
        """Another one, which may be taken or not."""
        self.repaint()
        self.refresh_bindings()

    def rows(self, width: int, height: int) -> list[Strip]:
        """As many as fit, the cursor's among them."""
        head = rule([(self._title, STRONG)], [], width)
        lines = [strip(head, width), strip([(f" {self._note}", DIM)], width)]
        room = max(1, height - 4)
        if self._fault:
            lines.append(strip([(f" {self._fault}", BAD)], width))
        elif self._choices is None:
            lines.append(strip([(" asking the router…", DIM)], width))
        elif not self._choices:
            lines.append(strip([(" it has no models", DIM)], width))
        choices = self._choices or ()
        top = self._top = max(0, min(self.cursor - room + 1, len(choices) - room))
        for place, one in enumerate(choices[top : top + room], top):
            under = CURSOR if place == self.cursor else None
            lines.append(strip(_row(one, width, chosen=place == self.cursor), width, under=under))
        chosen = self.chosen
        about = fmt.in_gib(f" {chosen.why_not or f'need: {chosen.basis}'}") if chosen is not None else ""
        lines.append(strip([(about, WARN if chosen is not None and chosen.why_not else DIM)], width))
        return [*lines, strip([], width)]


def _row(one: Choice, width: int, *, chosen: bool) -> Row:
    name = max(8, width - 3 - _STATUS - _NEED - 2)
    style = DIM if one.why_not else STRONG if chosen else TEXT
    status = "failed" if one.failed and one.status == "unloaded" else one.status
    need = f"{fmt.gib(one.need_bytes)} GiB" if one.need_bytes is not None else fmt.UNKNOWN
    return [
        ("▸ " if chosen else "  ", ACCENT),
        (pad(clip_middle(one.id, name), name) + " ", style),
        (pad(status, _STATUS), BAD if status == "failed" else DIM),
        (rpad(need, _NEED), style),
    ]
