"""What the guard asks of the machine: admission, the ledger, the recorded mode. Synchronous: it runs in one thread."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpumod_tui.core.admission.commitments import UNIT_ITSELF, Commitment, LedgerState
from gpumod_tui.core.admission.decide import Granted, Refused
from gpumod_tui.core.admission.inventory import Look
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import BLANK, Service
from gpumod_tui.core.switch.records import Tally
from gpumod_tui.core.units.guard import GuardAction
from gpumod_tui.core.units.managed import service_id
from gpumod_tui.core.vram.sleep import has_given_back, held_now, most_asleep

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable


@dataclass(frozen=True, slots=True)
class Switching:
    """A switch is about to stop this server and has not promised this model."""

    target: str


@dataclass(frozen=True, slots=True)
class Stock:
    """The ledger, settled with what runs."""

    state: LedgerState
    look: Look
    news: tuple[str, ...]
    """Sentences on ledgers that were rebuilt here since the last time."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a unit was promised while it is awake, to be taken back once it sleeps."""

    known: frozenset[str]
    """Ids in the ledger."""
    leaves: Mapping[int, int]
    """The most that it may hold asleep, in bytes by GPU."""


class Gate:
    """One decision at a time: all calls come from the one thread that the guard has for them."""

    def __init__(self, host: Engine) -> None:
        self._host = host

    def catalog(self) -> ServiceRegistry:
        """The presets as they are on disk; while config.yaml cannot be used, as they were before. Reads files alone."""
        try:
            return self._host.reload()
        except GpumodError:
            return self._host.registry

    def allowed(self) -> frozenset[GuardAction]:
        """What clients may do beside using models; nothing while config.yaml cannot be used. Reads files alone."""
        try:
            self._host.reload()
        except GpumodError:
            return frozenset()
        return self._host.settings.guard_allow

    def decide(self, unit: str, model: str) -> Granted | Refused | Switching:
        """Whether a model may be loaded now, by the presets as they are on disk. A grant is in the ledger."""
        try:
            self._host.reload()
            run = self._host.store.read().running
            if run is not None and unit in run.stopping:
                state, _, _ = self._host.admission.take_stock()
                promised = any(
                    (entry.unit, entry.model, entry.switch) == (unit, model, run.id) for entry in state.commitments
                )
                if not promised:
                    return Switching(run.target)
        except GpumodError as error:
            return Refused(model, str(error))
        return self._host.admission.admit(unit, model)

    def would_fit(self, unit: str, model: str, without: Collection[str]) -> bool:
        """Whether a load would be admitted once these models of its router are unloaded; what is unknown is a no."""
        try:
            self._host.reload()
            run = self._host.store.read().running
            if run is not None and unit in run.stopping:
                return False
            return self._host.admission.would_admit(unit, model, without=without)
        except GpumodError:
            return False

    def decide_wake(self, unit: str) -> Granted | Refused | Switching:
        """Whether a unit that sleeps may take its memory again, by the presets as they are on disk."""
        try:
            self._host.reload()
            run = self._host.store.read().running
            if run is not None and unit in run.stopping:
                return Switching(run.target)
            state = self._host.units.states([unit])[unit]
        except GpumodError as error:
            return Refused(service_id(unit), str(error))
        return self._host.admission.admit(unit, UNIT_ITSELF, invocation=state.invocation_id)

    def try_turn(self, unit: str) -> Closeable | None:
        """As `AdmissionController.try_turn`. Raises: GpumodError."""
        return self._host.admission.try_turn(unit)

    def before_sleep(self, service: Service, *, asleep: bool) -> Promise:
        """Raises: GpumodError."""
        known = self._host.admission.promises_of(service.unit)
        return Promise(known, most_asleep(service, held_now(self._host, service.unit) or {}, asleep=asleep))

    def before_wake(self, service: Service) -> Mapping[int, int]:
        """What the unit holds while it sleeps, in bytes by GPU."""
        held = held_now(self._host, service.unit) or {}
        return {gpu: amount or 0 for gpu, amount in held.items()}

    def has_given_back(self, unit: str, promise: Promise) -> bool:
        """Whether it is measured to hold no more than it may asleep."""
        held = held_now(self._host, unit)
        return held is not None and has_given_back(held, promise.leaves)

    def shrink(self, unit: str, promise: Promise) -> bool:
        """It sleeps: promise it what it holds. False: it was admitted anew, or holds more. Raises: GpumodError."""
        return self._host.admission.shrink(unit, promise.known, promise.leaves)

    def stock(self) -> Stock:
        """Settle the ledger. Raises: GpumodError."""
        state, look, _ = self._host.admission.take_stock()
        return Stock(state, look, self._host.admission.take_news())

    def is_open(self, commitment: Commitment) -> bool:
        """Whether what was admitted has neither come to be nor ended with its router. Raises: GpumodError."""
        return self._host.admission.keep(commitment)

    def withdraw(self, commitment: Commitment) -> None:
        """Raises: GpumodError."""
        self._host.admission.withdraw(commitment)

    def tallies(self) -> Mapping[str, Tally]:
        """Switches by outcome; empty where the state folder cannot be read."""
        try:
            return self._host.store.read().tallies
        except GpumodError:
            return {}

    def mode(self) -> str | None:
        """The recorded mode; None: none is, or it cannot be read."""
        try:
            return self._host.store.read().recorded.mode
        except GpumodError:
            return None

    def mode_for(self, unit: str) -> str:
        """The mode to switch to so that this unit has its room: the smallest one with it."""
        modes = [mode for mode in self._host.registry.modes.values() if service_id(unit) in mode.services]
        return min(modes, key=lambda mode: (len(mode.services), mode.id)).id if modes else BLANK

    def measured(self) -> tuple[Look, Mapping[str, int]]:
        """The box for the metrics, and how many commitments are open. Raises: GpumodError."""
        state, look, _ = self._host.admission.take_stock()
        bound = sum(entry.is_bound for entry in state.commitments)
        return look, {"bound": bound, "open": len(state.commitments) - bound}
