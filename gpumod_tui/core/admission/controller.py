"""Admission control, shared by all processes: everything that makes VRAM use grow asks here."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.admission.commitments import (
    UNIT_ITSELF,
    Asker,
    Commitment,
    LedgerState,
    Refusal,
    is_stranger,
    open_bytes,
    without_orphans,
)
from gpumod_tui.core.admission.decide import Granted, Refused, admit
from gpumod_tui.core.admission.inventory import Look, without_models
from gpumod_tui.core.admission.ledger import LOCK_S, Ledger
from gpumod_tui.core.admission.reconcile import Outcome, Stocktaking, ask_routers, figures, running_routers
from gpumod_tui.core.admission.reservations import Wanted, fits_after, still_to_promise
from gpumod_tui.core.errors import GpumodError, StateUnavailable, SystemdUnavailable
from gpumod_tui.core.host import Host
from gpumod_tui.core.units.managed import service_id
from gpumod_tui.core.vram.requirements import Claims, VramRequirements
from gpumod_tui.core.vram.sleep import has_given_back

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable

RETRY_S: Final = 0.1


class AdmissionController:
    """Asks the ledger, NVML, systemd and /proc, and decides by `admission`. Thread-safe: the lock is the ledger's."""

    def __init__(self, host: Host, book: VramRequirements, ledger: Ledger, asker: Asker) -> None:
        """`asker`: this process."""
        self._host = host
        self._ledger = ledger
        self._asker = asker
        self._claims = Claims(host, book)
        self._stock = Stocktaking(host, self._claims, book)

    def take_news(self) -> tuple[str, ...]:
        """Sentences on ledgers that were rebuilt here, for whoever this process tells of them; each once."""
        return self._stock.take_news()

    def admit(
        self, unit: str, model: str = UNIT_ITSELF, *, invocation: str = "", switch: str = ""
    ) -> Granted | Refused:
        """Decide once. A grant is in the ledger when this returns; a promise of the same (unit, model) by the running
        switch, or an own one, is adopted. Any fault is a refusal: what cannot be known is not granted."""
        what = model or service_id(unit)
        try:
            verdict, after, look = self._admit(unit, model, invocation, switch, what)
            if isinstance(verdict, Refused):
                asked, silent = self._ask_after(after, look)
                if asked is Outcome.ROOM:
                    verdict, _, _ = self._admit(unit, model, invocation, switch, what)
                elif asked is Outcome.SOON:
                    verdict = replace(verdict, may_pass=True)
                elif silent and self._is_doubtful(look, after):
                    verdict = _silence(what, silent)
            return verdict
        except StateUnavailable as error:
            return Refused(what, _with_hint(f"what was promised to others is unknown: {error}", error))
        except GpumodError as error:
            return Refused(what, _with_hint(str(error), error))

    def admit_patiently(
        self,
        unit: str,
        model: str = UNIT_ITSELF,
        *,
        wait_s: float,
        stop: threading.Event,
        beat: Callable[[], None] = lambda: None,
        invocation: str = "",
        switch: str = "",
    ) -> Granted | Refused:
        """Decide, and where what is short is on its way back decide again, for `wait_s` at most."""
        end = self._host.clock.monotonic() + wait_s
        while True:
            beat()
            verdict = self.admit(unit, model, invocation=invocation, switch=switch)
            if isinstance(verdict, Granted) or not verdict.may_pass:
                return verdict
            if self._host.clock.monotonic() >= end or stop.is_set():
                return verdict
            self._host.clock.wait(stop, RETRY_S)

    def would_admit(self, unit: str, model: str, *, without: Collection[str]) -> bool:
        """Whether a model would be admitted now if these models of its own router were gone; nothing is promised.

        Raises: StateUnavailable, SystemdUnavailable.
        """
        with self._ledger.locked(LOCK_S) as ledger:
            look, state = self._stock.settled(ledger)
        look, state = without_models(look, state, unit, without)
        verdict, _ = self._decide(look, state, unit, model, "", "", model)
        return isinstance(verdict, Granted)

    def promise(
        self,
        switch: str,
        wanted: Sequence[Wanted],
        ending: Collection[str],
        left: Mapping[int, int] = MappingProxyType({}),
    ) -> Refused | None:
        """Commit a switch's whole target before anything stops, so that nobody else is admitted into it.

        `wanted`: (unit, model, needs), of one that is woken what it does not hold yet; `ending`: the units that the
        switch is about to stop or to put to sleep, whose memory and promises go; `left`: bytes by GPU that those which
        sleep go on holding. Refused where the rest leaves too little; where NVML does not tell what the ending units
        hold, the release wait decides. Raises: StateUnavailable, SystemdUnavailable.
        """
        verdict, state, look = self._promise(switch, wanted, ending, left)
        if verdict is not None:
            asked, silent = self._ask_after(state, look)
            if asked is Outcome.ROOM:
                verdict, _, _ = self._promise(switch, wanted, ending, left)
            elif asked is Outcome.SOON:
                verdict = replace(verdict, may_pass=True)
            elif silent and self._is_doubtful(look, state, ending):
                verdict = _silence("the switch", silent)
        return verdict

    def _promise(
        self,
        switch: str,
        wanted: Sequence[Wanted],
        ending: Collection[str],
        left: Mapping[int, int],
    ) -> tuple[Refused | None, LedgerState, Look]:
        now = self._host.clock.time()
        with self._ledger.locked(LOCK_S) as ledger:
            look, state = self._stock.settled(ledger)
            staying = [entry for entry in state.commitments if entry.unit not in ending]
            fresh = [
                Commitment(uuid.uuid4().hex, unit, model, needs, self._asker, now, switch)
                for unit, model, needs in still_to_promise(wanted, staying, look)
            ]
            besides = [*staying, *(entry for entry in look.unknown if entry.unit not in ending)]
            verdict: Refused | None
            if fresh and self._is_doubtful(look, state, ending):
                verdict = _doubt("the switch")
            else:
                margin_bytes = self._host.settings.vram_margin_bytes
                verdict = fits_after(look, fresh, besides, ending, left, margin_bytes=margin_bytes)
            if verdict is None:
                leaving = [entry for entry in state.commitments if entry.unit in ending]
                state = replace(state, commitments=(*staying, *leaving, *fresh))
            ledger.write(state)
            return verdict, state, look

    def end_switch(self, switch: str) -> None:
        """What the switch promised and nobody took is void; a load that a router was asked for is the router's to tell.

        Raises: StateUnavailable."""
        with self._ledger.locked(LOCK_S) as ledger:
            if not any(entry.switch == switch and not entry.is_bound for entry in ledger.state.commitments):
                return
            try:
                # What has come to be is bound first, so that it stays.
                _, state = self._stock.settled(ledger)
            except SystemdUnavailable:
                state = ledger.state
            kept = tuple(
                entry if entry.switch != switch or entry.is_bound else replace(entry, asker=None)
                for entry in state.commitments
                # A model's has its router's invocation from when that was about to be asked.
                if entry.switch != switch or entry.is_bound or (entry.model and entry.invocation)
            )
            ledger.write(replace(state, commitments=kept))

    def keep(self, commitment: Commitment) -> bool:
        """Whether an own promise has still to come to be; where the ledger was lost meanwhile it is written anew.

        False: it is bound or adopted, or its router has ended. Raises: GpumodError.
        """
        with self._ledger.locked(LOCK_S) as ledger:
            look, state = self._stock.settled(ledger)
            same = [
                one
                for one in state.commitments
                if (one.unit, one.model) == (commitment.unit, commitment.model) and not is_stranger(one, look.live)
            ]
            live = look.live.get(commitment.unit)
            lost = not same and live is not None and live.invocation == commitment.invocation
            if lost:
                state = replace(state, commitments=(*state.commitments, commitment))
            ledger.write(state)
        self._stock.note_peaks(look)
        return lost or any(one.id == commitment.id and not one.is_bound for one in same)

    def withdraw(self, commitment: Commitment) -> None:
        """An admitted allocation did not begin after all. Raises: StateUnavailable."""
        with self._ledger.locked(LOCK_S) as ledger:
            kept = tuple(entry for entry in ledger.state.commitments if entry.id != commitment.id)
            ledger.write(replace(ledger.state, commitments=kept))

    def try_turn(self, unit: str) -> Closeable | None:
        """The turn to put a unit to sleep or to wake it, or to have a router load a model, until it is closed or this
        process ends; None: it is taken.

        A wake is admitted and asked for in one turn: else who is slow between the two could, after another's sleep,
        wake what has been promised to others meanwhile. Raises: StateUnavailable.
        """
        return self._ledger.try_turn(unit)

    def promises_of(self, unit: str) -> frozenset[str]:
        """Ids of what the unit's own processes were promised: another one means another admission.

        Raises: StateUnavailable.
        """
        with self._ledger.locked(LOCK_S) as ledger:
            return frozenset(entry.id for entry in ledger.state.commitments if _is_own(entry, unit))

    def shrink(self, unit: str, known: Collection[str], leaves: Mapping[int, int]) -> bool:
        """A unit sleeps: it is promised what it holds now and no more, and must ask before it wakes.

        `known`: ids of its promises before it was put to sleep in this turn. False, and nothing is changed: it was
        admitted anew and may be about to wake, or it is not measured to hold at most `leaves` (bytes by GPU).
        Raises: StateUnavailable, SystemdUnavailable.
        """
        with self._ledger.locked(LOCK_S) as ledger:
            look, state = self._stock.settled(ledger)
            live = look.live.get(unit)
            mine = [entry for entry in state.commitments if _is_own(entry, unit)]
            if (
                live is None
                or look.reading is None
                or any(sample.processes is None for sample in look.reading.gpus)
                or not has_given_back(live.measured, leaves)
                or not has_given_back(live.left, {})
                or any(entry.id not in known or entry.invocation != live.invocation for entry in mine)
            ):
                ledger.write(state)
                return False
            held = figures(live.measured)
            commitments = tuple(
                replace(entry, needs=held, unknown="") if entry in mine else entry for entry in state.commitments
            )
            ledger.write(replace(state, commitments=commitments))
            return True

    def still_open(self) -> dict[tuple[str, str], dict[int, int]]:
        """What each (unit, model) may still take, in bytes by GPU. Raises: GpumodError."""
        return self.ask_what_is_open()[0]

    def ask_what_is_open(self) -> tuple[dict[tuple[str, str], dict[int, int]], bool]:
        """The same, after the routers were asked for loads whose asker has died, where there are any.

        Second: whether something of it may be void soon, since a router has to say so once more. Raises: GpumodError.
        """
        state, look, _ = self.take_stock()
        outcome = Outcome.NOTHING
        if state.doubted_at is not None or any(entry.is_orphan for entry in state.commitments):
            outcome, _ = self._ask_after(state, look)
            if outcome is Outcome.ROOM:
                state, look, _ = self.take_stock()
        found: dict[tuple[str, str], dict[int, int]] = {}
        for entry in state.commitments:
            held = found.setdefault((entry.unit, entry.model), {})
            for gpu in entry.needs:
                held[gpu] = held.get(gpu, 0) + open_bytes((entry,), look.live, gpu)
        return found, outcome is Outcome.SOON

    def take_stock(self) -> tuple[LedgerState, Look, str]:
        """Settle the ledger with what runs; the third is why it had to be rebuilt, or empty. Raises: GpumodError."""
        with self._ledger.locked(LOCK_S) as ledger:
            look, state = self._stock.settled(ledger)
            ledger.write(state)
        self._stock.note_peaks(look)
        return state, look, look.lost

    def last_refusal(self, unit: str, *, since: float) -> Refusal | None:
        """The newest refusal of the unit at or after a Unix time. Raises: StateUnavailable."""
        with self._ledger.locked(LOCK_S) as ledger:
            found = [one for one in ledger.state.refusals if one.unit == unit and one.at >= since]
        return found[-1] if found else None

    def refusals(self) -> tuple[Refusal, ...]:
        """The newest ones of all units, oldest first. Raises: StateUnavailable."""
        with self._ledger.locked(LOCK_S) as ledger:
            return ledger.state.refusals

    def _ask_after(self, state: LedgerState, look: Look) -> tuple[Outcome, tuple[str, ...]]:
        """Ask the routers for what only they can say; second, those that did not answer. Raises: GpumodError."""
        since_boot = self._host.clock.monotonic()
        told = ask_routers(self._host, state, look.live, since_boot)
        if not told.is_news:
            return (Outcome.SOON if told.waiting else Outcome.NOTHING), told.silent
        with self._ledger.locked(LOCK_S) as ledger:
            _, settled = self._stock.settled(ledger)
            after = without_orphans(settled, told.absent, since_boot)
            if told.is_certain and settled.doubted_at == state.doubted_at:
                after = replace(after, doubted_at=None)
            ledger.write(after)
        if len(after.commitments) < len(settled.commitments) or after.doubted_at != settled.doubted_at:
            return Outcome.ROOM, told.silent
        soon = told.waiting or any(told.absent.values())
        return (Outcome.SOON if soon else Outcome.NOTHING), told.silent

    # -- under the lock ----------------------------------------------------------------------------------------

    def _admit(
        self, unit: str, model: str, invocation: str, switch: str, what: str
    ) -> tuple[Granted | Refused, LedgerState, Look]:
        with self._ledger.locked(LOCK_S) as ledger:
            look, state = self._stock.settled(ledger)
            verdict, after = self._decide(look, state, unit, model, invocation, switch, what)
            ledger.write(after)
        # Where neither dashboard nor guard runs, decisions are all that measures what is there.
        with contextlib.suppress(GpumodError):
            self._stock.note_peaks(look)
        return verdict, after, look

    def _decide(
        self, look: Look, state: LedgerState, unit: str, model: str, invocation: str, switch: str, what: str
    ) -> tuple[Granted | Refused, LedgerState]:
        now = self._host.clock.time()
        needs = self._claims.needs(unit, model, look.reading)
        mine: list[Commitment] = []
        others: list[Commitment] = []
        for entry in state.commitments:
            same = _is_same(entry, unit, model, invocation) and not is_stranger(entry, look.live)
            (mine if same else others).append(entry)
        # A promise outlives a refusal (it ends with who was promised), and so does a model's process or a load on its
        # way to the router; only what a unit was granted ends with the invocation that is refused. One that runs
        # already asks for its wake: it sleeps on, and what it holds stays its own.
        live = look.live.get(unit)
        runs = live is not None and live.admitted and live.invocation == invocation
        kept = [entry for entry in mine if entry.model != UNIT_ITSELF or not entry.is_bound or runs]
        refused = replace(state, commitments=(*others, *kept))
        other = self._claims.fault(unit, model, look)
        if other is not None:
            refusal = Refused(what, other)
            return refusal, refused.with_refusal(Refusal(unit, model, str(refusal), now, invocation))
        if isinstance(needs, str):
            refusal = Refused(what, f"free memory is unknown: {look.gpu_error}" if look.gpu_error else needs)
            return refusal, refused.with_refusal(Refusal(unit, model, str(refusal), now, invocation))
        if any(needs.values()) and self._is_doubtful(look, state):
            refusal = _doubt(what)
            return refusal, refused.with_refusal(Refusal(unit, model, str(refusal), now, invocation))
        process = next((entry.process for entry in mine if entry.process), None)
        if model and unit in look.live:
            # A load that has no process yet ends with the router that it was asked of.
            invocation = look.live[unit].invocation
        asked = Commitment(uuid.uuid4().hex, unit, model, needs, self._asker, now, switch, invocation, process)
        verdict = admit(
            asked,
            what,
            [*others, *look.unknown],
            look.live,
            look.reading,
            look.holders,
            margin_bytes=self._host.settings.vram_margin_bytes,
            gpu_error=look.gpu_error,
        )
        if isinstance(verdict, Granted):
            return verdict, replace(state, commitments=(*others, asked))
        return verdict, refused.with_refusal(Refusal(unit, model, str(verdict), now, invocation))

    def _is_doubtful(self, look: Look, state: LedgerState, ending: Collection[str] = ()) -> bool:
        """Whether a router may have been asked for a load that a lost ledger held; with its router it ends."""
        return state.doubted_at is not None and not running_routers(self._host, look.live) <= {*ending}


def _with_hint(reason: str, error: GpumodError) -> str:
    return f"{reason}; {error.hint}" if error.hint else reason


def _is_same(entry: Commitment, unit: str, model: str, invocation: str) -> bool:
    """Whether an entry is the same allocation as the one asked for: it must not be counted twice.

    A router has a model once, so every entry of it is: also a sleeping one's, whose wake is asked for.
    """
    if (entry.unit, entry.model) != (unit, model):
        return False
    return model != UNIT_ITSELF or not entry.is_bound or entry.invocation == invocation


def _is_own(entry: Commitment, unit: str) -> bool:
    return (entry.unit, entry.model) == (unit, UNIT_ITSELF)


def _doubt(what: str) -> Refused:
    return Refused(what, "the ledger was lost a moment ago, and a load may be on its way; try again", may_pass=True)


def _silence(what: str, silent: Sequence[str]) -> Refused:
    who = ", ".join(silent)
    reason = f"the ledger was lost, and {who} does not answer: what it may be loading is unknown"
    return Refused(what, f"{reason}; gpumod service stop {silent[0]}")
