"""llama-server, as a router that loads models on request or with one model for its life."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpumod_tui.adapters.servers.http import Http, refusal
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import Health, ModelState, ModelStatus, Probe, Service

if TYPE_CHECKING:
    from gpumod_tui.core.ports import Closeable

_BEGIN_S: Final = 30.0
"""A load answers at once, but for a model that it has to evict first (its stop timeout is 10 s)."""
_END_S: Final = 10.0
"""An unload answers at once."""
_BEGUN: Final = (ModelStatus.LOADING, ModelStatus.LOADED)
_RUNNING: Final = (*_BEGUN, ModelStatus.SLEEPING)
_ENDED: Final = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)


class LlamaCppDriver:
    """The port ServerDriver for llama-server."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def probe(self, service: Service) -> Probe:
        """A router is READY whatever its models do; a single-model server when its model is loaded."""
        return self._http.probe_path(service, service.health_endpoint or "/health")

    def models(self, service: Service) -> tuple[ModelState, ...]:
        """A router's models with their states, or the one model. Raises: ServerError."""
        if not service.is_router:
            return self._single(service)
        answer = self._http.request(service, "/models")
        if not answer.ok:
            raise refusal(service, "GET /models", answer)
        data = answer.json()
        entries = data.get("data") if isinstance(data, dict) else None
        if not isinstance(entries, list):
            raise ServerError(f"{service.id}: GET /models: no list of models in the answer", status=answer.status)
        return tuple(_model(entry) for entry in entries if isinstance(entry, dict) and "id" in entry)

    def load(self, service: Service, model: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Ask for a load; returns when it has begun (or the model is there already). Raises: ServerError."""
        answer = self._http.request(
            service, "/models/load", post={"model": model}, read_s=_BEGIN_S, meanwhile=meanwhile
        )
        # A model that is just being unloaded, or asleep, is "already running" too, and will not be loaded.
        if answer.ok or (answer.status == 400 and self._status(service, model) in _BEGUN):
            return
        raise refusal(service, f"load of {model}", answer)

    def unload(self, service: Service, model: str) -> None:
        """Ask for an unload; returns when it has begun. Raises: ServerError."""
        answer = self._http.request(service, "/models/unload", post={"model": model}, read_s=_END_S)
        if answer.ok or (answer.status == 400 and self._status(service, model) in _ENDED):
            return
        raise refusal(service, f"unload of {model}", answer)

    def sleep(self, service: Service, meanwhile: Callable[[], None]) -> None:
        """Unload all models; returns when that has begun. Raises: ServerError."""
        for state in self._running(service, "sleep"):
            meanwhile()
            self.unload(service, state.id)

    def wake(self, service: Service, meanwhile: Callable[[], None]) -> None:  # noqa: ARG002
        """Nothing: its models are loaded as they are asked for. Raises: ServerError for a single-model server."""
        self._check_router(service, "wake")

    def is_sleeping(self, service: Service) -> bool | None:
        """Whether none of its models is in memory or on its way there. Raises: ServerError."""
        return not self._running(service, "sleep")

    def _running(self, service: Service, what: str) -> list[ModelState]:
        self._check_router(service, what)
        return [state for state in self.models(service) if state.status in _RUNNING]

    @staticmethod
    def _check_router(service: Service, what: str) -> None:
        if not service.is_router:
            raise ServerError(f"{service.id}: a llama-server with one model cannot {what}")

    def follow_models(self, service: Service, sink: Callable[[ModelState], None]) -> Closeable:
        """Hand changes of models and load progress to `sink` from a thread; reconnects until closed."""
        from gpumod_tui.adapters.servers.follow import PollFollower, StreamFollower

        if service.is_router:
            return StreamFollower(self._http, service, lambda: self.models(service), sink)
        return PollFollower(service.id, lambda: self.models(service), sink)

    def _status(self, service: Service, model: str) -> ModelStatus | None:
        return next((state.status for state in self.models(service) if state.id == model), None)

    def _single(self, service: Service) -> tuple[ModelState, ...]:
        probe = self.probe(service)
        if probe.health is Health.DOWN:
            raise ServerError(probe.detail)
        status = ModelStatus.LOADED if probe.health is Health.READY else ModelStatus.LOADING
        name = service.model_id or (service.model_path.stem if service.model_path else service.id)
        return (ModelState(name, status, path=service.model_path),)


def _model(entry: dict[str, Any]) -> ModelState:
    status = entry.get("status")
    status = status if isinstance(status, dict) else {}
    arguments = status.get("args")
    code = status.get("exit_code")
    return ModelState(
        id=str(entry["id"]),
        status=ModelStatus(status.get("value", "unknown")),
        exit_code=code if isinstance(code, int) else None,
        path=_path(arguments if isinstance(arguments, list) else []),
    )


def _path(arguments: list[Any]) -> Path | None:
    """The model file: the router itself tells it only in the arguments of the child it would start."""
    for flag, value in itertools.pairwise(arguments):
        if flag in ("--model", "-m"):
            return Path(str(value))
    return None
