"""A list of models to choose one from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Size
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.models import ModelStatus
from gpumod_tui.core.status.details import ModelChoice
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, clip_middle, pad, rpad, rule, strip
from gpumod_tui.ui.messages import Found
from gpumod_tui.ui.theme.styles import ACCENT, BAD, CURSOR, DIM, STRONG, TEXT, WARN

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


_LOADABLE = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)
_GONE = (*_LOADABLE, ModelStatus.DOWNLOADING, ModelStatus.UNKNOWN)


class PickerScreen(Dialog[str]):
    """Ends with the id of a model, or with an empty string."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "previous", id="picker.up"),
        Binding("down", "move(1)", "next", id="picker.down"),
        Binding("pageup", "move(-10)", "page up", id="picker.page_up"),
        Binding("pagedown", "move(10)", "page down", id="picker.page_down"),
        Binding("enter", "take", "take it", id="picker.take"),
        Binding("escape,q", "leave", "leave it", id="picker.leave"),
    ]
    KEYS = (("picker.take", "take it"), ("picker.leave", "leave it"))

    def __init__(self, verb: str, service: str, free: str) -> None:
        """`free`: a sentence on the memory that is free now."""
        into = "into" if verb == "load" else "from"
        self._list = ChoiceList(f"{verb.capitalize()} a model {into} {service}", free)
        super().__init__(self._list)
        self._verb = verb

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Nothing may stand against what is taken."""
        chosen = self._list.chosen
        return action != "take" or (chosen is not None and not chosen.why_not)

    def on_found(self, message: Found) -> None:
        """The router has answered, or has not."""
        models = message.value if isinstance(message.value, Sequence) else ()
        self._list.show([self._choice(one) for one in models if isinstance(one, ModelChoice)], message.reason)
        self.offer()
        self.fit()

    def action_move(self, by: int) -> None:
        """Another one."""
        self._list.move(by)

    def action_take(self) -> None:
        """This one."""
        if self._list.chosen is not None:
            self.dismiss(self._list.chosen.id)

    def action_leave(self) -> None:
        """None."""
        self.dismiss("")

    def _choice(self, model: ModelChoice) -> Choice:
        if self._verb == "load":
            why_not = "" if model.status in _LOADABLE else f"it is {model.status} already"
            if model.status is ModelStatus.SLEEPING:
                why_not = "it is asleep: a request wakes it"
        else:
            why_not = "it is not in memory" if model.status in _GONE else ""
        return Choice(model.id, model.status, model.need_bytes, model.basis, why_not, failed=bool(model.exit_code))

    def wanted(self, screen: Size) -> Size:
        """All models, as far as there is room."""
        return Size(min(100, max(38, screen.width - 4)), self._list.wanted_height)
