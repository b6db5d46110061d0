"""How to talk to each kind of server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpumod_tui.adapters.servers.http import Http, Sockets
from gpumod_tui.core.models import DriverKind, Service

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Drivers, ServerDriver


def drivers_over(sockets: Sockets | None) -> Drivers:
    """The driver of each service; the module of its kind is imported at the first use.

    `sockets`: where the guarded service of an id listens; None: all listen on their ports.
    """
    http = Http(sockets)
    built: dict[DriverKind, ServerDriver] = {}

    def driver(service: Service) -> ServerDriver:
        kind = service.driver
        if kind not in built:
            built[kind] = _build(kind, http)
        return built[kind]

    return driver


def _build(kind: DriverKind, http: Http) -> ServerDriver:
    if kind is DriverKind.LLAMACPP:
        from gpumod_tui.adapters.servers.llamacpp import LlamaCppDriver

        return LlamaCppDriver(http)
    if kind is DriverKind.VLLM:
        from gpumod_tui.adapters.servers.vllm import VllmDriver

        return VllmDriver(http)
    if kind is DriverKind.FASTAPI:
        from gpumod_tui.adapters.servers.generic import FastApiDriver

        return FastApiDriver(http)
    from gpumod_tui.adapters.servers.generic import CommandDriver

    return CommandDriver(http)


driver_for = drivers_over(None)
"""The driver of a service that listens on its port, guarded or not."""
