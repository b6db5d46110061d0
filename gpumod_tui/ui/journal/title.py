"""The title row of the journal."""

from dataclasses import dataclass, replace
from typing import Final

from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, clip, joined, rule, width_of
from gpumod_tui.ui.theme.styles import ACCENT, BAD, DIM, STRONG, WARN, UnitColours

_LEVELS: Final = {6: "info and worse", 5: "notice and worse", 4: "warning and worse", 3: "err and worse"}
_PATTERN: Final = 24


@dataclass(frozen=True, slots=True)
class TitleFacts:
    """What is shown, and how."""

    units: tuple[str, ...] = ()
    """Service ids; empty: all."""
    priority: int = 7
    fault: str = ""
    following: bool = True
    new: int = 0
    """Lines below what is shown."""
    shown_from: float | None = None
    """Time of the first line on screen; None: it is not told."""
    now: float = 0.0
    filter: str = ""
    lines: int = 0
    """That the filter lets through."""
    search: str = ""
    matches: int = 0
    match: int = 0
    """Which of them was gone to, from 1; 0: none."""
    all_loaded: bool = False
    """There is nothing in the journal that was not searched."""
    is_deciding: bool = False
    dropped: int = 0


def title(facts: TitleFacts, colours: UnitColours, width: int) -> Row:
    """As much as there is room for: what was lost and where one is first, then what was asked for; that it follows, as
    it mostly does, gives way to whose lines they are."""
    journal: Row = [("Journal", STRONG)]
    units = _units(facts, colours, width)
    if facts.fault:
        return rule(joined([journal, units, [(facts.fault, BAD)]], " ─ "), [], width)
    parts = {
        "units": units,
        "level": _level(facts),
        "state": _state(facts),
        "filter": _filter(facts, width),
        "search": _search(facts, width),
        "dropped": _dropped(facts),
    }
    for name in _giving_way(facts):
        left = joined([journal, parts["units"], parts["level"], parts["state"]], " ─ ")
        right = joined([parts["filter"], parts["search"], parts["dropped"]])
        if width_of(left) + width_of(right) + 8 <= width:
            break
        parts[name] = []
        if name == "day":
            parts["state"] = _state(replace(facts, shown_from=None))
    left = joined([journal, parts["units"], parts["level"], parts["state"]], " ─ ")
    return rule(left, joined([parts["filter"], parts["search"], parts["dropped"]]), width)


def _giving_way(facts: TitleFacts) -> tuple[str, ...]:
    usual = ("level",) if facts.priority == 7 else ()
    return (*usual, "day", "search", "level", "filter", *(("state",) if facts.following else ()), "units")


def _level(facts: TitleFacts) -> Row:
    return [(_LEVELS[facts.priority], ACCENT)] if facts.priority in _LEVELS else [("all levels", DIM)]


def _units(facts: TitleFacts, colours: UnitColours, width: int) -> Row:
    if not facts.units:
        return []
    if len(facts.units) == 1 or sum(map(len, facts.units)) < width // 3:
        named: list[Row] = [[(unit, colours.style(unit))] for unit in facts.units]
        return joined(named, ", ")
    return [(f"{len(facts.units)} units", ACCENT)]


def _state(facts: TitleFacts) -> Row:
    if facts.following:
        return [("following", DIM)]
    words = "standing still"
    if facts.shown_from is not None and fmt.day(facts.shown_from) != fmt.day(facts.now):
        words += f" at {fmt.day(facts.shown_from)} {fmt.clock(facts.shown_from)}"
    return [(words, WARN), (f", {facts.new} new" if facts.new else "", WARN)]


def _filter(facts: TitleFacts, width: int) -> Row:
    if not facts.filter:
        return []
    count = "…" if facts.is_deciding else f" {facts.lines} line{'' if facts.lines == 1 else 's'}"
    return [(f"/{clip(facts.filter, min(_PATTERN, width // 4))}/", ACCENT), (count, DIM)]


def _search(facts: TitleFacts, width: int) -> Row:
    if not facts.search:
        return []
    which = f"{facts.match}/{facts.matches}" if facts.match else str(facts.matches)
    count = "…" if facts.is_deciding else f" {which} match{'' if facts.matches == 1 else 'es'}"
    loaded = "" if facts.all_loaded or width < 100 else ", older not loaded"
    return [(f"“{clip(facts.search, min(_PATTERN, width // 4))}”", ACCENT), (count + loaded, DIM)]


def _dropped(facts: TitleFacts) -> Row:
    return [(f"{facts.dropped} dropped", WARN)] if facts.dropped else []
