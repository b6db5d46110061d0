"""Does it fit, GPU by GPU: figures in GiB, and the card before and after as bars."""

from gpumod_tui.core.switch.results import GpuArithmetic
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, flowed, width_of, wrap
from gpumod_tui.ui.gpus.graph import HATCHED, RELEASING_NAME
from gpumod_tui.ui.gpus.rows import COMING, FREE, MARGIN
from gpumod_tui.ui.theme.styles import ACCENT, BAD, DIM, GOOD, OTHER, RELEASING, RULE, TEXT, WARN

_LEAD = 10
_MOST_CELLS = 60
_MANY = 2
"""With more GPUs than this each has only the bar of what is to be."""


def sums_rows(arithmetic: tuple[GpuArithmetic, ...], width: int) -> list[Row]:
    """Rows of `width` cells at most; GPUs that nothing comes to in one row each."""
    rows: list[Row] = []
    for sums in arithmetic:
        name: Row = [(f"  GPU {sums.gpu:<{_LEAD - 6}}", DIM)]
        if not sums.need_bytes:
            rows.append([*name, ("nothing to fit", DIM)])
        else:
            rows += _one(sums, name, width - _LEAD - 2, short_form=len(arithmetic) > _MANY)
    return rows


def _one(sums: GpuArithmetic, name: Row, room: int, *, short_form: bool) -> list[Row]:
    blank: Row = [(" " * _LEAD, TEXT)]
    available, short = sums.available_bytes, sums.short_bytes
    after = "after the stop" if sums.stopping_bytes is not None else "at most, after the stop"
    if short is None:
        verdict: Row = [("unknown: refused", BAD)]
    elif short:
        verdict = [(f"{fmt.gib_up(short)} GiB short", BAD)]
    else:
        verdict = [(f"left {fmt.gib((available or 0) - sums.required_bytes)} GiB: fits", GOOD)]
    parts: list[Row] = [
        [("free ", DIM), (fmt.gib(sums.free_bytes), TEXT)],
        [(f"{after} ", DIM), (fmt.gib(available), TEXT)],
        [("needed ", DIM), (fmt.gib(sums.required_bytes), TEXT)],
        verdict,
    ]
    rows = flowed(parts, name, room + _LEAD)
    needed = f"needed: {fmt.gib(sums.need_bytes)} for what starts + {fmt.gib(sums.margin_bytes)} margin"
    if sums.kept_growth_bytes:
        needed += f" + {fmt.gib(sums.kept_growth_bytes)} that what stays may grow"
    if not short_form:
        rows += [[*blank, (line, DIM)] for line in wrap(needed, room)]
        rows.append([*blank, *_now(sums, room)])
    rows.append([*blank, *_then(sums, room)])
    return [row for row in rows if width_of(row) > _LEAD]


def _now(sums: GpuArithmetic, room: int) -> Row:
    """What is taken now, and what of it the stop gives back."""
    total, free, available = sums.total_bytes, sums.free_bytes, sums.available_bytes
    if not total or free is None or available is None:
        return []
    cells = min(_MOST_CELLS, room - 6)
    stays = _cells(total - max(available, free), total, cells)
    goes = _cells(total - free, total, cells) - stays
    return [
        ("now   ", DIM),
        ("█" * stays, OTHER),
        (HATCHED[RELEASING_NAME] * goes, RELEASING),
        (FREE * (cells - stays - goes), RULE),
    ]


def _then(sums: GpuArithmetic, room: int) -> Row:
    """What stays taken, what comes, the margin, what is left."""
    total, available = sums.total_bytes, sums.available_bytes
    if not total or available is None:
        return []
    cells = min(_MOST_CELLS, room - 6)
    stays = _cells(total - available, total, cells)
    comes = min(cells - stays, _cells(sums.need_bytes + sums.kept_growth_bytes, total, cells))
    margin = min(cells - stays - comes, max(1, _cells(sums.margin_bytes, total, cells)))
    return [
        ("then  ", DIM),
        ("█" * stays, OTHER),
        (COMING * comes, BAD if sums.short_bytes else ACCENT),
        (MARGIN * margin, BAD if sums.short_bytes else WARN),
        (FREE * (cells - stays - comes - margin), RULE),
    ]


def _cells(amount: int, total: int, cells: int) -> int:
    return max(0, min(cells, round(amount / total * cells)))
