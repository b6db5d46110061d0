"""Switches that ended, as rows: the list, and all that is known of one."""

from collections.abc import Sequence

from rich.style import Style

from gpumod_tui.core.switch.records import StepRecord, SwitchRecord
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, chop, clip, pad, rpad, width_of, wrap
from gpumod_tui.ui.switch.progress import title
from gpumod_tui.ui.theme.styles import ACCENT, BAD, DIM, GOOD, RULE, STRONG, TEXT, WARN

_SIGNS = {"done": ("✔", GOOD), "cancelled": ("○", WARN), "refused": ("–", WARN)}
_WORTH_TELLING_S = 0.05
"""A step that took less did nothing."""
_LEAD = 13
_WITH_WORD = 50
"""Columns from which on the outcome is said in a word, too."""
_BAR = 24


def outcome(record: SwitchRecord) -> str:
    """How it ended, in a word."""
    return record.outcome or "interrupted"


def line(record: SwitchRecord, width: int) -> Row:
    """When, what, how it ended, how long, and the steps that took time as far as there is room."""
    sign, style = _SIGNS.get(outcome(record), ("✖", BAD))
    seconds = "–" if record.seconds is None else fmt.seconds(record.seconds)
    name = max(8, min(28, width - 56))
    if width < _WITH_WORD:
        # The sign says how it ended.
        name = max(4, width - 27)
        row: Row = [(f" {fmt.day_and_time(record.started_at)} ", DIM), (f"{sign} ", style)]
        what = title(record.target).removeprefix("Switch to ")
        return [*row, (pad(what, name), TEXT), (rpad(seconds, 11), TEXT)]
    row = [
        (f" {fmt.day_and_time(record.started_at)}  ", DIM),
        (f"{sign} ", style),
        (pad(title(record.target).removeprefix("Switch to "), name), TEXT),
        (f" {outcome(record):<11}", style),
        (rpad(seconds, 10), TEXT),
        ("  ", TEXT),
    ]
    return [*row, (clip(_steps(record), max(0, width - width_of(row))), DIM)]


def _steps(record: SwitchRecord) -> str:
    took = [told for told in record.steps if told.seconds is not None and _tells(told)]
    return " · ".join(f"{told.step} {told.seconds:.1f}{'' if told.ok else ' ✖'}" for told in took)


def _tells(told: StepRecord) -> bool:
    return not told.ok or (told.seconds or 0.0) >= _WORTH_TELLING_S


def page(record: SwitchRecord, width: int) -> list[Row]:
    """Everything about one."""
    sign, style = _SIGNS.get(outcome(record), ("✖", BAD))
    seconds = "" if record.seconds is None else f" after {fmt.seconds(record.seconds)}"
    rows: list[Row] = [
        [(f" {title(record.target)}: ", STRONG), (f"{sign} {outcome(record)}{seconds}", style)],
        [(f" began {fmt.day_and_time(record.started_at, with_seconds=True)}", TEXT)],
        [(f" by pid {record.pid}{f' ({fmt.harmless(record.command)})' if record.command else ''}", DIM)],
    ]
    for word, units in (("stops", record.stopping), ("starts", record.starting), ("loads into", record.loading)):
        if units:
            names = ", ".join(unit.removesuffix(".service") for unit in units)
            rows += _indented(f" {word:<{_LEAD - 2}} ", wrap(names, width - _LEAD - 1))
    rows.append([])
    longest = max((told.seconds or 0.0 for told in record.steps), default=0.0)
    for told in record.steps:
        rows += _step(told, longest, width)
    for error in record.errors:
        if all(error.message != told.detail for told in record.steps):
            rows += [[(f" {part}", BAD)] for part in wrap(fmt.in_gib(error.message), width - 2)]
        rows += [[(fmt.in_gib(f"   held by {holder}"), TEXT)] for holder in error.holders]
        for said in error.journal:
            lead = f"   | {fmt.clock(said.at, with_seconds=True)} "
            parts = chop(fmt.harmless(said.message), width - len(lead) - 1, 4)
            rows += _indented(lead, parts, BAD if said.priority <= 3 else DIM)
        rows += [[(f"   {part}", TEXT)] for part in wrap(fmt.in_gib(error.hint), width - 4)] if error.hint else []
    if not record.errors and record.note:
        rows += [[(f" {part}", BAD)] for part in wrap(fmt.in_gib(record.note), width - 2)]
    return [*rows, *([(f" ! {part}", WARN)] for text in record.warnings for part in wrap(fmt.in_gib(text), width - 4))]


def _indented(lead: str, parts: Sequence[str], style: Style = TEXT) -> list[Row]:
    leads = (lead, *(" " * len(lead) for _ in parts[1:]))
    return [[(before, DIM), (part, style)] for before, part in zip(leads, parts, strict=False)]


def _step(told: StepRecord, longest: float, width: int) -> list[Row]:
    sign, style = ("✔", GOOD) if told.ok else ("✖", BAD)
    if told.ok is None:
        sign, style = "?", WARN
    full, empty = fmt.bar((told.seconds or 0.0) / longest if longest else 0.0, _BAR)
    seconds = "no end is known" if told.seconds is None else fmt.seconds(told.seconds)
    bar: Row = [(full, ACCENT), (empty, RULE)] if width >= 60 else []
    head: Row = [(f" {sign} ", style), (f"{told.step:<10}", TEXT), *bar, (f" {seconds}", TEXT)]
    words = wrap(fmt.in_gib(fmt.harmless(told.detail)), width - _LEAD - 1) if told.detail else []
    return [head, *([(" " * _LEAD, TEXT), (part, DIM if told.ok else BAD)] for part in words)]
