"""What the guard counts, and how it is written for Prometheus. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpumod_tui.core.admission.commitments import NAMELESS
from gpumod_tui.core.admission.inventory import Look
from gpumod_tui.core.switch.records import Tally
from gpumod_tui.core.units.managed import service_id

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(slots=True)
class Counts:
    """Since the guard's start."""

    requests: Counter[int] = field(default_factory=Counter)
    """By status."""
    admissions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By service and model."""
    refusals: Counter[str] = field(default_factory=Counter)
    """By kind."""
    evictions: Counter[str] = field(default_factory=Counter)
    """By service."""
    loads: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    load_seconds: float = 0.0
    """Of all loads that succeeded, from the request to ready."""

    def admitted(self, service: str, model: str) -> None:
        """A load was admitted and begun."""
        self.admissions[service, model] += 1

    def refused(self, kind: str) -> None:
        """A request was refused for want of memory or place, or because of a switch."""
        self.refusals[kind] += 1

    def evicted(self, service: str) -> None:
        """An idle model was unloaded for another one."""
        self.evictions[service] += 1

    def ended(self, outcome: str, seconds: float) -> None:
        """A load came to its end."""
        self.loads[outcome] += 1
        if outcome == "ready":
            self.load_seconds += seconds


def write(
    counts: Counts, look: Look | None, commitments: Mapping[str, int], mode: str | None, switches: Mapping[str, Tally]
) -> str:
    """Prometheus' text. `look` None: the machine could not be asked, and its figures are left out."""
    lines: list[str] = []

    def family(name: str, kind: str, told: str, values: Iterable[tuple[Mapping[str, object], float]]) -> None:
        found = [(_labels(labels), value) for labels, value in values]
        if found:
            lines.append(f"# HELP gpumod_{name} {told}")
            lines.append(f"# TYPE gpumod_{name} {kind}")
            lines.extend(f"gpumod_{name}{labels} {value:.15g}" for labels, value in found)

    if look is not None:
        gpus = look.reading.gpus if look.reading else ()
        for what in ("free", "used", "reserved", "total"):
            values = [({"gpu": one.index}, getattr(one, f"{what}_bytes")) for one in gpus]
            family(
                f"gpu_{what}_bytes",
                "gauge",
                f"Memory that NVML reports as {what}.",
                [(labels, value) for labels, value in values if value is not None],
            )
        family("unit_memory_bytes", "gauge", "GPU memory that a unit's processes hold.", _by_unit(look))
        family("model_memory_bytes", "gauge", "GPU memory that a router's model holds.", _by_model(look))
    family("commitments", "gauge", "Entries of the ledger.", [({"state": k}, v) for k, v in commitments.items()])
    family("mode_info", "gauge", "The recorded mode.", [({"mode": mode}, 1)] if mode else [])
    told = [({"outcome": outcome}, tally) for outcome, tally in switches.items()]
    family("switches_total", "counter", "Switches that ended.", [(labels, tally.count) for labels, tally in told])
    family("switch_seconds_sum", "counter", "Seconds of them.", [(labels, tally.seconds) for labels, tally in told])
    family(
        "admissions_total",
        "counter",
        "Loads that were admitted and begun.",
        [({"service": s, "model": m}, v) for (s, m), v in counts.admissions.items()],
    )
    family("refusals_total", "counter", "Refused loads.", [({"kind": k}, v) for k, v in counts.refusals.items()])
    family("evictions_total", "counter", "Evicted models.", [({"service": k}, v) for k, v in counts.evictions.items()])
    family("loads_total", "counter", "Loads that ended.", [({"outcome": k}, v) for k, v in counts.loads.items()])
    family("load_seconds_sum", "counter", "Seconds of all loads that succeeded.", [({}, counts.load_seconds)])
    family("load_seconds_count", "counter", "Loads that succeeded.", [({}, counts.loads["ready"])])
    family("requests_total", "counter", "Requests by status.", [({"code": k}, v) for k, v in counts.requests.items()])
    return "\n".join(lines) + "\n"


def _by_unit(look: Look) -> list[tuple[Mapping[str, object], float]]:
    held: Counter[tuple[str, int]] = Counter()
    for holder in look.holders:
        if holder.used_bytes is not None:
            held[service_id(holder.unit) if holder.unit else "", holder.gpu] += holder.used_bytes
    return [({"unit": unit, "gpu": gpu}, value) for (unit, gpu), value in sorted(held.items())]


def _by_model(look: Look) -> list[tuple[Mapping[str, object], float]]:
    return [
        ({"service": service_id(unit.unit), "model": model.model, "gpu": gpu}, value)
        for unit in look.live.values()
        for model in unit.models
        if model.model != NAMELESS
        for gpu, value in model.measured.items()
        if value is not None
    ]


def _labels(labels: Mapping[str, object]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{str(value).translate(_ESCAPES)}"' for name, value in labels.items()) + "}"
