"""A switch while it runs, and its failure until it is answered."""

from dataclasses import replace

from textual import events
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.events import Step
from gpumod_tui.core.models import LogLine
from gpumod_tui.core.switch.records import Level
from gpumod_tui.core.switch.results import GpuArithmetic, ModeResult, Outcome, SwitchPlan
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, chop, fit, rule, spread, strip, width_of, wrap
from gpumod_tui.ui.keys.key_row import KeyLine, key_lines
from gpumod_tui.ui.switch.progress import Progress, StepLine, StepState
from gpumod_tui.ui.theme.styles import ACCENT, BAD, DIM, GOOD, KEY, RELEASING, STRONG, TEXT, WARN, UnitColours

_SIGNS = {
    StepState.WAITING: (" ", DIM),
    StepState.RUNNING: ("▸", ACCENT),
    StepState.DONE: ("✔", GOOD),
    StepState.FAILED: ("✖", BAD),
}
_DETAILS = {StepState.DONE: DIM, StepState.FAILED: BAD}
_BAR = 20
_WHOLE = 100
"""Columns from which on a bar is whole."""
_WITH_TIME = 70
"""Columns from which on a heading that names what comes next has room for the time."""
_INDENT = 13
_JOURNAL_LINES = 4
_LINES = 3
"""Units whose last words are shown."""
_LEVELS = 4
"""GPUs whose memory is shown while it falls."""
_RULE_END = 2
"""Cells of a heading behind its right end."""
_GOAL = "│"
_WITH_KEYS = 4
"""Rows from which on a failure has room for its keys, which the footer has, too."""
_FAILURE_KEYS = (
    ("mode.retry", "retry"),
    ("mode.blank", "blank"),
    ("unit.log", "logs"),
    ("mode.copy", "copy"),
    ("app.close", "close"),
)
_OUTCOMES = {Outcome.DONE: GOOD, Outcome.BUSY: WARN, Outcome.CANCELLED: WARN}


