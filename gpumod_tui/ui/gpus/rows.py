"""Rows of one GPU: heading, values at the cursor, bar; pure."""

from collections.abc import Callable, Sequence
from typing import Final

from rich.style import Style

from gpumod_tui.core.models import GpuSample
from gpumod_tui.core.status.history import Column
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.rows import Row, fit, joined, spread, width_of
from gpumod_tui.ui.gpus.alarms import Alarm
from gpumod_tui.ui.gpus.graph import HATCHED, Part, parts_of
from gpumod_tui.ui.theme.styles import ALARM, BAD, DIM, STRONG, TEXT, WARN

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_BAR_LEAST: Final = 8
FREE: Final = fmt.EMPTY
RESERVED: Final = "╱"
"""Memory that the NVIDIA driver keeps for itself."""
MARGIN: Final = "╲"
"""Memory that is left free on purpose."""
COMING: Final = "▓"
"""Memory of what a plan starts."""
Weighed = tuple[int, Row]
"""How important a part is, 0 most, and the part."""


def fitting(parts: Sequence[Weighed], width: int, between: str = " · ") -> Row:
    """The parts in their order, without the least important ones that do not fit."""
    kept = [(weight, row) for weight, row in parts if row]
    while len(kept) > 1 and _width(kept, between) > width:
        kept.remove(max(kept, key=lambda part: part[0]))
    return joined((row for _, row in kept), between)


def _width(parts: Sequence[Weighed], between: str = " · ") -> int:
    return width_of(joined((row for _, row in parts), between))


def label(sample: GpuSample) -> str:
    """`GPU 0`: by the number that presets name it with, also a MIG instance."""
    return f"GPU {sample.index}"


def taken_bytes(sample: GpuSample) -> int | None:
    """What is used, or where the GPU does not tell that, all that is not free; None: neither is known."""
    if sample.used_bytes is not None or sample.total_bytes is None or sample.free_bytes is None:
        return sample.used_bytes
    return sample.total_bytes - sample.free_bytes


def taken_words(sample: GpuSample) -> str:
    """`20.3 / 24.0 GiB used`; `taken` where the GPU tells only what is free."""
    taken = taken_bytes(sample)
    word = "taken" if sample.used_bytes is None and taken is not None else "used"
    return f"{fmt.gib(taken)} / {fmt.gib(sample.total_bytes)} GiB {word}"


def headings(sample: GpuSample, calm: GpuSample, width: int, below: int) -> list[Row]:
    """All figures of one GPU: one row `width` cells wide, or, if `below` is not 0, a second one of so many cells with
    what changes all the time. `calm` is the reading that load, heat and power are taken from."""
    if sample.error is not None:
        return [fitting([(0, _names(sample)), (1, [("cannot be used", BAD)])], width)]
    unknown: Weighed = (9, [("Xid unknown", DIM)] if sample.xids is None else [])
    if below:
        name, taken, *left = _amounts(sample)
        if _width([name, taken]) > width:
            name = _amounts(sample, short=True)[0]
        return [fitting([name, taken], width), [("  ", TEXT), *fitting([*left, *moving(calm), unknown], below - 2)]]
    for amounts, moves in ((False, False), (False, True), (True, True)):
        parts = [*_amounts(sample, short=amounts), *moving(calm, short=moves), unknown]
        if _width(parts) <= width:
            break
    return [fitting(parts, width)]


def _names(sample: GpuSample, *, short: bool = False) -> Row:
    name: Row = [(label(sample), STRONG)]
    if sample.mig is not None:
        name.append((f" MIG {sample.mig[1]} of GPU {sample.mig[0]}", DIM))
    return name if sample.name is None or short else [*name, (f" {fmt.gpu_name(sample)}", DIM)]


def _amounts(sample: GpuSample, *, short: bool = False) -> list[Weighed]:
    reserved: Row = [(f"{fmt.gib(sample.reserved_bytes)} reserved", DIM)]
    return [
        (0, _names(sample, short=short)),
        (1, [(taken_words(sample), TEXT)]),
        (5, [(f"{fmt.gib(sample.free_bytes)} free", TEXT)]),
        (5, [("memory shared with the host", WARN)]) if sample.unified else (7, reserved),
    ]


