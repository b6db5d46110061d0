"""Snapshots at their rates: GPU memory 2 Hz, processes and probes every 2 s, units 1 Hz and soon after a change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import DriverKind, Health, Service, Snapshot, UnitState
from gpumod_tui.core.servers.vllm import LINES, load_phase
from gpumod_tui.core.status.attribution import Answer
from gpumod_tui.core.status.load_progress import LoadWatch
from gpumod_tui.core.status.probes import Prober
from gpumod_tui.core.status.snapshot import Parts, RecordedSource, active_servers, assemble, look_at_units, with_gpus
from gpumod_tui.core.threads import Unexpected
from gpumod_tui.core.units.managed import read_gpus

if TYPE_CHECKING:
    from gpumod_tui.core.engine import Engine
    from gpumod_tui.core.ports import Closeable


LEAST_S: Final = 0.9
"""Between two readings that are held against each other: the counters are read at most twice a second."""
FORGET_S: Final = 10.0
"""What was read before is too old to say anything about now."""


@dataclass(frozen=True, slots=True)
class _Reading:
    invocation: str
    at: float
    used_ns: int
    percent: float | None


class CpuMeter:
    """Remembers the last reading of each unit; for one thread."""

    def __init__(self) -> None:
        self._known: dict[str, _Reading] = {}

    def note(self, states: Mapping[str, UnitState], now: float) -> dict[str, float]:
        """Percent of one core by unit; no entry where it is not known (yet). `now`: monotonic, seconds."""
        fresh = {
            unit: self._measured(self._known.get(unit), state, state.cpu_usage_ns, now)
            for unit, state in states.items()
            if state.cpu_usage_ns is not None
        }
        self._known = fresh
        return {unit: reading.percent for unit, reading in fresh.items() if reading.percent is not None}

    def _measured(self, before: _Reading | None, state: UnitState, used_ns: int, now: float) -> _Reading:
        if before is None or before.invocation != state.invocation_id or now - before.at > FORGET_S:
            return _Reading(state.invocation_id, now, used_ns, None)
        if now - before.at < LEAST_S:
            return before
        percent = max(0, used_ns - before.used_ns) / 1e9 / (now - before.at) * 100
        return _Reading(state.invocation_id, now, used_ns, percent)


_JOIN_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds between looks."""

    gpus_s: float = 0.5
    processes_s: float = 2.0
    units_s: float = 1.0
    probes_s: float = 2.0
    settle_s: float = 0.05
    """After a unit changed, until it is looked at: changes come in bursts."""
    files_s: float = 5.0
    """Between two looks at which units are enabled, where nothing says that it has changed."""
    stock_s: float = 10.0
    """Between two measurements for the learned peaks."""


