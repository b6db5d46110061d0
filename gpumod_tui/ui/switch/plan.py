"""A plan in words and figures: what stops, stays and starts, whether it fits, and what stands against it."""

from typing import Final

from textual.message import Message
from textual.reactive import var
from textual.strip import Strip
from textual.timer import Timer

from gpumod_tui.core.switch.results import SwitchPlan
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, clip_middle, flowed, rule, strip, wrap
from gpumod_tui.ui.switch.fit_rows import sums_rows
from gpumod_tui.ui.theme.styles import BAD, DIM, KEY, STRONG, TEXT, WARN, UnitColours

_INDENT = 10


class PlanView(Painted):
    """What is known of a plan: the newest one, why there is none, or that it is made later."""

    def __init__(self, title: str, colours: UnitColours) -> None:
        super().__init__(id="plan")
        self._title = title
        self._colours = colours
        self._plan: SwitchPlan | None = None
        self._reason = ""
        self._later: tuple[str, ...] = ()
        self._fitting: tuple[str, ...] | None = None
        self._top = 0
        """The first row of the body that is shown."""

    @property
    def allowed(self) -> bool:
        """Nothing that is known stands against it."""
        return bool(self._later) or (self._plan is not None and not self._plan.blockers)

    @property
    def is_later(self) -> bool:
        """It is planned when something else has ended."""
        return bool(self._later)

    def show_plan(self, plan: SwitchPlan | None, reason: str, fitting: tuple[str, ...] | None = None) -> None:
        """A plan; None: it cannot be made, and `reason` says why. `fitting`: modes that would fit instead."""
        self._plan, self._reason, self._later, self._fitting = plan, reason, (), fitting
        self.repaint()

    def show_later(self, *sentences: str) -> None:
        """It is planned when it begins; why."""
        self._plan, self._reason, self._later = None, "", sentences
        self.repaint()

    def wanted_height(self, width: int) -> int:
        """Rows that show everything."""
        return len(self._all(width))

    def rows(self, width: int, height: int) -> list[Strip]:
        """All of it; where there is no room, the heading and a part."""
        rows = self._all(width)
        if len(rows) > height:
            _, _, *body, _ = rows
            room = max(1, height - 1)
            self._top = max(0, min(self._top, len(body) - room))
            below = len(body) - self._top - room
            more = f"{self._top} ↑ {below} ↓" if self._top else f"{below} ↓"
            rows = [self._heading(width, more), *body[self._top : self._top + room]]
        return [strip(row, width) for row in rows]

    def scroll(self, by: int) -> None:
        """Show another part, where there is no room for all."""
        self._top = max(0, self._top + by)
        self.repaint()

    def _heading(self, width: int, more: str = "") -> Row:
        return rule([(self._title, STRONG)], [(more, DIM)] if more else [], width)

    def _all(self, width: int) -> list[Row]:
        rows: list[Row] = [self._heading(width), []]
        if self._later:
            rows += [[("  ", TEXT), (line, WARN)] for sentence in self._later for line in wrap(sentence, width - 4)]
        elif self._plan is None:
            rows += [[("  ", TEXT), (line, BAD)] for line in wrap(fmt.in_gib(self._reason), width - 4)]
        else:
            rows += self._body(self._plan, width)
        return [*rows, []]

    def _body(self, plan: SwitchPlan, width: int) -> list[Row]:
        rows: list[Row] = []
        for blocker in plan.blockers:
            mark = "✖ "
            for line in wrap(fmt.in_gib(blocker.reason), width - 6):
                rows.append([(f"  {mark}", BAD), (line, BAD)])
                mark = "  "
            held = [f"held by {holder}" for holder in blocker.holders if str(holder) not in blocker.reason]
            rows += [[("    ", TEXT), (line, TEXT)] for words in held for line in wrap(fmt.in_gib(words), width - 6)]
            rows += [[("    ", TEXT), (line, TEXT)] for line in wrap(fmt.in_gib(blocker.hint), width - 6) if line]
        rows += [[("    ", TEXT), (line, TEXT)] for line in wrap(self._instead(plan), width - 6) if line]
        if rows:
            rows.append([])
        rows += self._services("stops", plan.stop, plan, width)
        rows += self._services("sleeps", plan.sleep, plan, width) if plan.sleep else []
        rows += self._services("stays", plan.keep, plan, width)
        rows += self._services("wakes", plan.wake, plan, width) if plan.wake else []
        rows += self._services("starts", plan.starting, plan, width)
        rows += self._loads(plan, width)
        rows += [[], *sums_rows(plan.arithmetic, width)]
        for warning in plan.warnings:
            rows += [[("  ! ", WARN), (line, WARN)] for line in wrap(fmt.in_gib(warning), width - 6)]
        return rows

    def _instead(self, plan: SwitchPlan) -> str:
        """What would fit where this does not; empty: it does, or nobody knows."""
        if self._fitting is None or not any(sums.short_bytes for sums in plan.arithmetic):
            return ""
        others = [mode for mode in self._fitting if mode != plan.target]
        return f"modes that fit now: {', '.join(others)}" if others else "no other mode fits now; blank always does"

    def _services(self, word: str, names: tuple[str, ...], plan: SwitchPlan, width: int) -> list[Row]:
        parts: list[Row] = []
        for name in names:
            loads = sum(size for service, _, size in plan.loads if service == name)
            need = sum(plan.needs.get(name, {}).values()) - loads
            again = " again" if name in plan.restart else ""
            size = f" {fmt.gib(need)} GiB" if need else ""
            parts.append([("■ ", self._colours.style(name)), (name, TEXT), (f"{again}{size}", DIM)])
        return flowed(parts or [[(fmt.NOTHING, DIM)]], [(f"  {word:<{_INDENT - 2}}", DIM)], width - 2, "   ")

    def _loads(self, plan: SwitchPlan, width: int) -> list[Row]:
        if not plan.loads:
            return []
        parts: list[Row] = []
        for service, model, need in plan.loads:
            size = f" {fmt.gib(need)} GiB" if need else ""
            name = clip_middle(model, max(8, width - _INDENT - len(size) - 4))
            parts.append([("■ ", self._colours.style(service)), (name, TEXT), (f"{size}, by {service}", DIM)])
        return flowed(parts, [(f"  {'loads':<{_INDENT - 2}}", DIM)], width - 2, "   ")