def moving(sample: GpuSample, *, short: bool = False) -> list[Weighed]:
    """What changes all the time."""
    load, heat = fmt.UNKNOWN, f"heat {fmt.UNKNOWN}"
    if sample.utilization_percent is not None:
        load = f"{sample.utilization_percent:>2} %"
    if sample.temperature_c is not None:
        heat = f"{sample.temperature_c} °C"
    named = not short or sample.utilization_percent is None
    reasons = throttle(sample)
    return [
        (2, [(f"load {load}" if named else load, TEXT)]),
        (3, [(heat, TEXT)]),
        (4, [(fmt.watts(sample) or f"power {fmt.UNKNOWN}", TEXT)]),
        (4 if sample.throttle_reasons else 8, reasons),
    ]


def throttle(sample: GpuSample) -> Row:
    """Why the clocks are held down, in words."""
    if sample.throttle_reasons is None:
        return [(f"throttle {fmt.UNKNOWN}", DIM)]
    return [(", ".join(sample.throttle_reasons), WARN)] if sample.throttle_reasons else []


def moment(sample: GpuSample, at: float) -> Row:
    """Which GPU, and when."""
    return [(label(sample), STRONG), (f" {fmt.clock(at, with_seconds=True)}", WARN)]


def values(
    column: Column | None, width: int, colour: Callable[[str], Style], *, first: Row, marks: Sequence[Row] = ()
) -> Row:
    """What a column of the past tells, between `first` and `marks`: each holder's GiB, used and free, load, heat and
    power."""
    happened: list[Weighed] = [(20 + place, mark) for place, mark in enumerate(marks)]
    if column is None:
        return fitting([(0, first), (1, [("nothing is known of this moment", DIM)]), *happened], width)
    moved: list[Weighed] = [
        (30, [] if column.load_percent is None else [(f"{column.load_percent} %", TEXT)]),
        (31, [] if column.temperature_c is None else [(f"{column.temperature_c} °C", TEXT)]),
        (32, [] if column.power_w is None else [(f"{column.power_w:.0f} W", TEXT)]),
    ]
    if column.used_bytes is None:
        return fitting([(0, first), (1, [("memory N/A", DIM)]), *moved, *happened], width)
    parts: list[Weighed] = [(0, first)]
    for place, part in enumerate(sorted(parts_of(column, colour), key=lambda part: -part.amount_bytes)):
        if part.name:
            parts.append((3 + place, [(part.name, part.style), (f" {fmt.gib(part.amount_bytes)}", TEXT)]))
    if column.unsized:
        parts.append((3, [(f"by unit {fmt.UNKNOWN}", DIM)]))
    parts.append((1, [(f"used {fmt.gib(column.used_bytes)}", TEXT)]))
    parts.append((2, [(f"free {fmt.gib(column.free_bytes)} GiB", TEXT)]))
    return fitting([*parts, *moved, *happened], width)


def alarm_row(alarms: Sequence[Alarm], width: int, key: str) -> Row:
    """Loud: the newest alarm in words, and how many more; `key` acknowledges, empty: none does."""
    more = f"  and {len(alarms) - 1} more" if len(alarms) > 1 else ""
    text = f" ✖ ALARM {alarms[0].words}"
    end = f"{more}  {key} acknowledges " if key else f"{more} "
    if len(text) + len(end) > width:
        end = f"{more.removesuffix(' more').replace('and ', '+')} "
    words = fit([(text, ALARM)], max(0, width - len(end)), padded=False)
    return [*words, (" " * max(0, width - len(end) - width_of(words)), ALARM), (end, ALARM)]


