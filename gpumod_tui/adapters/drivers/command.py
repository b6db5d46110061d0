"""Any other program that listens on a port, or on none."""

from gpumod_tui.adapters.drivers.fastapi import FastApiDriver
from gpumod_tui.core.models import Health, Probe, Service

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
