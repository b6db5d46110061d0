"""What if these services ran: whether they fit, on which GPU, with what to spare, and what would fit beside them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.admission.commitments import UNIT_ITSELF
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import BLANK, DriverKind, GpuReading, GpuSample, Service, UnitState
from gpumod_tui.core.observation import Sighting, Survey, look
from gpumod_tui.core.switch.plan import Target, plan_switch
from gpumod_tui.core.switch.results import Blocker, GpuArithmetic, SwitchPlan
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.core.units.guard import GUARD_SOCKET
from gpumod_tui.core.units.managed import read_gpus, service_id
from gpumod_tui.core.vram.need import Need, UnknownNeed, gpu_indices, vllm_shares

if TYPE_CHECKING:
    from gpumod_tui.core.engine import Engine
    from gpumod_tui.core.vram.requirements import VramRequirements


LEAST_GIB: Final = 1
MOST_GIB: Final = 4096
"""Of a GPU that is simulated."""
MOST_GPUS: Final = 16


class Verdict(StrEnum):
    """Only FITS is a yes."""

    FITS = "fits"
    SHORT = "does not fit"
    UNKNOWN = "unknown"
    """A need or the free memory is not known, which never fits."""
    BLOCKED = "blocked"
    """There is room, and something else stands in the way: a port, a unit that is not installed."""


@dataclass(frozen=True, slots=True)
class Share:
    """Who is counted on one GPU. `amount_bytes` None: unknown."""

    who: str
    """A service id, or a process."""
    amount_bytes: int | None
    note: str = ""
    """Where the figure is from, or why it is counted."""
    service: str | None = None
    """None: nothing of the catalog."""


@dataclass(frozen=True, slots=True)
class GpuSum:
    """One GPU, as it would be."""

    sample: GpuSample
    arithmetic: GpuArithmetic
    starts: tuple[Share, ...]
    """What comes or wakes, each with what it takes."""
    stays: tuple[Share, ...]
    """What is there and goes on, the largest first, with what it holds now."""

    @property
    def left_bytes(self) -> int | None:
        """Beyond needs and margin; below 0: short by so much; None: unknown."""
        available = self.arithmetic.available_bytes
        return None if available is None else available - self.arithmetic.required_bytes


@dataclass(frozen=True, slots=True)
class Beside:
    """Whether a mode's services would fit beside the chosen ones."""

    mode: str
    fits: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Simulation:
    """The answer. All names are service ids."""

    chosen: tuple[str, ...]
    services: tuple[str, ...]
    """The chosen ones and what they depend on."""
    verdict: Verdict
    gpus: tuple[GpuSum, ...]
    """Empty: NVML cannot be read."""
    plan: SwitchPlan
    """As the planner would make it for a mode of just these services."""
    unknown: tuple[str, ...] = ()
    """Services of unknown need."""
    beside: tuple[Beside, ...] = ()
    """The other modes; none where the chosen services do not fit by themselves."""
    elsewhere: tuple[tuple[str, int], ...] = ()
    """(service, GPU index): where it does not fit, each single service that would make it fit on that other GPU."""

    @property
    def fits(self) -> bool:
        """A switch would be granted."""
        return self.verdict is Verdict.FITS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A service that may be chosen."""

    service: str
    need_bytes: int | None
    """Over all its GPUs, with its default model; None: unknown."""
    gpus: tuple[int, ...]
    """Indices; empty: none, or unknown."""
    note: str
    """Where the need is from, or why it is unknown."""
    runs: bool = False


def gpu_sizes(text: str) -> tuple[int, ...]:
    """Bytes of each GPU in `24 24`, `24, 48.5` or `4x80`, in GiB; empty: none. Raises: ValueError, for people."""
    found: list[int] = []
    for word in text.replace(",", " ").split():
        times, _, amount = word.rpartition("x")
        try:
            count, gib = int(times or "1"), float(amount)
        except ValueError:
            raise ValueError(f"found {word}, expected sizes in GiB such as 24 24 or 4x80") from None
        if not (math.isfinite(gib) and LEAST_GIB <= gib <= MOST_GIB):
            raise ValueError(f"found {word}, expected {LEAST_GIB} to {MOST_GIB} GiB")
        if not 1 <= count <= MOST_GPUS - len(found):
            raise ValueError(f"found {word}, expected {MOST_GPUS} GPUs at most")
        found += [int(gib * GIB)] * count
    return tuple(found)


def sentences(found: Simulation) -> tuple[str, ...]:
    """The verdict in words, with what stands against it."""
    if found.verdict is Verdict.FITS:
        return ("fits",)
    lead = {
        Verdict.SHORT: "does not fit",
        Verdict.UNKNOWN: "unknown, which never fits",
        Verdict.BLOCKED: "there is room, and something else is in the way",
    }[found.verdict]
    return (lead, *(_told(blocker) for blocker in found.plan.blockers))


def _told(blocker: Blocker) -> str:
    return f"{blocker} (next: {blocker.hint})" if blocker.hint else str(blocker)


IMAGINED_RESERVE_BYTES: Final = 512 * MIB
IMAGINED_RESERVE_SHARE: Final = 0.02
"""The larger of both is taken to be never free on a GPU that is not there: of an idle 24 GiB card, 457 MiB are not."""
_SHOWN_BYTES: Final = 64 * MIB
"""Less that nobody shows is an idle card's own."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One look at the box, with the needs of all services: every question about it is then pure arithmetic."""

    registry: ServiceRegistry
    survey: Survey
    margin_bytes: int
    imagined: bool = False
    """The GPUs are not there."""

    @property
    def running(self) -> tuple[str, ...]:
        """Services of the catalog that run or are about to."""
        units = self.survey.units.values()
        return tuple(unit.id for unit in units if unit.service is not None and unit.is_ours and not unit.is_down)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """All services of the catalog, in its order."""
        running = frozenset(self.running)
        return tuple(
            _candidate(self.survey.units[name], runs=name in running)
            for name in self.registry.services
            if name in self.survey.units
        )

    def run(self, chosen: Iterable[str], label: str = "what if") -> Simulation:
        """What if just these ran, and what they depend on, as if they were a mode. Raises: UnknownName."""
        chosen = tuple(dict.fromkeys(chosen))
        services = self.registry.with_dependencies(chosen)
        plan = self.plan(label, services)
        unknown = tuple(name for name in (*plan.wake, *plan.starting) if self._is_unknown(name))
        verdict = self._verdict(plan, unknown)
        return Simulation(
            chosen,
            services,
            verdict,
            _sums(self.survey, plan),
            plan,
            unknown,
            self._beside(services) if verdict is Verdict.FITS else (),
            self._elsewhere(plan, services) if verdict is Verdict.SHORT else (),
        )

    def plan(self, label: str, services: tuple[str, ...]) -> SwitchPlan:
        """The planner's own answer for a mode of these services, all they depend on included."""
        return plan_switch(self.registry, self.survey, Target(label, services), margin_bytes=self.margin_bytes)

    def _is_unknown(self, name: str) -> bool:
        unit = self.survey.units[name]
        return isinstance(unit.own_need, UnknownNeed) or isinstance(unit.model_need, UnknownNeed)

    def _verdict(self, plan: SwitchPlan, unknown: tuple[str, ...]) -> Verdict:
        if not plan.blockers:
            return Verdict.FITS
        shorts = [row.short_bytes for row in plan.arithmetic]
        if any(shorts):
            return Verdict.SHORT
        on_gpu = any(self.registry.service(name).vram_bytes != 0 for name in (*plan.wake, *plan.starting))
        blind = on_gpu and (self.survey.reading is None or self.survey.ledger_error is not None)
        return Verdict.UNKNOWN if unknown or blind or None in shorts else Verdict.BLOCKED

    def _beside(self, services: tuple[str, ...]) -> tuple[Beside, ...]:
        found = []
        for mode in self.registry.modes.values():
            both = self.registry.with_dependencies((*services, *mode.services))
            if mode.id == BLANK or len(both) == len(services):
                continue
            blockers = self.plan(mode.id, both).blockers
            found.append(Beside(mode.id, not blockers, str(blockers[0]) if blockers else ""))
        return tuple(found)

    def _elsewhere(self, plan: SwitchPlan, services: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
        short = [row for row in plan.arithmetic if row.short_bytes]
        if len(short) != 1:
            return ()
        (crowded,) = short
        found = []
        for name in plan.starting:
            takes = plan.needs.get(name, {})
            if set(takes) != {crowded.gpu} or takes[crowded.gpu] < (crowded.short_bytes or 0):
                continue
            for row in plan.arithmetic:
                if row is crowded or not _has_room(row, takes[crowded.gpu]):
                    continue
                moved = self._moved(name, row.gpu)
                if moved is not None and not moved.plan(plan.target, services).blockers:
                    found.append((name, row.gpu))
        return tuple(found)

    def _moved(self, name: str, gpu: int) -> WhatIf | None:
        """The same with one service on another GPU; None: what it takes there is unknown."""
        unit = self.survey.units[name]
        service = replace(self.registry.service(name), gpus=(gpu,))
        least = 0
        if service.driver is DriverKind.VLLM and self.survey.reading is not None:
            shares = vllm_shares(service, self.survey.reading.gpus, (gpu,))
            if isinstance(shares, UnknownNeed):
                return None
            least = shares[gpu]
        own, model = (_on(need, gpu, least) for need in (unit.own_need, unit.model_need))
        units = {**self.survey.units, name: replace(unit, service=service, own_need=own, model_need=model)}
        registry = replace(self.registry, services={**self.registry.services, name: service})
        return replace(self, registry=registry, survey=replace(self.survey, units=units))


def _has_room(row: GpuArithmetic, amount_bytes: int) -> bool:
    """Whether so much more can fit at all."""
    taken = row.kept_growth_bytes + row.need_bytes + row.margin_bytes
    return row.available_bytes is not None and row.available_bytes - taken >= amount_bytes


def _on(need: Need | UnknownNeed | None, gpu: int, least_bytes: int) -> Need | UnknownNeed | None:
    """The same need on one GPU, and no less than so much."""
    return replace(need, by_gpu={gpu: max(need.total_bytes, least_bytes)}) if isinstance(need, Need) else need


def look_around(host: Engine) -> WhatIf:
    """The box as it is. Raises: SystemdUnavailable, ConfigInvalid."""
    survey = look(host, host.registry.services)
    return WhatIf(host.registry, survey, host.settings.vram_margin_bytes)


def imagine(host: Engine, totals_bytes: Sequence[int]) -> WhatIf:
    """Idle GPUs of these sizes, numbered from 0, on which nothing runs; NVML and systemd are not needed.

    What was measured on the GPUs that are there counts here, too, where NVML can be read. Raises: ConfigInvalid.
    """
    there, _ = read_gpus(host, processes=False)
    samples = tuple(_imagined(index, total) for index, total in enumerate(totals_bytes))
    reading = GpuReading(host.clock.time(), None, samples)
    units = {
        service.id: _idle(host.needs, _seated(service, there), reading, there)
        for service in host.registry.services.values()
    }
    survey = Survey(units, reading, None, (), None, {}, UnitState(GUARD_SOCKET))
    return WhatIf(host.registry, survey, host.settings.vram_margin_bytes, imagined=True)


def _imagined(index: int, total_bytes: int) -> GpuSample:
    reserve = max(IMAGINED_RESERVE_BYTES, int(total_bytes * IMAGINED_RESERVE_SHARE))
    return GpuSample(
        index,
        name="simulated",
        total_bytes=total_bytes,
        free_bytes=max(0, total_bytes - reserve),
        used_bytes=0,
        reserved_bytes=min(reserve, total_bytes),
        processes=(),
    )


def _seated(service: Service, there: GpuReading | None) -> Service:
    """With its GPUs by index: a UUID names none that is imagined."""
    indices = gpu_indices(service, there.gpus) if there is not None else None
    return replace(service, gpus=indices) if isinstance(indices, tuple) else service


def _idle(needs: VramRequirements, service: Service, reading: GpuReading, there: GpuReading | None) -> Sighting:
    own = needs.unit_need(service, reading)
    model: Need | UnknownNeed | None = None
    measured = needs.unit_need(service, there) if there is not None else None
    own = _at_least(own, measured, service, reading)
    if service.is_router and service.default_model is not None:
        measured = needs.model_need(service, service.default_model, there) if there is not None else None
        model = needs.model_need(service, service.default_model, reading)
        model = _at_least(model, measured, service, reading)
    return Sighting(service.id, service, UnitState(service.unit), (), {}, own_need=own, model_need=model)


def _at_least(
    need: Need | UnknownNeed, measured: Need | UnknownNeed | None, service: Service, reading: GpuReading
) -> Need | UnknownNeed:
    """The need, or what was ever measured on other GPUs if that is more."""
    peak = measured.measured_peak_bytes if isinstance(measured, Need) else None
    indices = gpu_indices(service, reading.gpus)
    if not peak or isinstance(indices, UnknownNeed) or (isinstance(need, Need) and need.total_bytes >= peak):
        return need
    return Need(dict.fromkeys(indices, -(-peak // len(indices))), "highest ever measured, on the GPUs that are there")


def _candidate(unit: Sighting, *, runs: bool) -> Candidate:
    parts = [need for need in (unit.own_need, unit.model_need) if need is not None]
    unknown = next((need for need in parts if isinstance(need, UnknownNeed)), None)
    if unknown is not None:
        return Candidate(unit.id, None, (), unknown.reason, runs)
    needs = [need for need in parts if isinstance(need, Need)]
    total = sum(need.total_bytes for need in needs)
    gpus = sorted({gpu for need in needs for gpu in need.by_gpu})
    # A router's own process takes nothing; what counts is its model.
    return Candidate(unit.id, total, tuple(gpus), needs[-1].basis if needs else "", runs)


def _sums(survey: Survey, plan: SwitchPlan) -> tuple[GpuSum, ...]:
    rows = {row.gpu: row for row in plan.arithmetic}
    going = {f"{name}.service" for name in (*plan.stop, *plan.restart)}
    return tuple(
        GpuSum(
            sample,
            rows[sample.index],
            _starts(survey, plan, sample.index),
            _stays(survey, plan, sample, going),
        )
        for sample in (survey.reading.gpus if survey.reading else ())
    )


def _starts(survey: Survey, plan: SwitchPlan, gpu: int) -> tuple[Share, ...]:
    found = []
    for unit, model, by_gpu in plan.promises:
        name = service_id(unit)
        amount = by_gpu.get(gpu, 0)
        if amount:
            seen = survey.units[name]
            need = seen.own_need if model == UNIT_ITSELF else seen.model_need
            basis = need.basis if isinstance(need, Need) else ""
            found.append(Share(f"{name} ({model})" if model else name, amount, basis, name))
    return tuple(found)


def _stays(survey: Survey, plan: SwitchPlan, sample: GpuSample, going: set[str]) -> tuple[Share, ...]:
    gpu = sample.index
    notes = {
        **dict.fromkeys(plan.keep, "goes on"),
        **dict.fromkeys(plan.wake, "held while it sleeps"),
        **dict.fromkeys(plan.asleep, "asleep, and left so"),
        **dict.fromkeys(plan.sleep, "at most, once it sleeps"),
    }
    held: dict[str, int | None] = {}
    found: list[Share] = []
    for holder in survey.holders:
        if holder.gpu != gpu or holder.unit in going:
            continue
        name = service_id(holder.unit) if holder.unit else ""
        if name in notes:
            before = held.get(name, 0)
            held[name] = None if before is None or holder.used_bytes is None else before + holder.used_bytes
        else:
            why = "has ended" if holder.is_gone else "not managed by gpumod"
            found.append(Share(f"{holder.command} pid {holder.pid}", holder.used_bytes, why))
    held |= {name: by_gpu.get(gpu, 0) for name, by_gpu in plan.leaves.items() if name in held}
    found += [Share(name, amount, notes[name], name) for name, amount in held.items()]
    shown = [holder.used_bytes for holder in survey.holders if holder.gpu == gpu]
    if sample.total_bytes is not None and sample.free_bytes is not None and None not in shown:
        nobodys = sample.total_bytes - (sample.reserved_bytes or 0) - sample.free_bytes - sum(filter(None, shown))
        if nobodys >= _SHOWN_BYTES:
            found.append(Share("no process", nobodys, "not given back yet, or NVML does not show who holds it"))
    return tuple(sorted(found, key=lambda share: -(share.amount_bytes or 0)))