def bar(
    sample: GpuSample,
    calm: GpuSample,
    column: Column | None,
    alarms: Sequence[Alarm],
    width: int,
    colour: Callable[[str], Style],
) -> Row:
    """One GPU in one row: a bar and the figures that there is room for."""
    if width < 16:
        return _tiny(sample, alarms, width)
    name: Row = [(f" {label(sample) if width >= 30 else label(sample).removeprefix('GPU ')} ", STRONG)]
    if alarms:
        figure = _figures(sample, calm, short=True)[0][1] if sample.error is None and sample.total_bytes else []
        words = fit([(f" ✖ {alarms[0].words} ", ALARM)], width - width_of(name) - width_of(figure) - 2, padded=False)
        return spread([*name, *words], [(" ", TEXT), *figure, (" ", TEXT)], width)
    if sample.error is not None or not sample.total_bytes:
        return fit([*name, (sample.error or "memory: N/A", BAD)], width)
    room = width - width_of(name) - 2 - max(_BAR_LEAST if width >= 24 else 4, width * 2 // 9)
    long = _figures(sample, calm)
    figures = fitting(
        long if width >= 30 and _width(long[:1], "  ") <= room else _figures(sample, calm, short=True), room, "  "
    )
    room = max(0, width - width_of(name) - width_of(figures) - 2)
    return [*name, *_stacked(sample, column, room, colour), (" ", TEXT), *figures, (" ", TEXT)]


def _figures(sample: GpuSample, calm: GpuSample, *, short: bool = False) -> list[Weighed]:
    load = f"{fmt.UNKNOWN if calm.utilization_percent is None else calm.utilization_percent:>3} %"
    heat = f"{fmt.UNKNOWN if calm.temperature_c is None else calm.temperature_c:>3} °C"
    taken, total = fmt.gib(taken_bytes(sample)), fmt.gib(sample.total_bytes)
    return [
        (0, [(f"{taken}/{total}" if short else f"{taken:>5} / {total} GiB", TEXT)]),
        (1, [("shared with the host", WARN)] if sample.unified else []),
        (5, [(f"{fmt.gib(sample.free_bytes):>4} free", TEXT)]),
        (2, [(load, DIM)]),
        (3, [(heat, DIM)]),
        (4, [(", ".join(calm.throttle_reasons), WARN)] if calm.throttle_reasons else []),
        (6, [(fmt.watts(calm) or f"power {fmt.UNKNOWN}", DIM)]),
        (9, [("Xid unknown", DIM)] if sample.xids is None else []),
    ]


def _tiny(sample: GpuSample, alarms: Sequence[Alarm], width: int) -> Row:
    number = str(sample.index)
    if alarms or sample.error is not None:
        return [(f"{number:>2}", STRONG), ("✖", ALARM if alarms else BAD), (" ", TEXT)]
    if not sample.total_bytes or sample.free_bytes is None:
        return [(f"{number:>2}", STRONG), ("?", DIM), (" ", TEXT)]
    share = 1 - sample.free_bytes / sample.total_bytes
    block = BLOCKS[min(8, max(0, round(share * 8)))]
    percent = f" {round(share * 100)}%" if width >= 9 else ""
    return [(f"{number:>2}", STRONG), (block if block != " " else "_", TEXT), (percent, DIM), (" ", TEXT)]


def _stacked(sample: GpuSample, column: Column | None, width: int, colour: Callable[[str], Style]) -> Row:
    """The column laid on its side; a holder's name stands in its part where it fits."""
    if column is None or column.used_bytes is None or not sample.total_bytes:
        return [("?" * width, DIM)]
    row: Row = []
    summed, done = 0, 0
    for part in parts_of(column, colour):
        summed += part.amount_bytes
        edge = min(width, round(summed / sample.total_bytes * width))
        row += _named(part, edge - done)
        done = edge
    kept = min(width - done, round((sample.reserved_bytes or 0) / sample.total_bytes * width))
    return [*row, (FREE * (width - done - kept), DIM), (RESERVED * kept, DIM)]


def _named(part: Part, width: int) -> Row:
    fill = HATCHED.get(part.name, "█")
    if not part.name or width < len(part.name) + 4:
        return [(fill * width, part.style)] if width else []
    name = f" {part.name} "
    return [
        (fill, part.style),
        (name, part.style + Style(reverse=True)),
        (fill * (width - len(name) - 1), part.style),
    ]