SOON_S: Final = 0.3
"""A plan that takes no longer is shown without a word before it."""
_WITH_WORDS: Final = 60
"""Columns from which on there is room for all words."""


class PlanningLine(Painted):
    """One row, hidden while there is nothing to tell."""

    class Changed(Message):
        """It has something to tell, or not any more: rows are to be shared out anew."""

    title: var[str] = var("")
    """Of what is being planned; empty: nothing."""
    aside: var[bool] = var(False)
    """`esc` is not meant for it now."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._timer: Timer | None = None
        self._told = False

    @property
    def wanted_height(self) -> int:
        """Rows."""
        return int(self._told)

    def watch_title(self) -> None:
        """Wait before it is told; whatever was told stays until something else is."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self.title and not self._told:
            self._timer = self.set_timer(SOON_S, lambda: self._tell(told=True))
        elif not self.title and self._told:
            self._tell(told=False)
        self.repaint()

    def watch_aside(self) -> None:
        """Another key leads out of it, or none does."""
        self.repaint()

    def _tell(self, *, told: bool) -> None:
        self._told = told
        self.post_message(self.Changed())

    def rows(self, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """What is planned, and the way out."""
        title, words = self.title, ": looking at the box…"
        if width < _WITH_WORDS:
            title, words = title.removeprefix("Switch to "), ": looking…"
        left: Row = [(title, STRONG), (words, TEXT)]
        right: Row = [] if self.aside else [("esc", KEY), (" drops it", DIM)]
        return [strip(rule(left, right, width), width)]
