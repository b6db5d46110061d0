"""A server of one's own with a health endpoint."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gpumod_tui.adapters.servers.http import Http
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import Health, ModelState, Probe, Service

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
        from gpumod_tui.adapters.servers.follow import Unfollowed

        return Unfollowed()


_DEFAULT = "/health"


class CommandDriver(FastApiDriver):
    """The port ServerDriver for a program that nothing is known of."""

    def probe(self, service: Service) -> Probe:
        """READY when its health endpoint says so; where it has none of its own, when the port accepts."""
        if service.port is None or service.health_endpoint in ("", _DEFAULT):
            return self._probe_unknown(service)
        return self._http.probe_path(service, service.health_endpoint)

    def _probe_unknown(self, service: Service) -> Probe:
        """The default endpoint is a guess: a server that speaks no HTTP, or knows no /health, is ready all the same."""
        port = self._http.probe_port(service)
        if port.health is not Health.READY or service.health_endpoint != _DEFAULT or service.port is None:
            return port
        probe = self._http.probe_path(service, _DEFAULT)
        return probe if "HTTP 503" in probe.detail else port
