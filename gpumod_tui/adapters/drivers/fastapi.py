"""A server of one's own with a health endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gpumod_tui.adapters.drivers._http import Http
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import ModelState, Probe, Service

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable


class FastApiDriver:
    """The port ServerDriver for servers that only have a health endpoint."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def probe(self, service: Service) -> Probe:
        """READY when the health endpoint answers with success."""
        if service.port is None or not service.health_endpoint:
            return self._http.probe_port(service)
        return self._http.probe_path(service, service.health_endpoint)

    def models(self, service: Service) -> tuple[ModelState, ...]:  # noqa: ARG002
        """None: it has no notion of models."""
        return ()

    def load(self, service: Service, model: str, meanwhile: Callable[[], None] | None = None) -> None:  # noqa: ARG002
        """Raises: ServerError, always."""
        raise ServerError(f"{service.id}: a {service.driver} service loads no models on request ({model})")

    def unload(self, service: Service, model: str) -> None:
        """Raises: ServerError, always."""
        raise ServerError(f"{service.id}: a {service.driver} service unloads no models on request ({model})")

    def sleep(self, service: Service, meanwhile: Callable[[], None]) -> None:  # noqa: ARG002
        """Raises: ServerError, always."""
        raise ServerError(f"{service.id}: a {service.driver} service cannot sleep")

    def wake(self, service: Service, meanwhile: Callable[[], None]) -> None:  # noqa: ARG002
        """Raises: ServerError, always."""
        raise ServerError(f"{service.id}: a {service.driver} service cannot sleep, nor wake")

    def is_sleeping(self, service: Service) -> bool | None:
        """Raises: ServerError, always."""
        raise ServerError(f"{service.id}: a {service.driver} service knows no sleep")

    def follow_models(self, service: Service, sink: Callable[[ModelState], None]) -> Closeable:  # noqa: ARG002
        """Nothing to follow."""
        from gpumod_tui.adapters.drivers._follow import Unfollowed

        return Unfollowed()
