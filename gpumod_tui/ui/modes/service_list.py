"""Services to choose from, with a mark at each that is chosen."""

from collections.abc import Collection
from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.switch.simulate import Candidate
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, clip_middle, pad, rule, strip
from gpumod_tui.ui.theme.styles import ACCENT, CURSOR, DIM, GOOD, STRONG, TEXT, WARN, UnitColours

WIDE = 70
"""Columns from which on it is told where a need is from."""


class ServiceChoice(Pane):
    """A heading and one row for each service. `Toggled` says which one the operator chose or left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "choose", "choose", id="choice.toggle"),
        Binding("up", "move(-1)", "previous", id="choice.up", show=False),
        Binding("down", "move(1)", "next", id="choice.down", show=False),
        Binding("pageup", "page(-1)", "page up", id="choice.page_up", show=False),
        Binding("pagedown", "page(1)", "page down", id="choice.page_down", show=False),
        Binding("home", "end(0)", "first", id="choice.first", show=False),
        Binding("end", "end(-1)", "last", id="choice.last", show=False),
    ]

    candidates: var[tuple[Candidate, ...]] = var(())
    chosen: var[tuple[str, ...]] = var(())
    along: var[frozenset[str]] = var(frozenset())
    """What the chosen ones depend on."""
    cursor: var[int] = var(0)
    note: var[str] = var("")
    """To the right of the title, where all services are in sight."""
    empty: var[str] = var("looking at the box…")
    """What stands where no service does."""

    class Toggled(Message):
        """The operator chose or left a service."""

        def __init__(self, service: str) -> None:
            super().__init__()
            self.service = service

    def __init__(self, title: str, colours: UnitColours, *, note: str = "", id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._title = title
        self.set_reactive(ServiceChoice.note, note)
        self._colours = colours
        self._top = 0

    @property
    def wanted_height(self) -> int:
        """Rows that show everything."""
        return 1 + max(1, len(self.candidates))

    def watch_candidates(self) -> None:
        """Newer needs."""
        self.repaint()

    def watch_chosen(self) -> None:
        """Another choice."""
        self.repaint()

    def watch_note(self) -> None:
        """Something else is to be known."""
        self.repaint()

    def watch_along(self) -> None:
        """Others come along."""
        self.repaint()

    def watch_empty(self) -> None:
        """It is known why there are none."""
        self.repaint()

    def watch_cursor(self) -> None:
        """Another row is selected."""
        self.repaint()

    def action_choose(self) -> None:
        """Choose or leave what is under the cursor."""
        if self.candidates:
            self.post_message(self.Toggled(self.candidates[min(self.cursor, len(self.candidates) - 1)].service))

    def action_move(self, by: int) -> None:
        """Up or down, round the ends."""
        if self.candidates:
            self.cursor = (self.cursor + by) % len(self.candidates)

    def action_page(self, by: int) -> None:
        """As far as the screen shows, and no further than the ends."""
        self._go_to(self.cursor + by * max(1, self.size.height - 2))

    def action_end(self, place: int) -> None:
        """The first (0) or the last (-1)."""
        self._go_to(place % max(1, len(self.candidates)))

    def on_click(self, event: events.Click) -> None:
        """A click chooses or leaves."""
        place = self._top + event.y - 1
        if event.y > 0 and place < len(self.candidates):
            self.cursor = place
            self.action_choose()

    def _go_to(self, place: int) -> None:
        self.cursor = max(0, min(len(self.candidates) - 1, place))

    def rows(self, width: int, height: int) -> list[Strip]:
        """Heading, and the services around the cursor."""
        count = len(self.candidates)
        room = max(1, height - 1)
        self._top = max(0, min(self.cursor - room + 1, count - room))
        hidden = max(0, count - room)
        more = f"{hidden} more {'↑' if self._top else ''}{'↓' if self._top < hidden else ''}" if hidden else self.note
        done = [strip(rule([(self._title, STRONG)], [(more, DIM)] if more else [], width), width)]
        if not count:
            return [*done, strip([(f"  {self.empty}", DIM)], width)]
        name = min(max(len(one.service) for one in self.candidates), max(8, width - 30))
        for place, one in enumerate(self.candidates[self._top : self._top + room], self._top):
            under = CURSOR if place == self.cursor else None
            done.append(strip(self._row(one, name, width, here=place == self.cursor), width, under=under))
        return done

    def _row(self, one: Candidate, name: int, width: int, *, here: bool) -> Row:
        mark, style = mark_of(one.service, self.chosen, self.along)
        chosen = mark != " "
        row: Row = [("▸" if here else " ", ACCENT), (f"[{mark}] ", GOOD if chosen else DIM)]
        row += [("■ ", self._colours.style(one.service))]
        row += [(pad(clip_middle(one.service, name), name), style)]
        if one.need_bytes is None:
            row += [("   unknown", WARN)]
        else:
            row += [(f"{fmt.gib(one.need_bytes):>6} GiB", TEXT if chosen else DIM)]
        on = f"GPU {'+'.join(map(str, one.gpus))}" if one.gpus else ""
        row += [(f"  {on:<5}", DIM), (f"  {'runs' if one.runs else '':<4}", GOOD)]
        if width >= WIDE:
            row += [(f"  {fmt.in_gib(one.note)}", DIM if one.need_bytes is not None else WARN)]
        return row


def mark_of(service: str, chosen: Collection[str], along: Collection[str]) -> tuple[str, Style]:
    """`x`: chosen, `+`: comes along, blank: neither; and the style of its name."""
    if service in chosen:
        return "x", STRONG
    return ("+", TEXT) if service in along else (" ", DIM)
