"""What the presets say of those who ask: their needs, and whether what runs is what they describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gpumod_tui.core.box import service_id
from gpumod_tui.core.need import UnknownNeed
from gpumod_tui.core.pins import VISIBLE, misplaced, outgrown

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
        return self._misplaced(unit, look) or self._outgrown(unit, model, look)

    def _misplaced(self, unit: str, look: Look) -> str | None:
        """Why the unit's server does not take the GPUs that its preset names; None: it does, as far as is known."""
        service, live = self._host.registry.services.get(service_id(unit)), look.live.get(unit)
        if service is None or live is None or live.pid is None or look.reading is None:
            return None
        visible = self._host.processes.variable(live.pid, VISIBLE)
        return None if visible is None else misplaced(service, look.reading.gpus, visible)

    def _outgrown(self, unit: str, model: str, look: Look) -> str | None:
        """Why the unit's router loads a model with more context than its preset names; None: it does not."""
        service, live = self._host.registry.services.get(service_id(unit)), look.live.get(unit)
        if not model or service is None or not service.is_router or live is None or live.pid is None:
            return None
        return outgrown(service, self._host.processes.arguments(live.pid))
