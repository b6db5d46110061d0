"""What the presets say of those who ask: their needs, and whether what runs is what they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpumod_tui.core.box import service_id
from gpumod_tui.core.need import UnknownNeed
from gpumod_tui.core.pins import of_process

if TYPE_CHECKING:
    from gpumod_tui.core.host import Host
    from gpumod_tui.core.look import Look
    from gpumod_tui.core.models import GpuReading


class Claims:
    """By the presets and the measured peaks as they are now."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def needs(self, unit: str, model: str, reading: GpuReading | None) -> Mapping[int, int] | str:
        """Bytes by GPU, or in words why they are unknown."""
        service = self._host.registry.services.get(service_id(unit))
        if service is None:
            return f"the preset of {service_id(unit)} is broken or gone, so its need is unknown"
        book = self._host.needs
        if not model:
            need = book.unit_need(service, reading)
        else:
            # Routers share a folder of models: one of them may be asked for what another's preset declares.
            others = [one.vram_bytes for one in self._host.registry.services.values() if one.default_model == model]
            elsewhere = max((vram for vram in others if vram is not None), default=None)
            need = book.model_need(service, model, reading, elsewhere_bytes=elsewhere)
        return f"{need.reason}; {need.hint}" if isinstance(need, UnknownNeed) else need.by_gpu

    def fault(self, unit: str, model: str, look: Look) -> str | None:
        """Why its need is not the one to reckon with: what runs is not what its preset describes; None: it is."""
        service, live = self._host.registry.services.get(service_id(unit)), look.live.get(unit)
        if service is None or live is None or live.pid is None:
            return None
        pid, processes = live.pid, self._host.processes
        gpus = look.reading.gpus if look.reading else ()
        arguments = processes.arguments(pid) if model and service.is_router else None
        stale = of_process(service, gpus, lambda name: processes.variable(pid, name), arguments)
        return None if stale is None else str(stale)
