"""The answer to a "what if": verdict, one sum for each GPU, and what would fit beside."""

from typing import Final

from rich.style import Style
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.core.switch.simulate import GpuSum, Share, Simulation, Verdict
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.row_widget import Painted
from gpumod_tui.ui.common.rows import Row, joined, pad, rule, spread, strip, width_of, wrap
from gpumod_tui.ui.gpus.rows import COMING, FREE, MARGIN, label
from gpumod_tui.ui.theme.styles import BAD, DIM, FOREIGN, GOOD, OTHER, RULE, STRONG, TEXT, WARN, UnitColours

_VERDICTS: Final = {
    Verdict.FITS: ("✔ fits", GOOD),
    Verdict.SHORT: ("✖ does not fit", BAD),
    Verdict.UNKNOWN: ("? unknown, which never fits", WARN),
    Verdict.BLOCKED: ("! room enough, but blocked", WARN),
}
_INDENT: Final = 9
_FULL: Final = 3
"""Details: 1 a row for each GPU, 2 bars and reasons, 3 the arithmetic and everybody in it."""


class SumView(Painted):
    """As much of the answer as there is room for: the verdict and the spare of each GPU before all else."""

    simulation: var[Simulation | None] = var(None)
    fault: var[str] = var("")
    """Why there is no answer."""

    def __init__(self, colours: UnitColours, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._colours = colours

    def watch_simulation(self) -> None:
        """Another answer."""
        self.repaint()

    def watch_fault(self) -> None:
        """It cannot be answered, or can again."""
        self.repaint()

    def wanted_height(self, width: int) -> int:
        """Rows that show everything."""
        return len(self._all(width, _FULL))

    def rows(self, width: int, height: int) -> list[Strip]:
        """The most detail that fits; the least, cut, where none does."""
        for detail in range(_FULL, 0, -1):
            rows = self._all(width, detail)
            if len(rows) <= height:
                break
        if len(rows) > height > 1:
            rows = [*rows[: height - 1], [(f" … {len(rows) - height + 1} more rows", DIM)]]
        return [strip(row, width) for row in rows]

    def _all(self, width: int, detail: int) -> list[Row]:
        found = self.simulation
        if self.fault:
            lines: list[Row] = [[(f" {line}", BAD)] for line in wrap(self.fault, width - 2)]
            return [rule([("✖ cannot be told", BAD)], [], width), *lines]
        if found is None:
            return [rule([("looking at the box…", DIM)], [], width)]
        rows = [rule([_VERDICTS[found.verdict]], [], width)]
        for row in found.gpus:
            rows += self._gpu(row, width, detail)
        rows += self._beside(found, width)
        if detail > 1:
            rows += self._reasons(found, width)
            rows += self._fates(found, width)
        return rows

    def _gpu(self, row: GpuSum, width: int, detail: int) -> list[Row]:
        name = f" {label(row.sample):<6}"
        about = f"  {fmt.gpu_name(row.sample)}, {fmt.gib(row.arithmetic.total_bytes)} GiB" if width >= 60 else ""
        rows: list[Row] = [spread([(name, STRONG), (about, DIM)], [spare_words(row), (" ", TEXT)], width)]
        if detail > 1:
            rows.append([(" " * _INDENT, TEXT), *self._bar(row, width - _INDENT - 1)])
        if detail == _FULL:
            rows += [[(" " * _INDENT, TEXT), (line, TEXT)] for line in wrap(_reckoning(row), width - _INDENT - 1)]
            rows += self._shares("comes", row.starts, width)
            rows += self._shares("stays", row.stays, width)
        return rows

    def _bar(self, row: GpuSum, cells: int) -> Row:
        """What stays, what comes, the margin, what is left."""
        sums = row.arithmetic
        available, total = sums.available_bytes, sums.total_bytes
        if available is None or not total:
            return [("memory is unknown", WARN)]
        cells = min(60, cells)
        taken = max(0, min(cells, round((total - available) / total * cells)))
        margin = min(cells - taken, max(1, round(sums.margin_bytes / total * cells))) if sums.need_bytes else 0
        room = cells - taken - margin
        parts: Row = [("█" * taken, OTHER)]
        growth = Share("", sums.kept_growth_bytes)
        for share in (*row.starts, growth) if sums.need_bytes else ():
            size = min(room, round((share.amount_bytes or 0) / total * cells))
            room -= size
            parts.append((COMING * size, BAD if sums.short_bytes else self._style(share)))
        return [*parts, (MARGIN * margin, BAD if sums.short_bytes else DIM), (FREE * room, RULE)]

    def _shares(self, word: str, shares: tuple[Share, ...], width: int) -> list[Row]:
        rows: list[Row] = []
        for share in shares:
            lead: Row = [(f"   {word if not rows else '':<{_INDENT - 3}}", DIM), ("■ ", self._style(share))]
            amount = f"{fmt.gib(share.amount_bytes):>5} GiB  "
            room = width - _INDENT - len(amount) - 3
            first, *rest = wrap(fmt.in_gib(f"{share.who}: {share.note}" if share.note else share.who), max(10, room))
            rows.append([*lead, (amount, TEXT), (first, TEXT)])
            rows += [[(" " * (_INDENT + 2 + len(amount)), TEXT), (line, TEXT)] for line in rest]
        return rows

    def _style(self, share: Share) -> Style:
        return self._colours.style(share.service) if share.service else FOREIGN

    def _beside(self, found: Simulation, width: int) -> list[Row]:
        if not found.beside or not found.services:
            return []
        fits = ", ".join(one.mode for one in found.beside if one.fits)
        others = ", ".join(one.mode for one in found.beside if not one.fits)
        parts: list[Row] = [[("beside it fits: ", DIM), (fits or "no other mode", GOOD if fits else DIM)]]
        if others:
            parts.append([("not: ", DIM), (others, TEXT)])
        row: Row = [(" ", TEXT), *joined(parts)]
        if width_of(row) <= width:
            return [row]
        return [[(" ", TEXT), *part] for part in parts]

    def _fates(self, found: Simulation, width: int) -> list[Row]:
        plan = found.plan
        fates = (
            ("stops", plan.stop),
            ("sleeps", (*plan.sleep, *plan.asleep)),
            ("goes on", plan.keep),
            ("wakes", plan.wake),
            ("starts", plan.starting),
        )
        words = " · ".join(f"{word} {', '.join(names)}" for word, names in fates if names)
        return [[(f" {pad(line, width - 1)}", DIM)] for line in wrap(words, width - 2)] if words else []

    def _reasons(self, found: Simulation, width: int) -> list[Row]:
        rows: list[Row] = []
        for blocker in found.plan.blockers:
            text = f"{blocker} ({blocker.hint})" if blocker.hint else str(blocker)
            mark = "✖ "
            for line in wrap(fmt.in_gib(text), width - 4):
                rows.append([(f" {mark}", BAD), (line, BAD)])
                mark = "  "
        for name, gpu in found.elsewhere:
            row = f"it would fit with {name} on GPU {gpu} (gpus: [{gpu}] in its preset)"
            rows += [[(f" {line}", TEXT)] for line in wrap(row, width - 2)]
        for warning in found.plan.warnings:
            rows += [[(" ! ", WARN), (line, WARN)] for line in wrap(fmt.in_gib(warning), width - 4)]
        return rows


def spare_words(row: GpuSum) -> tuple[str, Style]:
    """`✔ 3.0 GiB left`, in the words of a GPU's last column."""
    left = row.left_bytes
    if left is None:
        return ("? unknown" if row.arithmetic.need_bytes else "free: N/A", WARN)
    if not row.arithmetic.need_bytes:
        return f"{fmt.gib(left)} GiB free", DIM
    if left < 0:
        return f"✖ short by {fmt.gib(-left)} GiB", BAD
    return f"✔ {fmt.gib(left)} GiB left", GOOD


def _reckoning(row: GpuSum) -> str:
    sums = row.arithmetic
    if row.sample.error:
        return row.sample.error
    if sums.stopping_bytes is None:
        have = f"at most {fmt.gib(sums.bound_bytes)} after the stop (memory by process: N/A)"
    else:
        have = f"free {fmt.gib(sums.free_bytes)}"
        if sums.stopping_bytes:
            have += f" + given back {fmt.gib(sums.stopping_bytes)} = {fmt.gib(sums.available_bytes)}"
    if not sums.need_bytes:
        return f"{have} GiB"
    growth = f" + may still grow {fmt.gib(sums.kept_growth_bytes)}" if sums.kept_growth_bytes else ""
    need = f"needs {fmt.gib(sums.need_bytes)}{growth} + margin {fmt.gib(sums.margin_bytes)}"
    return f"{have} · {need} = {fmt.gib(sums.required_bytes)} GiB"
