"""A host with what is built on its ports once: the needs of services, and admission control."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gpumod_tui.core.host import Host

if TYPE_CHECKING:
    from gpumod_tui.core.admission.controller import AdmissionController
    from gpumod_tui.core.vram.requirements import VramRequirements


class Engine(Host, Protocol):
    """Satisfied by the real host and by the demo; the Manager is built on it."""

    @property
    def needs(self) -> VramRequirements:
        """How much memory each service and model needs."""

    @property
    def admission(self) -> AdmissionController:
        """Admission control."""
