"""vLLM: one model for its life, loaded before it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gpumod_tui.adapters.servers.http import Http, refusal
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import Health, ModelState, ModelStatus, Probe, Service
from gpumod_tui.core.servers.vllm import Request, sleep_request, wake_requests

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable


class VllmDriver:
    """The port ServerDriver for vLLM."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def probe(self, service: Service) -> Probe:
        """READY when both /health and /v1/models answer; DEAD when its engine is: 503 is never "not yet" here."""
        try:
            health = self._http.request(service, service.health_endpoint or "/health")
            if health.status == 503:
                return Probe(Health.DEAD, f"its engine is dead: {health.message}")
            answer = self._http.request(service, "/v1/models") if health.ok else health
        except ServerError as error:
            return Probe(Health.DOWN, str(error))
        if answer.ok:
            return Probe(Health.READY)
        return Probe(Health.LOADING, str(refusal(service, "not ready", answer)))

    def models(self, service: Service) -> tuple[ModelState, ...]:
        """The names it serves. Raises: ServerError."""
        answer = self._http.request(service, "/v1/models")
        if not answer.ok:
            raise refusal(service, "GET /v1/models", answer)
        data = answer.json()
        entries = data.get("data") if isinstance(data, dict) else None
        names = [entry["id"] for entry in entries or () if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
        asleep = service.can_sleep and self.is_sleeping(service)
        return tuple(ModelState(name, ModelStatus.SLEEPING if asleep else ModelStatus.LOADED) for name in names)

    def load(self, service: Service, model: str, meanwhile: Callable[[], None] | None = None) -> None:  # noqa: ARG002
        """Raises: ServerError, always."""
        raise ServerError(f"{service.id}: vLLM serves the model it was started with; {model} cannot be loaded into it")

    def unload(self, service: Service, model: str) -> None:
        """Raises: ServerError, always."""
        raise ServerError(
            f"{service.id}: vLLM cannot unload {model} and run on", hint=f"gpumod service stop {service.id}"
        )

    def sleep(self, service: Service, meanwhile: Callable[[], None]) -> None:
        """Returns when it says that it sleeps. Raises: ServerError."""
        self._order(service, [sleep_request(service.sleep_level)], service.stop_timeout_s, meanwhile)

    def wake(self, service: Service, meanwhile: Callable[[], None]) -> None:
        """Returns when it says that it is awake. Raises: ServerError."""
        self._order(service, wake_requests(service.sleep_level), service.startup_timeout_s, meanwhile)

    def _order(
        self, service: Service, requests: Sequence[Request], limit_s: float, meanwhile: Callable[[], None]
    ) -> None:
        end = time.monotonic() + limit_s
        for path, data in requests:
            left_s = max(end - time.monotonic(), 0.1)
            answer = self._http.request(service, path, post=dict(data), read_s=left_s, meanwhile=meanwhile)
            if not answer.ok:
                raise refusal(service, f"POST {path}", answer)

    def is_sleeping(self, service: Service) -> bool | None:
        """False also where it was started without sleep; None: its answer is none. Raises: ServerError."""
        answer = self._http.request(service, "/is_sleeping")
        if answer.status == 404:
            return False
        data = answer.json() if answer.ok else None
        asleep = data.get("is_sleeping") if isinstance(data, dict) else None
        return asleep if isinstance(asleep, bool) else None

    def follow_models(self, service: Service, sink: Callable[[ModelState], None]) -> Closeable:  # noqa: ARG002
        """Nothing to follow: its models change with its life only."""
        from gpumod_tui.adapters.servers.follow import Unfollowed

        return Unfollowed()
