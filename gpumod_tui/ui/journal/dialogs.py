"""Questions of the journal pane that take a screen of their own."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Size
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, rule, strip
from gpumod_tui.ui.theme.styles import ACCENT, CURSOR, STRONG, TEXT, UnitColours


class UnitList(Painted):
    """Names with a mark each."""

    cursor: var[int] = var(0)
    chosen: var[frozenset[str]] = var(frozenset())

    def __init__(self, names: tuple[str, ...], chosen: frozenset[str], colours: UnitColours) -> None:
        super().__init__()
        self.names = names
        self._colours = colours
        self._top = 0
        """The first name shown."""
        self.set_reactive(UnitList.chosen, chosen)

    def watch_cursor(self) -> None:
        """Another name."""
        self.repaint()

    def watch_chosen(self) -> None:
        """Other marks."""
        self.repaint()

    def move(self, by: int) -> None:
        """Round the ends."""
        if self.names:
            self.cursor = (self.cursor + by) % len(self.names)

    def mark(self) -> None:
        """Or take the mark away."""
        if self.names:
            self.chosen ^= {self.names[self.cursor]}

    def on_click(self, event: Click) -> None:
        """A click marks, or takes the mark away."""
        place = self._top + event.y - 1
        if event.y > 0 and place < len(self.names):
            self.cursor = place
            self.mark()

    def rows(self, width: int, height: int) -> list[Strip]:
        """A heading, and the names around the cursor."""
        room = max(1, height - 1)
        top = self._top = max(0, min(self.cursor - room // 2, len(self.names) - room))
        count = f"{len(self.chosen)} of {len(self.names)}" if self.chosen else "all"
        done = [strip(rule([("Journal of", STRONG)], [(count, ACCENT)], width), width)]
        for place, name in enumerate(self.names[top : top + room], top):
            sign, here = "[x]" if name in self.chosen else "[ ]", place == self.cursor
            row: Row = [
                (f" {'▸' if here else ' '} {sign} ", ACCENT if here else TEXT),
                (name, self._colours.style(name)),
            ]
            done.append(strip(row, width, under=CURSOR if here else None))
        return done


class UnitsScreen(Dialog[frozenset[str] | None]):
    """Ends with the services that were marked, all for none of them; None: as before."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "up", id="choose.up", show=False),
        Binding("down", "move(1)", "down", id="choose.down", show=False),
        Binding("space", "mark", "mark", id="choose.mark"),
        Binding("a", "all", "all or none", id="choose.all"),
        Binding("enter", "done", "show", id="choose.done"),
        Binding("escape,q,i", "leave", "leave", id="choose.leave"),
    ]
    KEYS = (
        ("choose.mark", "mark"),
        ("choose.all", "all or none"),
        ("choose.done", "show"),
        ("choose.leave", "leave"),
    )

    def __init__(self, names: tuple[str, ...], chosen: frozenset[str], colours: UnitColours) -> None:
        self.list = UnitList(names, chosen & frozenset(names), colours)
        super().__init__(self.list)

    def action_move(self, by: int) -> None:
        """Round the ends."""
        self.list.move(by)

    def wheel(self, lines: int) -> None:
        """One further."""
        self.list.move(1 if lines > 0 else -1)

    def action_mark(self) -> None:
        """Or take the mark away."""
        self.list.mark()

    def action_all(self) -> None:
        """All, or, when all are, none."""
        everything = frozenset(self.list.names)
        self.list.chosen = frozenset() if self.list.chosen == everything else everything

    def action_done(self) -> None:
        """All marked is no choice."""
        everything = self.list.chosen == frozenset(self.list.names)
        self.dismiss(frozenset() if everything else self.list.chosen)

    def action_leave(self) -> None:
        """As before."""
        self.dismiss(None)

    def wanted(self, screen: Size) -> Size:  # noqa: ARG002
        """All names."""
        return Size(max(52, *(len(name) + 9 for name in self.list.names), 0), len(self.list.names) + 1)


def replace_screen(path: str) -> QuestionScreen:
    """Asked before a file is written over."""
    return QuestionScreen("Save", f"{path} is there already.", "write over it", "leave it")
