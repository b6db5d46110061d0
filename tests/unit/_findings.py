"""What the tests of the doctor's findings share."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpumod_tui.adapters.facts import BoxFacts
from gpumod_tui.adapters.files.paths import Places
from gpumod_tui.core.doctor.facts import Condition, Finding, InstalledUnit, LoadedUnit, Severity

GPUMOD = "/opt/gpumod/bin/gpumod"
UNIFIED = "GGML_CUDA_ENABLE_UNIFIED_MEMORY"


def condition(unit: str, *, path: str = GPUMOD, ignores: bool = False) -> Condition:
    return Condition(path, f"{path} preflight --unit {unit}", ignores)


def loaded(unit: str, **changes: Any) -> LoadedUnit:
    return replace(LoadedUnit(unit, "loaded", (condition(unit),), {}), **changes)


def installed(service_id: str, **changes: Any) -> InstalledUnit:
    unit = f"{service_id}.service"
    text = f"[Service]\nExecCondition={GPUMOD} preflight --unit %n\nExecStart=/bin/true\n"
    return replace(InstalledUnit(service_id, unit, f"/units/{unit}", "current", text), **changes)


def only(findings: Iterable[Finding], severity: Severity) -> list[Finding]:
    return [one for one in findings if one.severity is severity]


def errors(findings: Iterable[Finding]) -> list[Finding]:
    return only(findings, Severity.ERROR)


def warnings(findings: Iterable[Finding]) -> list[Finding]:
    return only(findings, Severity.WARNING)


# -- sockets


def facts_below(root: Path) -> BoxFacts:
    return BoxFacts(lambda: Places(*(root / name for name in ("config", "state", "cache", "units", "runtime"))), root)
