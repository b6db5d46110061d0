"""The first questions about the box: which units are ours, and what the GPUs say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpumod_tui.core.errors import GpuUnavailable

if TYPE_CHECKING:
    from gpumod_tui.core.host import Host
    from gpumod_tui.core.models import GpuReading


def service_id(unit: str) -> str:
    """`glm-code` of `glm-code.service`."""
    return unit.removesuffix(".service")


def our_units(host: Host) -> frozenset[str]:
    """Units in gpumod.slice, or with our stamp, whether their preset is there or not. Raises: SystemdUnavailable."""
    return frozenset((*host.units.managed(), *host.unit_files.stamped()))


def managed_units(host: Host) -> tuple[str, ...]:
    """The units of the catalog and all that are ours. Raises: SystemdUnavailable."""
    return tuple(sorted(our_units(host).union(service.unit for service in host.registry.services.values())))


def read_gpus(host: Host, *, processes: bool) -> tuple[GpuReading | None, str | None]:
    """A reading, or why there is none."""
    try:
        return host.gpus.read(processes=processes), None
    except GpuUnavailable as error:
        return None, error.with_hint
