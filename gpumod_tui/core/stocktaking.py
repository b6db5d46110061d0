"""The ledger held against the box: settled with what runs, rebuilt where it was lost, and what runs measured."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from gpumod_tui.core.box import service_id
from gpumod_tui.core.commitments import (
    NAMELESS,
    UNIT_ITSELF,
    Asker,
    Commitment,
    Found,
    LedgerState,
    LiveUnit,
    settle,
)
from gpumod_tui.core.look import Look, look_at
from gpumod_tui.core.memory_settings import VARIABLE

if TYPE_CHECKING:
    from gpumod_tui.core.claims import Claims
    from gpumod_tui.core.host import Host
    from gpumod_tui.core.ledger import HeldLedger


class Stocktaking:
    """Looks at the box under the ledger's lock."""

    def __init__(self, host: Host, claims: Claims) -> None:
        self._host = host
        self._claims = claims
        self._news: deque[str] = deque()

    def take_news(self) -> tuple[str, ...]:
        """As `Door.take_news`."""
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self._news.popleft())
        return tuple(found)

    def settled(self, ledger: HeldLedger) -> tuple[Look, LedgerState]:
        """The box, and the ledger as it holds now; not written yet, unless it was rebuilt. Raises: StateUnavailable,
        SystemdUnavailable."""
        look = look_at(self._host)
        clock = self._host.clock
        unknown: list[Commitment] = []

        def full_need(unit: str, model: str) -> Found | None:
            needs = self._claims.needs(unit, model, look.reading)
            if not isinstance(needs, str):
                return Found(needs)
            if look.reading is None or any(sample.error for sample in look.reading.gpus):
                # Written down as unknown, it would stay so when NVML can be read again.
                unknown.append(Commitment("", unit, model, {}, None, clock.time(), unknown=needs))
                return None
            return Found(_held(look.live.get(unit), model), needs)

        state = settle(ledger.state, look.live, self._is_alive, full_need, clock.time(), clock.monotonic())
        lost = "" if ledger.state.known else _loss(ledger.state, look)
        if not ledger.state.known:
            ledger.write(state)
        if lost:
            self._news.append(lost)
        return replace(look, unknown=tuple(unknown), lost=lost), state

    def note_peaks(self, look: Look) -> None:
        """What runs is measured whenever stock is taken: its highest is what the next admission reckons with."""
        book = self._host.needs
        for unit in look.live.values():
            service = self._host.registry.services.get(service_id(unit.unit))
            if service is None:
                continue
            settings = None if unit.pid is None else self._host.processes.variable(unit.pid, VARIABLE)
            book.note(book.unit_key(service, look.reading, settings), figures(unit.measured))
            for model in unit.models:
                if model.model == NAMELESS:
                    continue
                args = self._host.processes.arguments(model.process.pid)
                book.note(book.model_key(service, model.model, look.reading, args=args), figures(model.measured))

    def _is_alive(self, asker: Asker) -> bool:
        return self._host.processes.start_time(asker.pid) == asker.start


def _loss(before: LedgerState, look: Look) -> str:
    """What is to be said of a ledger that begins anew; empty: none was there, and nothing ran that it could have known,
    as after a boot."""
    if before.lost:
        return f"{before.lost}; rebuilt from what runs"
    up = ", ".join(sorted(service_id(unit.unit) for unit in look.live.values() if unit.admitted))
    return f"the ledger of commitments was missing while {up} ran; rebuilt from what runs" if up else ""


def _held(unit: LiveUnit | None, model: str) -> Mapping[int, int]:
    if unit is None:
        return {}
    measured = unit.measured
    if model != UNIT_ITSELF:
        measured = next((one.measured for one in unit.models if one.model == model), {})
    return figures(measured)


def figures(measured: Mapping[int, int | None]) -> dict[int, int]:
    """Without what NVML does not tell."""
    return {gpu: amount for gpu, amount in measured.items() if amount is not None}
