"""The one decision whether an allocation may begin. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gpumod_tui.core.admission.commitments import (
    NAMELESS,
    Commitment,
    LiveUnit,
    Open,
    name_open,
    open_bytes,
    open_promises,
)
from gpumod_tui.core.models import GpuReading, Holder, whereabouts
from gpumod_tui.core.text import format_mib


class Granted(msgspec.Struct, frozen=True):
    """It may begin."""

    commitment: Commitment


@dataclass(frozen=True, slots=True)
class Refused:
    """It must not begin. Figures are of the GPU that is shortest, in bytes; None: unknown."""

    what: str
    reason: str
    gpu: int | None = None
    need_bytes: int | None = None
    margin_bytes: int | None = None
    promised_bytes: int | None = None
    """What others were promised and have not taken yet."""
    free_bytes: int | None = None
    short_bytes: int | None = None
    holders: tuple[Holder, ...] = ()
    promised: tuple[Open, ...] = ()
    """Whose `promised_bytes` are, the largest first."""
    may_pass: bool = False
    """What is short is on its way back: a unit is stopping, or nobody that NVML shows holds it."""
    usable_bytes: int | None = None
    """Of the GPU when nobody holds anything."""

    @property
    def is_hopeless(self) -> bool:
        """Whether it would not fit with the whole GPU to itself."""
        if self.need_bytes is None or self.margin_bytes is None or self.usable_bytes is None:
            return False
        return self.need_bytes + self.margin_bytes > self.usable_bytes

    def __str__(self) -> str:
        if self.short_bytes is None:
            return f"{self.what} is not admitted: {self.reason}"
        others = f" promised to others{name_open(self.promised)}"
        promised = f" + {format_mib(self.promised_bytes)}{others}" if self.promised_bytes else ""
        held = f"; held by {', '.join(map(str, self.holders))}" if self.holders else ""
        return (
            f"insufficient VRAM: {self.what} needs {format_mib(self.need_bytes)} + {format_mib(self.margin_bytes)}"
            f" margin{promised} on GPU {self.gpu}, {format_mib(self.free_bytes)} free, short by"
            f" {format_mib(self.short_bytes)}{held}"
        )


def admit(
    commitment: Commitment,
    what: str,
    others: Sequence[Commitment],
    live: Mapping[str, LiveUnit],
    reading: GpuReading | None,
    holders: Sequence[Holder],
    *,
    margin_bytes: int,
    gpu_error: str | None = None,
) -> Granted | Refused:
    """All GPUs or none: on each, free ≥ need + what others were promised and have not taken + margin.

    Nothing counts as free that NVML does not report free. Unknown is refused.
    """
    if not any(commitment.needs.values()):
        return Granted(commitment)
    if reading is None:
        return Refused(what, f"free memory is unknown: {gpu_error or 'NVML cannot be read'}")
    stranger = next((entry for entry in others if entry.unknown), None)
    if stranger is not None:
        whose = stranger.model or stranger.unit
        return Refused(what, f"{whose} runs, and what it may still take is unknown ({stranger.unknown}): stop it first")
    samples = {sample.index: sample for sample in reading.gpus}
    worst: Refused | None = None
    for gpu in sorted(commitment.needs):
        # What it holds already (a model that sleeps, say) is not free any more and needs no second place.
        need = open_bytes((commitment,), live, gpu)
        sample = samples.get(gpu)
        if need and (sample is None or sample.error is not None or sample.free_bytes is None):
            why = "it is not there" if sample is None else sample.error or "NVML does not report it"
            return Refused(what, f"free memory of GPU {gpu} is unknown: {why}", gpu)
        if not need or sample is None or sample.free_bytes is None:
            continue
        to_others = open_promises(others, live, gpu)
        promised = sum(one.bytes for one in to_others)
        short = need + promised + margin_bytes - sample.free_bytes
        if short <= 0 or (worst is not None and worst.short_bytes is not None and short <= worst.short_bytes):
            continue
        here = tuple(holder for holder in holders if holder.gpu == gpu)
        worst = Refused(
            what,
            "it does not fit",
            gpu,
            need,
            margin_bytes,
            promised,
            sample.free_bytes,
            short,
            here,
            to_others,
            may_pass=_coming_back(sample.total_bytes, sample.reserved_bytes, sample.free_bytes, here, live, gpu)
            >= short,
            usable_bytes=None if sample.total_bytes is None else sample.total_bytes - (sample.reserved_bytes or 0),
        )
    return worst or Granted(commitment)


def _coming_back(
    total: int | None,
    reserved: int | None,
    free: int,
    holders: Sequence[Holder],
    live: Mapping[str, LiveUnit],
    gpu: int,
) -> int:
    """Bytes held by nobody who lives, by units that are stopping, or by models that end."""
    stopping = [unit for unit in live.values() if unit.stopping]
    ending = sum((unit.measured.get(gpu) or 0) + (unit.left.get(gpu) or 0) for unit in stopping)
    models = ((unit, model) for unit in live.values() for model in unit.models)
    ending += sum(m.measured.get(gpu) or 0 for unit, m in models if unit.stopping or m.model == NAMELESS)
    alive = [holder.used_bytes for holder in holders if not holder.is_gone]
    if total is None or None in alive:
        return ending
    return ending + max(0, total - (reserved or 0) - free - sum(filter(None, alive)))


def relief(holders: Iterable[Holder], short_bytes: int) -> str:
    """A sentence on the fewest processes that hold what is short: what to stop, or that stopping does not help."""
    known = sorted(
        ((holder.used_bytes, holder) for holder in holders if holder.used_bytes and not holder.is_gone),
        key=lambda pair: (pair[0], pair[1].pid),
    )
    chosen = [next((holder for used, holder in known if used >= short_bytes), None)]
    if chosen == [None]:
        chosen, left = [], short_bytes
        for used, holder in reversed(known):
            if left > 0:
                chosen.append(holder)
                left -= used
        if left > 0:
            return "no process that is known holds enough: choose a smaller model or context"
    named = " and ".join(_named(holder) for holder in chosen if holder is not None)
    return f"it would fit without {named}; or choose a smaller model or context"


def _named(holder: Holder) -> str:
    size = format_mib(holder.used_bytes)
    if holder.unit is None:
        return f"{holder.command} pid {holder.pid} ({size}, {whereabouts(holder.elsewhere, holder.user)})"
    return f"{holder.unit.removesuffix('.service')} (pid {holder.pid}, {size})"
