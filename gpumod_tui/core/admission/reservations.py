"""What a switch promises before anything stops: all of its target that is not there yet. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from gpumod_tui.core.admission.commitments import UNIT_ITSELF, Commitment, is_stranger, open_bytes
from gpumod_tui.core.admission.decide import Refused, admit
from gpumod_tui.core.admission.inventory import Look, reading_after

Wanted = tuple[str, str, Mapping[int, int]]
"""Unit, model, and the need of it in bytes by GPU."""


def still_to_promise(wanted: Iterable[Wanted], staying: Sequence[Commitment], look: Look) -> list[Wanted]:
    """What of it nobody was promised yet; `staying`: what lives on beside the switch."""
    # A model that a kept router is to load may be on its way already: it is the same allocation.
    there = {
        (entry.unit, entry.model)
        for entry in staying
        if (entry.process or (entry.model and entry.asker)) and not is_stranger(entry, look.live)
    }
    return [
        (unit, model, _besides(needs, unit, model, staying, look))
        for unit, model, needs in wanted
        if (unit, model) not in there
    ]


def fits_after(
    look: Look,
    fresh: Iterable[Commitment],
    staying: Sequence[Commitment],
    ending: Collection[str],
    left: Mapping[int, int],
    *,
    margin_bytes: int,
) -> Refused | None:
    """Why the fresh ones do not fit beside those that stay once the ending units are gone but for `left`; None: they
    do, or NVML does not tell what those hold."""
    needs: dict[int, int] = {}
    for entry in fresh:
        for gpu, amount in entry.needs.items():
            needs[gpu] = needs.get(gpu, 0) + amount
    reading = reading_after(look, ending, left)
    if reading is None and look.reading is not None:
        return None
    whole = Commitment("", "", UNIT_ITSELF, needs, None, 0.0)
    holders = [holder for holder in look.holders if holder.unit not in ending]
    verdict = admit(
        whole,
        "the switch",
        staying,
        look.live,
        reading,
        holders,
        margin_bytes=margin_bytes,
        gpu_error=look.gpu_error,
    )
    return verdict if isinstance(verdict, Refused) else None


def _besides(
    needs: Mapping[int, int], unit: str, model: str, staying: Sequence[Commitment], look: Look
) -> Mapping[int, int]:
    """What is still to be promised to a unit that runs (and is woken) beside what it was promised when it started."""
    mine = [one for one in staying if (one.unit, one.model) == (unit, model) and one.invocation]
    if model != UNIT_ITSELF or not mine:
        return needs
    return {gpu: max(0, amount - open_bytes(mine, look.live, gpu)) for gpu, amount in needs.items()}
