"""Threads that follow a server's models: by its event stream, or by asking again and again."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final

from gpumod_tui.adapters.servers.http import Http, headers
from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import ModelState, ModelStatus, Service
from gpumod_tui.core.threads import Unexpected

if TYPE_CHECKING:
    from gpumod_tui.adapters.servers.connection import Connection

_POLL_S: Final = 0.5
_BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
_IDLE_S: Final = 30.0
"""The stream has no heartbeat: after this silence it is opened anew, and the models are asked for."""
_JOIN_S: Final = 5.0
_LINE_BYTES: Final = 1024 * 1024

Models = Callable[[], tuple[ModelState, ...]]
Sink = Callable[[ModelState], None]


class Unfollowed:
    """Nothing to follow: the server has no notion of models that come and go."""

    def close(self) -> None:
        """Nothing is held."""


class PollFollower:
    """Asks for the models every half second and hands on what changed."""

    def __init__(self, name: str, models: Models, sink: Sink) -> None:
        self._models = models
        self._sink = sink
        self._known: dict[str, ModelState] = {}
        self._unexpected = Unexpected()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gpumod-models-{name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; nothing is handed on afterwards."""
        self._closing.set()
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._hand_on_all()
            except ServerError:
                # The next server on this port is another one: what it has is news.
                self._known.clear()
            except Exception as error:  # noqa: BLE001 - a dead thread would let a load look as if it stood still
                self._known.clear()
                self._unexpected.tell(error)
            self._closing.wait(_POLL_S)

    def _hand_on_all(self) -> None:
        for state in self._models():
            self._hand_on(state)

    def _hand_on(self, state: ModelState) -> None:
        if self._known.get(state.id) != state and not self._closing.is_set():
            self._known[state.id] = state
            self._sink(state)


class StreamFollower(PollFollower):
    """Follows a router's event stream; asks for all models whenever it was opened anew."""

    def __init__(self, http: Http, service: Service, models: Models, sink: Sink) -> None:
        self._http = http
        self._service = service
        self._connection: Connection | None = None
        self._failures = 0
        super().__init__(service.id, models, sink)

    def close(self) -> None:
        """End it; nothing is handed on afterwards."""
        self._closing.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.interrupt()
        super().close()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                for event in self._events():
                    self._take(event)
                # A router ends its stream with its own end, and may be back before the next look finds it gone.
                self._known.clear()
            except TimeoutError:
                # Silence is no fault; whether the server is still the same is asked after the next connect.
                self._failures = 0
            except (ServerError, OSError, HTTPException):
                self._known.clear()
                self._failures += 1
            except Exception as error:  # noqa: BLE001 - a dead thread would let a load look as if it stood still
                self._known.clear()
                self._failures += 1
                self._unexpected.tell(error)
            self._closing.wait(_BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)])

    def _events(self) -> Iterator[dict[str, Any]]:
        """Events of one connection, the models asked for in between: after it stands, before the first is read."""
        connection = self._http.connect(self._service, read_s=None, idle_s=_IDLE_S)
        self._connection = connection
        try:
            connection.request("GET", "/models/sse", headers=headers(self._service))
            answer = connection.getresponse()
            self._hand_on_all()
            if answer.status != 200:
                # A router from before the stream: asking now and then is all there is.
                raise ServerError(f"GET /models/sse: HTTP {answer.status}", status=answer.status)
            self._failures = 0
            while not self._closing.is_set() and (line := answer.readline(_LINE_BYTES)):
                event = _event(line)
                if event is not None:
                    yield event
        finally:
            self._connection = None
            connection.close()

    def _take(self, event: dict[str, Any]) -> None:
        name, data = event.get("model"), event.get("data")
        if event.get("event") == "models_reload":
            self._hand_on_all()
        if not isinstance(name, str) or not isinstance(data, dict) or not isinstance(data.get("status"), str):
            return
        progress = data.get("progress")
        progress = progress if isinstance(progress, dict) else {}
        known = self._known.get(name, ModelState(name, ModelStatus.UNKNOWN))
        self._hand_on(
            replace(
                known,
                status=ModelStatus(data["status"]),
                exit_code=data.get("exit_code"),
                progress=progress.get("value"),
                stage=progress.get("current"),
            )
        )


def _event(line: bytes) -> dict[str, Any] | None:
    """The event of one `data:` line; None for all other lines."""
    if not line.startswith(b"data:"):
        return None
    try:
        event = json.loads(line[5:])
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