class StepList(Painted):
    """Hidden while there is nothing to tell."""

    progress: var[Progress | None] = var(None)
    now: var[float] = var(0.0)
    """Unix time, seconds; of the newest snapshot."""
    lines: var[tuple[LogLine, ...]] = var(())
    """The newest line of each unit that the switch touches, the newest last."""
    aside: var[bool] = var(False)
    """`esc` is not meant for it now."""

    def __init__(self, colours: UnitColours, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._colours = colours
        self._key_lines: list[KeyLine] = []
        """Rows with keys in them, as they were made last."""
        self._clicks: dict[int, KeyLine] = {}
        """Those that are on screen, and where."""

    def on_mount(self) -> None:
        """Its keys are others when others act."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _screen: self.repaint())

    def on_click(self, event: events.Click) -> None:
        """As if the key that stands there were pressed."""
        line = self._clicks.get(event.y)
        press = line.press_at(event.x) if line is not None else ""
        if press:
            self.app.simulate_key(press)

    def watch_progress(self) -> None:
        """Something happened."""
        self.repaint()

    def watch_now(self) -> None:
        """Time goes by."""
        self.repaint()

    def watch_lines(self) -> None:
        """A unit said something."""
        self.repaint()

    def watch_aside(self) -> None:
        """Another key leads out of it, or none does."""
        self.repaint()

    def wanted_height(self, width: int) -> int:
        """Rows that show everything; 0 when there is nothing to tell."""
        return len(self._all(width)) if self.progress is not None else 0

    def rows(self, width: int, height: int) -> list[Strip]:
        """Heading, steps, and what there is to say of them; where there is no room, what matters most of it."""
        rows = self._all(width)
        if len(rows) > height:
            brief = height < _WITH_KEYS and self._reason
            rows = self._brief(rows[0], width, height) if brief else _most_telling(rows, height)
        lines = self._key_lines
        self._clicks = {y: line for y, row in enumerate(rows) for line in lines if line.row is row}
        return [strip(row, width) for row in rows]

    @property
    def _reason(self) -> str:
        """Why it failed; empty: it did not, or nobody knows."""
        progress = self.progress
        if progress is None or progress.result is None or not progress.failed:
            return ""
        told = [error.message for error in progress.result.errors]
        told += [line.detail for line in progress.steps if line.state is StepState.FAILED]
        return next(filter(None, told), "")

    def _brief(self, heading: Row, width: int, height: int) -> list[Row]:
        """What failed and why, over the whole width: there is no room for more."""
        told = chop(fmt.harmless(fmt.in_gib(self._reason)), width - 4, max(1, height - 1))
        signs = (_SIGNS[StepState.FAILED][0], *(" " for _ in told))
        return [heading, *([(f" {sign} {part}", BAD)] for sign, part in zip(signs, told, strict=False))]

    def _all(self, width: int) -> list[Row]:
        self._key_lines.clear()
        progress = self.progress
        if progress is None:
            return []
        if progress.result is not None:
            return [self._heading(progress, width), *self._ended(progress, progress.result, width)]
        rows = [self._heading(progress, width), *self._origin(progress)]
        for line in progress.steps:
            running = line.state is StepState.RUNNING
            rows += _running(line, self.now, width) if running else [_step(line, progress.plan, width)]
        # Room from the beginning: the screen is not arranged anew for every unit that begins to talk.
        said = [self._said(line) for line in self.lines[-_LINES:]]
        room = max(1, min(_LINES, len(progress.services)))
        return [*rows, *said, *([] for _ in range(room - len(said)))]

    def _heading(self, progress: Progress, width: int) -> Row:
        title: Row = [(progress.title, STRONG)]
        if progress.result is None:
            if progress.then:
                name = progress.title if width >= _WITH_TIME else progress.title.removeprefix("Switch to ")
                title = [(name, STRONG), (f", then {progress.then}", WARN)]
            keys, presses = self._way_out(progress, width)
            elapsed = fmt.seconds(max(0.0, self.now - progress.at))
            right: Row = [(f"{elapsed}  " if keys else elapsed, TEXT), *keys]
            row = rule(title, right if width >= _WITH_TIME or not progress.then else keys, width)
            self._key_lines.append(KeyLine(row, presses))
            return row
        outcome = progress.result.outcome
        title += [(f": {progress.end_words}", _OUTCOMES.get(outcome, BAD))]
        return rule(title, [(fmt.seconds(sum(progress.result.timings.values())), DIM)], width)

    def _way_out(self, progress: Progress, width: int) -> KeyLine:
        """How to be rid of what waits, or of the switch, at the right end of the heading."""
        if progress.cancelling and not progress.then:
            return KeyLine([("cancelling…", WARN)], {})
        hints = self.named(("mode.drop", "drops it"), ("mode.cancel", "cancels"))[:1]
        cells: Row = [part for hint in hints for part in ((hint.key, KEY), (f" {hint.words}", DIM))]
        end = width - _RULE_END
        return KeyLine(cells, {range(end - width_of(cells), end): hint.press for hint in hints})

    def _origin(self, progress: Progress) -> list[Row]:
        record = progress.elsewhere
        if record is None:
            return []
        command = f" ({fmt.harmless(record.command)})" if record.command else ""
        return [_more([(f"by pid {record.pid}{command}", WARN)])]

    def _said(self, line: LogLine) -> Row:
        service_id = line.unit.removesuffix(".service")
        said = fmt.harmless(line.message)
        return [(" " * _INDENT, TEXT), (f"[{service_id}] ", self._colours.style(service_id)), (said, DIM)]

    def _ended(self, progress: Progress, result: ModeResult, width: int) -> list[Row]:
        room = width - _INDENT - 1
        if result.outcome is Outcome.DONE:
            rows = [_step(line, progress.plan, width) for line in progress.steps if line.state is not StepState.WAITING]
            rows = [*self._origin(progress), *rows]
            return rows + [
                _more([(part, WARN)]) for warning in result.warnings for part in wrap(fmt.in_gib(warning), room)
            ]
        rows = [*self._origin(progress), *_passed(progress, width)]
        told = {line.detail for line in progress.steps}
        for error in result.errors:
            if error.message not in told:
                rows += [_more([(part, BAD)]) for part in wrap(fmt.in_gib(error.message), room)]
            for holder in error.holders:
                rows += [_more([(part, TEXT)]) for part in wrap(fmt.in_gib(f"held by {holder}"), room)]
            for line in error.journal[-_JOURNAL_LINES:]:
                style = BAD if line.priority <= 3 else DIM
                rows += [_more([(part, style)]) for part in chop(fmt.harmless(line.message), room, 3)]
            rows += [_more([(part, TEXT)]) for part in wrap(fmt.in_gib(error.hint), room)] if error.hint else []
        rows += [_more([(part, WARN)]) for warning in result.warnings for part in wrap(fmt.in_gib(warning), room)]
        lead = _INDENT if width >= _WITH_TIME else 3
        self._key_lines = key_lines(self.named(*_FAILURE_KEYS), width, lead=lead, style=DIM)[:1]
        return [*rows, *(line.row for line in self._key_lines)]


def _most_telling(rows: list[Row], height: int) -> list[Row]:
    ranks = sorted(range(len(rows)), key=lambda place: (_rank(rows, place), place))
    return [rows[place] for place in sorted(ranks[:height])]


def _rank(rows: list[Row], place: int) -> int:
    """The heading and the step that runs or failed, why, the keys after a failure, what else is said of that step, the
    rest."""
    row = rows[place]
    if not place or (row and row[0][0].strip() in (_SIGNS[StepState.RUNNING][0], _SIGNS[StepState.FAILED][0])):
        return 0
    if row and row[-1][1] == BAD:
        return 1
    if row and place == len(rows) - 1:
        return 2
    return 3 if row and not row[0][0].strip() else 4


def _passed(progress: Progress, width: int) -> list[Row]:
    """What went well in one row, so that there is room for what did not."""
    good = [line for line in progress.steps if line.state is StepState.DONE and line.step is not Step.ROLLBACK]
    rows: list[Row] = []
    if good:
        names = ", ".join(line.step for line in good)
        took = sum(line.seconds or 0.0 for line in good)
        rows.append(spread([(" ✔ ", GOOD), (names, DIM)], [(f"  {fmt.seconds(took)} ", TEXT)], width))
    for line in progress.steps:
        if line.state is StepState.FAILED or (line.step is Step.ROLLBACK and line.state is not StepState.WAITING):
            first, *more = wrap(fmt.in_gib(line.detail), width - _INDENT - 10)
            rows += [_step(replace(line, detail=first), None, width), *(_more([(part, BAD)]) for part in more)]
    return rows


def _step(line: StepLine, plan: SwitchPlan | None, width: int) -> Row:
    sign, style = _SIGNS[line.state]
    waiting = line.state is StepState.WAITING
    row: Row = [(f" {sign} ", style), (f"{line.step:<10}", DIM if waiting else TEXT)]
    detail = line.detail
    if line.step is Step.PREFLIGHT and line.state is StepState.DONE and plan is not None:
        detail = "; ".join(_fits(sums) for sums in plan.arithmetic if sums.need_bytes) or "nothing to fit"
    row += [(fmt.in_gib(fmt.harmless(detail)), _DETAILS.get(line.state, TEXT))]
    right: Row = [(f"  {fmt.seconds(line.seconds)} ", TEXT)] if line.seconds is not None else []
    if line.fraction is not None and line.state is StepState.RUNNING:
        full, empty = fmt.bar(line.fraction, _BAR if width >= _WHOLE else _BAR // 2)
        bar: Row = [("  ", TEXT), (full, ACCENT), (empty, DIM), (f" {line.fraction * 100:>3.0f} %", TEXT)]
        # Half a bar would read as another figure: the words give way.
        row = [*fit(row, max(0, width - width_of(bar) - width_of(right)), padded=False), *bar]
    return spread(row, right, width)


def _running(line: StepLine, now: float, width: int) -> list[Row]:
    """With how long it lasts so far, and the memory that must fall as bars."""
    seconds = None if line.at is None else max(0.0, now - line.at)
    levels = line.levels[:_LEVELS]
    if not levels:
        return [_step(replace(line, seconds=seconds), None, width)]
    first = replace(line, seconds=seconds, fraction=None, detail=_falls(levels))
    more = len(line.levels) - len(levels)
    rest = [_more([(f"and {more} more GPUs", DIM)])] if more else []
    return [_step(first, None, width), *(_level(level, width) for level in levels), *rest]


def _falls(levels: tuple[Level, ...]) -> str:
    missing = [level for level in levels if level.free_bytes < level.goal_bytes]
    return "memory is on its way back" if missing else "enough is free"


def _level(level: Level, width: int) -> Row:
    """What is taken, and a mark down to which it must fall."""
    met = level.free_bytes >= level.goal_bytes
    words = f" {fmt.gib(level.free_bytes)} free of {fmt.gib(level.goal_bytes)} GiB needed "
    name = f"GPU {level.gpu} "
    cells = max(4, min(48, width - _INDENT - len(words) - len(name) - 3))
    taken = max(0, level.total_bytes - level.free_bytes)
    full, _ = fmt.bar(taken / level.total_bytes, cells)
    mark = min(cells - 1, max(0, round((level.total_bytes - level.goal_bytes) / level.total_bytes * cells)))
    bar = f"{full:<{cells}}"
    row: Row = [
        (name, DIM),
        (bar[:mark], GOOD if met else RELEASING),
        (_GOAL, KEY),
        (bar[mark:].replace(" ", fmt.EMPTY), WARN),
        (words, TEXT),
        ("✔" if met else "", GOOD),
    ]
    return _more(row)


def as_text(progress: Progress) -> str:
    """All that is known of a switch that has ended, for the clipboard."""
    result = progress.result
    lines = [f"{progress.title}: {progress.end_words}" if result is not None else progress.title]
    for step in progress.steps:
        if step.state is not StepState.WAITING:
            took = f" {fmt.seconds(step.seconds)}" if step.seconds is not None else ""
            lines.append(f"{step.step} {step.state}{took}{': ' if step.detail else ''}{step.detail}")
    for error in result.errors if result is not None else ():
        lines += [error.message, *(f"held by {holder}" for holder in error.holders)]
        lines += [f"| {fmt.clock(line.at, with_seconds=True)} {line.unit}: {line.message}" for line in error.journal]
        lines += [error.hint] if error.hint else []
    lines += [f"warning: {warning}" for warning in (result.warnings if result is not None else ())]
    return "\n".join(fmt.harmless(line) for line in lines)


def _fits(sums: GpuArithmetic) -> str:
    need = f"needs {fmt.gib(sums.need_bytes + sums.kept_growth_bytes)} + {fmt.gib(sums.margin_bytes)} GiB"
    return f"GPU {sums.gpu} {need} of {fmt.gib(sums.available_bytes)} after the stop"


def _more(row: Row) -> Row:
    return [(" " * _INDENT, TEXT), *row]