class Poller:
    """Looks in its own threads and hands every new snapshot to one callback, one at a time."""

    def __init__(self, host: Engine, recorded: RecordedSource, *, rates: Rates | None = None) -> None:
        self._host = host
        self._recorded = recorded
        self._rates = rates or Rates()
        self._callback: Callable[[Snapshot], object] = lambda _snapshot: None
        self._parts = Parts(answers={})
        self._lock = threading.Lock()
        self._posting = threading.Lock()
        self._stop = threading.Event()
        self._units_due = threading.Event()
        self._probes_due = threading.Event()
        self._unexpected = Unexpected()
        self._threads: list[threading.Thread] = []
        self._subscription: Closeable | None = None
        self._processes_at: float | None = None
        self._prober = Prober(host.drivers, self._answered)
        self._loads = LoadWatch(host.drivers, host.clock, self._post)
        self._cpu = CpuMeter()
        self._files: Mapping[str, str] = {}
        self._files_at = float("-inf")

    def start(self, callback: Callable[[Snapshot], object]) -> None:
        """Begin; the callback is called from the poller's threads and must return soon."""
        self._callback = callback
        self._stop.clear()
        loops = {"gpus": self._run_gpus, "units": self._run_units, "probes": self._run_probes}
        self._threads = [
            threading.Thread(target=loop, name=f"gpumod-poll-{name}", daemon=True) for name, loop in loops.items()
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No snapshot after this; idempotent."""
        self._stop.set()
        self._units_due.set()
        self._probes_due.set()
        with self._posting:
            self._callback = lambda _snapshot: None
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(_JOIN_S)
        self._threads = []
        self._loads.close()

    def look_at_gpus(self) -> None:
        """Read the GPUs, with processes if that is due, and post."""
        now = self._host.clock.monotonic()
        due = self._processes_at is None or now - self._processes_at >= self._rates.processes_s
        parts = with_gpus(self._parts, self._host, *read_gpus(self._host, processes=due), processes=due)
        if due:
            self._processes_at = now
        self._merge(reading=parts.reading, gpu_error=parts.gpu_error, held=parts.held)

    def look_at_units(self) -> None:
        """Ask systemd and the state folder, and post."""
        before = self._parts.states or {}
        parts = look_at_units(self._parts, self._host, self._recorded)
        self._forget_answers(before, parts.states or {})
        parts = self._with_file_states(parts)
        cpu = self._cpu.note(parts.states or {}, self._host.clock.monotonic())
        self._merge(cpu=cpu, states=parts.states, units_error=parts.units_error, recorded=parts.recorded)

    def _with_file_states(self, parts: Parts) -> Parts:
        now = self._host.clock.monotonic()
        if parts.states is None:
            return parts
        if now - self._files_at >= self._rates.files_s:
            self._files_at = now
            self._files = self._host.units.file_states(parts.states)
        states = {unit: replace(state, file_state=self._files.get(unit, "")) for unit, state in parts.states.items()}
        return replace(parts, states=states)

    def look_at_servers(self) -> None:
        """Begin to ask every active server that owes no answer; forget what the others said."""
        servers = active_servers(self._host.registry, self._parts.states or {})
        asked = {service.unit for service in servers}
        with self._lock:
            kept = {unit: answer for unit, answer in (self._parts.answers or {}).items() if unit in asked}
            self._parts = replace(self._parts, answers=kept)
        self._loads.keep(asked)
        self._prober.ask(servers)

    def _forget_answers(self, before: Mapping[str, UnitState], now: Mapping[str, UnitState]) -> None:
        """An answer of a unit's earlier life says nothing about this one; ask again at once."""
        changed = {
            unit
            for unit, state in now.items()
            if (old := before.get(unit)) is None
            or (old.invocation_id, old.active_state) != (state.invocation_id, state.active_state)
        }
        if changed:
            with self._lock:
                answers = {unit: said for unit, said in (self._parts.answers or {}).items() if unit not in changed}
                self._parts = replace(self._parts, answers=answers)
            self._probes_due.set()

    def _run_gpus(self) -> None:
        while not self._stop.is_set():
            self._guarded(self.look_at_gpus, lambda error: self._merge(reading=None, gpu_error=error))
            self._host.clock.wait(self._stop, self._rates.gpus_s)

    def _run_units(self) -> None:
        while not self._stop.is_set():
            self._units_due.clear()
            self._guarded(self._subscribe, lambda error: self._merge(units_error=error))
            self._guarded(self.look_at_units, lambda error: self._merge(units_error=error))
            if self._host.clock.wait(self._units_due, self._rates.units_s):
                self._files_at = float("-inf")
                self._host.clock.wait(self._stop, self._rates.settle_s)
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None

    def _run_probes(self) -> None:
        stock_at = float("-inf")
        while not self._stop.is_set():
            self._probes_due.clear()
            self._guarded(self.look_at_servers, lambda error: self._merge(units_error=error))
            self._guarded(self._look_at_refusals, lambda _error: None)
            if self._host.clock.monotonic() - stock_at >= self._rates.stock_s:
                stock_at = self._host.clock.monotonic()
                self._guarded(self._take_stock, lambda error: self._merge(units_error=error))
            self._host.clock.wait(self._probes_due, self._rates.probes_s)

    def _look_at_refusals(self) -> None:
        refusals = self._host.admission.refusals()
        if refusals != self._parts.refusals:
            self._merge(refusals=refusals)

    def _take_stock(self) -> None:
        self._host.admission.take_stock()

    def _subscribe(self) -> None:
        if self._subscription is None:
            self._subscription = self._host.units.on_change(self._units_due.set)

    def _answered(self, unit: str, answer: Answer) -> None:
        with self._lock:
            before = (self._parts.answers or {}).get(unit)
            state = (self._parts.states or {}).get(unit)
        service = self._host.registry.services.get(unit.removesuffix(".service"))
        if service is not None and state is not None:
            answer = self._with_phase(service, state, answer)
        with self._lock:
            self._parts = replace(self._parts, answers={**(self._parts.answers or {}), unit: answer})
        if service is not None and not self._stop.is_set():
            self._loads.see(service, answer.models)
        if answer != before:
            self._post()

    def _with_phase(self, service: Service, state: UnitState, answer: Answer) -> Answer:
        """A vLLM tells nothing while it loads; its journal does."""
        coming = answer.probe.health in (Health.DOWN, Health.LOADING) and not answer.models
        if service.driver is not DriverKind.VLLM or not coming or not state.invocation_id:
            return answer
        try:
            lines = self._host.journal.tail(service.unit, LINES, invocation_id=state.invocation_id)
        except GpumodError:
            return answer
        found = load_phase(service.model_id or service.id, lines)
        return answer if found is None else replace(answer, models=(found,))

    def _guarded(self, look: Callable[[], None], report: Callable[[str], None]) -> None:
        try:
            _reported(look, report)
        except Exception as error:  # noqa: BLE001 - the report itself failed: the thread goes on all the same
            self._unexpected.tell(error)

    def _merge(self, **changes: object) -> None:
        with self._lock:
            self._parts = replace(self._parts, **changes)  # type: ignore[arg-type]
        self._post()

    def _post(self) -> None:
        with self._posting:
            if not self._stop.is_set():
                self._callback(assemble(self._further(self._parts), self._host))

    def _further(self, parts: Parts) -> Parts:
        """With what was heard of loads since the servers were asked."""
        answers = {
            unit: replace(answer, models=self._loads.further(unit, answer.models))
            for unit, answer in (parts.answers or {}).items()
        }
        return replace(parts, answers=answers)


def _reported(look: Callable[[], None], report: Callable[[str], None]) -> None:
    try:
        look()
    except GpumodError as error:
        report(error.with_hint)
    except Exception as error:  # noqa: BLE001 - a dead poller thread would freeze the screen's figures in silence
        report(f"looking failed: {error!r}")
