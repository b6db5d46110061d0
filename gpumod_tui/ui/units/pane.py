"""The units: what systemd says, whether they are ready, and what memory they hold; and who else holds memory."""

import re
from collections.abc import Iterator
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.events import Click, Key, Paste
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.models import ActiveState, Holder, ServiceView, Snapshot
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, rule, strip
from gpumod_tui.ui.keys.hints import MOVE
from gpumod_tui.ui.theme.styles import ACCENT, BAD, CURSOR, DIM, RULE, STRONG, TEXT, WARN, UnitColours
from gpumod_tui.ui.units.columns import WIDE, Columns, columns, heading, is_coming, loading, orphan_cells, unit_cells
from gpumod_tui.ui.units.order import ORDERS, Item, Order, arranged, key_of

_GAP: Final = re.compile(" ( +) ")
_LINE: Final = re.compile("(─+)")
_LONGEST: Final = 60
"""Characters of a filter."""


class UnitTable(Pane):
    """A heading and one row for each unit; then one for each GPU process of no managed unit."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "previous unit", id="unit.up", show=False, group=MOVE),
        Binding("down", "move(1)", "next unit", id="unit.down", show=False, group=MOVE),
        Binding("pageup", "page(-1)", "page up", id="unit.page_up", show=False, group=MOVE),
        Binding("pagedown", "page(1)", "page down", id="unit.page_down", show=False, group=MOVE),
        Binding("home", "end(0)", "first unit", id="unit.first", show=False, group=MOVE),
        Binding("end", "end(-1)", "last unit", id="unit.last", show=False, group=MOVE),
        Binding("o", "sort", "sort", id="unit.sort", show=False, tooltip="sort by catalog, VRAM, name, state"),
        Binding("slash", "filter", "filter", id="unit.filter", tooltip="show those with these words only"),
    ]

    snapshot: var[Snapshot | None] = var(None)
    cursor: var[int] = var(0)
    order: var[Order] = var(Order.CATALOG)
    needle: var[str] = var("")
    """The filter; empty: all rows."""
    typing: var[bool] = var(False)
    """Whether keys go into the filter."""

    def __init__(self, colours: UnitColours, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._colours = colours
        self._made: tuple[Snapshot | None, Order, str, tuple[Item, ...]] = (None, Order.CATALOG, "", ())
        self._key = ""
        """Of the row under the cursor, which stays on it wherever it goes."""
        self._loading: dict[str, float] = {}
        """Since when a model of the unit has been seen loading, Unix time."""
        self._valid: object = None
        self._top = 0
        """What to add to a row on screen for its place among all."""

    @property
    def _items(self) -> tuple[Item, ...]:
        snapshot, order, needle, items = self._made
        if snapshot is not self.snapshot or (order, needle) != (self.order, self.needle):
            items = arranged(self.snapshot, self.order, self.needle)
            self._made = (self.snapshot, self.order, self.needle, items)
        return items

    @property
    def wanted_height(self) -> int:
        """Rows that show everything."""
        if self.snapshot is None:
            return 2
        return 1 + max(1, len(self._items)) + (self.snapshot.units_error is not None)

    @property
    def selected(self) -> ServiceView | None:
        """The unit under the cursor; None: there is none, or an orphan."""
        item = self._chosen
        return item if isinstance(item, ServiceView) else None

    @property
    def orphan(self) -> Holder | None:
        """The process of no managed unit under the cursor."""
        item = self._chosen
        return item if isinstance(item, Holder) else None

    @property
    def _chosen(self) -> Item | None:
        return self._items[min(self.cursor, len(self._items) - 1)] if self._items else None

    def move(self, by: int) -> None:
        """Move the cursor, round the ends."""
        if self._items:
            self.cursor = (min(self.cursor, len(self._items) - 1) + by) % len(self._items)

    def select(self, service_id: str) -> None:
        """Put the cursor there, if there is such a unit."""
        for place, item in enumerate(self._items):
            if isinstance(item, ServiceView) and item.id == service_id:
                self.cursor = place

    def show_order(self, order: str, needle: str) -> None:
        """Sorted and filtered so from the first; an order that does not exist changes nothing."""
        if order in ORDERS:
            self.set_reactive(UnitTable.order, Order(order))
        self.set_reactive(UnitTable.needle, needle[:_LONGEST])

    def each_selected(self) -> Iterator[ServiceView]:
        """Each unit in turn, selected while it is looked at, so that what is valid for it can be asked; nothing of
        that is painted."""
        before = self.cursor
        for place, item in enumerate(self._items):
            if isinstance(item, ServiceView):
                self.set_reactive(UnitTable.cursor, place)
                yield item
        self.set_reactive(UnitTable.cursor, before)

    def wheel(self, lines: int) -> None:
        """One row further."""
        self._go_to(self.cursor + (1 if lines > 0 else -1))

    def on_click(self, event: Click) -> None:
        """What stands in that row."""
        place = event.y + self._top
        if event.y > 0 and 0 <= place < len(self._items):
            self.cursor = place

    def _go_to(self, place: int) -> None:
        self.cursor = max(0, min(len(self._items) - 1, place))

    # -- keys --------------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        """Up or down."""
        self.move(by)

    def action_page(self, by: int) -> None:
        """As far as the screen shows, and no further than the ends."""
        self._go_to(self.cursor + by * max(1, self.size.height - 2))

    def action_end(self, place: int) -> None:
        """The first (0) or the last (-1) row."""
        self._go_to(place % max(1, len(self._items)))

    def action_sort(self) -> None:
        """By the next order."""
        self.order = ORDERS[(ORDERS.index(self.order) + 1) % len(ORDERS)]

    def action_filter(self) -> None:
        """From now on keys go into the filter, until enter or escape."""
        self.typing = True

    def on_key(self, event: Key) -> None:
        """While the filter is typed, every key belongs to it."""
        if not self.typing:
            return
        if event.key in ("enter", "tab", "up", "down"):
            self.typing = False
            if event.key != "enter":
                return
        elif event.key == "escape":
            self.needle, self.typing = "", False
        elif event.key == "backspace":
            self.needle = self.needle[:-1]
        elif event.character is not None and event.is_printable:
            self.needle = (self.needle + event.character)[:_LONGEST]
        else:
            return
        event.stop()
        event.prevent_default()

    def on_paste(self, event: Paste) -> None:
        """Into the filter."""
        if self.typing:
            self.needle = (self.needle + fmt.harmless(event.text.partition("\n")[0]))[:_LONGEST]
            event.stop()

    def on_blur(self) -> None:
        """Keys go elsewhere."""
        self.typing = False

    # -- data --------------------------------------------------------------------------------------------------

    def watch_snapshot(self, snapshot: Snapshot | None) -> None:
        """New figures."""
        if snapshot is not None:
            coming = [view.id for view in snapshot.services if loading(view) is not None]
            self._loading = {name: self._loading.get(name, snapshot.at) for name in coming}
        self._arrange()
        chosen = self._chosen
        valid = (key_of(chosen), _standing(chosen)) if chosen is not None else None
        if valid != self._valid:
            self._valid = valid
            self.refresh_bindings()

    def watch_cursor(self) -> None:
        """Another row is selected: other actions are valid."""
        chosen = self._chosen
        self._key = key_of(chosen) if chosen is not None else ""
        self.repaint()
        self.refresh_bindings()

    def watch_order(self) -> None:
        """The rows stand elsewhere."""
        self._arrange()

    def watch_needle(self) -> None:
        """Other rows are shown."""
        self._arrange()
        self.refresh_bindings()

    def watch_typing(self) -> None:
        """The title shows where keys go."""
        self.repaint()

    def _arrange(self) -> None:
        """Keep the cursor on its row."""
        place = next((place for place, item in enumerate(self._items) if key_of(item) == self._key), None)
        if place is not None:
            self.cursor = place
        elif self._items:
            # What was selected is gone: its neighbour is, and what is valid for that.
            self.cursor = min(self.cursor, len(self._items) - 1)
            self.watch_cursor()
        self.repaint()

    # -- painting ----------------------------------------------------------------------------------------------

    def rows(self, width: int, height: int) -> list[Strip]:
        """Heading, then the rows of the cursor's page."""
        snapshot = self.snapshot
        if snapshot is None:
            return [strip(rule([("Units", STRONG)], [], width), width), strip([("  reading units…", DIM)], width)]
        items, fault = self._items, snapshot.units_error
        room = max(1, height - 1 - (fault is not None))
        top = max(0, min(self.cursor - room + 1, len(items) - room))
        title = self._title(top, len(items) - room - top)
        longest = max([len(view.id) for view in snapshot.services] + [12, len(title) - 2 if width >= WIDE else 0])
        at = columns(width, longest)
        done = [strip(self._heading(width, at, title), width)]
        if fault is not None:
            done.append(strip([(f"  cannot be read: {fault}", BAD)], width))
        elif not snapshot.services and not items:
            return [*done, strip([("  no services defined yet: gpumod preset list", DIM)], width)]
        elif not items:
            return [*done, strip([(f"  no unit matches the filter{self._way_back}", DIM)], width)]
        self._top = top - len(done)
        for place, item in enumerate(items[top : top + room], top):
            chosen = place == self.cursor
            row = self._row(item, at, snapshot.at, chosen=chosen)
            done.append(strip(row, width, under=CURSOR if chosen else None))
        return done

    @property
    def _way_back(self) -> str:
        key = "esc" if self.typing else self.key("unit.clear_filter")
        return f"; {key} shows all" if key else ""

    def _title(self, above: int, below: int) -> str:
        """`Units`, how they are sorted and filtered, and how many of them are out of sight."""
        words = ["Units" if self.order is Order.CATALOG else f"Units by {self.order}"]
        if self.typing:
            words.append(f"/{self.needle}▏")
        elif self.needle:
            words.append(f"/{self.needle}")
        hidden = max(0, above) + max(0, below)
        if hidden:
            words.append(f"{hidden} more {'↑' if above > 0 else ''}{'↓' if below > 0 else ''}")
        return ", ".join(words)

    def _heading(self, width: int, at: Columns, title: str) -> Row:
        """The title may take the place of the names of the first columns."""
        text = heading(at, title if len(title) <= at.name + 2 else "")
        if len(title) > at.name + 2:
            # A name of which a part is covered goes whole.
            rest = text[len(title) + 2 :]
            covered = len(rest) - len(rest.lstrip(" ")) or len(rest.partition("  ")[0])
            text = f"─ {title}{' ' * covered}{rest[covered:]}"
        text = text.rstrip().ljust(min(width, len(text)))
        # Gaps become the line; a space between two words, and one beside each word, stays.
        ruled = _GAP.sub(lambda gap: f" {'─' * len(gap[1])} ", text)
        shown = title[: max(0, width - 4)]
        line = ruled[2 + len(shown) :] + "─" * (width - len(ruled))
        words = [(part, RULE if part.startswith("─") else DIM) for part in _LINE.split(line) if part]
        main, comma, rest = shown.partition(", ")
        return [("─ ", RULE), (main, STRONG), (comma + rest, WARN if self.typing or self.needle else DIM), *words]

    def _row(self, item: Item, at: Columns, now: float, *, chosen: bool) -> Row:
        mark = "▸" if chosen else " "
        if isinstance(item, Holder):
            return [(mark, ACCENT), ("! ", BAD), *orphan_cells(item, at)]
        colour = self._colours.style(item.id)
        down = item.state.is_down and item.state.active_state is not ActiveState.FAILED
        since = self._loading.get(item.id, item.state.since if is_coming(item) else None)
        cells = unit_cells(
            item,
            at,
            DIM if down else STRONG if chosen else TEXT,
            colour,
            now,
            max(0.0, now - (since if since is not None else now)),
        )
        return [(mark, ACCENT), ("■ ", colour), *cells]


def _standing(item: Item) -> object:
    """What the valid actions depend on."""
    if isinstance(item, Holder):
        return item.pid
    state = item.state
    models = tuple(model.status for model in item.models)
    return state.active_state, state.is_down, state.file_state, item.is_asleep, item.is_ready, models
