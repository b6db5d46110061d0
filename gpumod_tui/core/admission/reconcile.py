"""The ledger held against the box: settled with what runs, rebuilt where it was lost, and what runs measured."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

import msgspec

from gpumod_tui.core.admission.commitments import (
    IN_FLIGHT_S,
    NAMELESS,
    ORPHAN_S,
    UNIT_ITSELF,
    Asker,
    Commitment,
    Found,
    LedgerState,
    LiveUnit,
    settle,
)
from gpumod_tui.core.admission.inventory import Look, look_at
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.host import Host
from gpumod_tui.core.models import ModelStatus
from gpumod_tui.core.servers.memory_settings import VARIABLE
from gpumod_tui.core.units.managed import service_id

if TYPE_CHECKING:
    from gpumod_tui.core.admission.ledger import HeldLedger
    from gpumod_tui.core.host import Host
    from gpumod_tui.core.vram.requirements import Claims, VramRequirements


class Stocktaking:
    """Looks at the box under the ledger's lock."""

    def __init__(self, host: Host, claims: Claims, book: VramRequirements) -> None:
        self._host = host
        self._book = book
        self._claims = claims
        self._news: deque[str] = deque()

    def take_news(self) -> tuple[str, ...]:
        """As `AdmissionController.take_news`."""
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
        for unit in look.live.values():
            service = self._host.registry.services.get(service_id(unit.unit))
            if service is None:
                continue
            settings = None if unit.pid is None else self._host.processes.variable(unit.pid, VARIABLE)
            self._book.note(self._book.unit_key(service, look.reading, settings), figures(unit.measured))
            for model in unit.models:
                if model.model == NAMELESS:
                    continue
                args = self._host.processes.arguments(model.process.pid)
                self._book.note(
                    self._book.model_key(service, model.model, look.reading, args=args), figures(model.measured)
                )

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


_NOT_THERE: Final = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)


class Outcome(Enum):
    """What asking has changed for who was refused."""

    NOTHING = auto()
    SOON = auto()
    """A router answers without a load, and has to do so once more."""
    ROOM = auto()
    """Something is dropped or certain that was not: decide again."""


class Told(msgspec.Struct, frozen=True):
    """Answers of routers."""

    absent: Mapping[str, bool]
    """By a commitment's id: whether the router answers without its model."""
    silent: tuple[str, ...]
    """Services that did not answer."""
    waiting: bool
    """Whether the next answer about some load would come too soon to mean anything."""
    is_certain: bool
    """Whether every router has answered long enough after the ledger was lost."""

    @property
    def is_news(self) -> bool:
        """Whether the ledger changes by it."""
        return bool(self.absent) or self.is_certain


def ask_routers(host: Host, state: LedgerState, live: Mapping[str, LiveUnit], since_boot: float) -> Told:
    """Ask those that matter. Not under the ledger's lock: each answer may take its time. Raises: GpumodError."""
    orphans = [entry for entry in state.commitments if entry.is_orphan]
    waiting = [entry for entry in orphans if _is_fresh(entry, since_boot)]
    doubted = state.doubted_at is not None and since_boot - state.doubted_at >= IN_FLIGHT_S
    routers = running_routers(host, live) if doubted else set()
    absent: dict[str, bool] = {}
    silent: list[str] = []
    for unit in sorted(routers | {entry.unit for entry in orphans if entry not in waiting}):
        there = _models_of(host, unit)
        if there is None:
            silent.append(service_id(unit))
        else:
            absent.update((entry.id, entry.model not in there) for entry in _of(unit, orphans) if entry not in waiting)
    certain = doubted and not any(service_id(unit) in silent for unit in routers)
    return Told(absent, tuple(silent), bool(waiting), certain)


def _is_fresh(entry: Commitment, since_boot: float) -> bool:
    return entry.absent_since is not None and since_boot - entry.absent_since < ORPHAN_S


def _of(unit: str, orphans: list[Commitment]) -> list[Commitment]:
    return [entry for entry in orphans if entry.unit == unit]


def running_routers(host: Host, live: Mapping[str, LiveUnit]) -> set[str]:
    """Units of routers; one in its ExecCondition has no process yet that anybody could have asked."""
    services = host.registry.services
    found = {unit: services.get(service_id(unit)) for unit, one in live.items() if one.admitted}
    return {unit for unit, service in found.items() if service is not None and service.is_router}


def _models_of(host: Host, unit: str) -> set[str] | None:
    """Models that are there or on their way; None: no answer."""
    service = host.registry.services.get(service_id(unit))
    if service is None:
        return None
    try:
        models = host.drivers(service).models(service)
    except ServerError:
        return None
    return {model.id for model in models if model.status not in _NOT_THERE}
