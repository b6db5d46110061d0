"""A small HTTP client for servers on this host: JSON, short limits, the service's API key."""

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import Health, Probe, Service

if TYPE_CHECKING:
    from gpumod_tui.adapters.servers.connection import Address, Connection

CONNECT_S: Final = 0.5
READ_S: Final = 2.0
_DETAIL_CHARS: Final = 300

Sockets = Callable[[str], Path]
"""The unix socket of the service of an id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it is a success."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; None where it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def message(self) -> str:
        """What it says of its error, for people."""
        data = self.json()
        error = data.get("error", data.get("detail")) if isinstance(data, dict) else None
        said = error.get("message") if isinstance(error, dict) else error
        text = str(said) if said else self.body.decode(errors="replace").strip()
        return text[:_DETAIL_CHARS] or f"HTTP {self.status}"


class Http:
    """Reaches servers: a guarded one through its unix socket, past the guard, every other one on its port.

    Through the guard a probe would tell that the guard lives, and a load would be asked for twice.
    """

    def __init__(self, sockets: Sockets | None = None) -> None:
        """`sockets`: where the guarded service of an id listens; None: all listen on their ports."""
        self._sockets = sockets

    def address(self, service: Service) -> "Address":
        """Raises: ServerError for a service without a port."""
        if service.port is None:
            raise ServerError(f"{service.id} has no port to ask", hint="give its preset a port")
        if service.is_guarded and self._sockets is not None:
            return self._sockets(service.id)
        return service.port

    def connect(
        self,
        service: Service,
        *,
        connect_s: float = CONNECT_S,
        read_s: float | None,
        idle_s: float = 0.0,
        meanwhile: Callable[[], None] | None = None,
    ) -> "Connection":
        """A connection that is not open yet. Raises: ServerError for a service without a port."""
        from gpumod_tui.adapters.servers.connection import Connection

        address = self.address(service)
        return Connection(address, connect_s=connect_s, read_s=read_s, idle_s=idle_s, meanwhile=meanwhile)

    def request(
        self,
        service: Service,
        path: str,
        *,
        post: object = None,
        read_s: float = READ_S,
        meanwhile: Callable[[], None] | None = None,
    ) -> Answer:
        """One GET, or a POST of JSON. `meanwhile` is called while the answer is waited for; what it raises ends that.

        Raises: ServerError when no HTTP answer came; its status is None.
        """
        from http.client import HTTPException

        connection = self.connect(service, read_s=read_s, meanwhile=meanwhile)
        body = None if post is None else json.dumps(post).encode()
        try:
            status, answer = connection.exchange("GET" if post is None else "POST", path, body, headers(service))
        except (OSError, HTTPException) as error:
            raise no_answer(service, self.address(service), error) from error
        return Answer(status, answer)

    def probe_path(self, service: Service, path: str) -> Probe:
        """READY on success, LOADING on any other answer, DOWN without one."""
        try:
            answer = self.request(service, path)
        except ServerError as error:
            return Probe(Health.DOWN, str(error))
        if answer.ok:
            return Probe(Health.READY)
        return Probe(Health.LOADING, f"{path}: HTTP {answer.status}: {answer.message}")

    def probe_port(self, service: Service) -> Probe:
        """READY when the port accepts a connection, or when there is no port to ask."""
        if service.port is None:
            return Probe(Health.READY, "no port to ask")
        try:
            socket.create_connection(("127.0.0.1", service.port), CONNECT_S).close()
        except OSError as error:
            return Probe(Health.DOWN, str(no_answer(service, service.port, error)))
        return Probe(Health.READY)


def headers(service: Service) -> dict[str, str]:
    """With the API key as its file has it now. Raises: ServerError."""
    found = {"Accept": "application/json", "Content-Type": "application/json", "Connection": "close"}
    if service.api_key_file is not None:
        found["Authorization"] = f"Bearer {_key(service.api_key_file)}"
    return found


def no_answer(service: Service, address: "Address", error: Exception) -> ServerError:
    """The error for a server that did not answer in HTTP."""
    where = f"{service.id} on port {address}" if isinstance(address, int) else f"{service.id} on {address}"
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return ServerError(f"{where}: connection refused")
    if isinstance(error, TimeoutError):
        return ServerError(f"{where}: no answer in time")
    return ServerError(f"{where}: {str(error) or type(error).__name__}")


def refusal(service: Service, what: str, answer: Answer) -> ServerError:
    """The error for an answer that is none that was hoped for."""
    hint = "check api_key_file of its preset" if answer.status in (401, 403) else ""
    return ServerError(
        f"{service.id}: {what}: {answer.message} (HTTP {answer.status})", status=answer.status, hint=hint
    )


def _key(path: Path) -> str:
    """The first key of the file: llama-server accepts several, one a line."""
    try:
        lines = path.read_text(encoding="ascii").split()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not plain ASCII"
        raise ServerError(f"cannot read the API key in {path}: {reason}") from error
    if not lines:
        raise ServerError(f"cannot read the API key in {path}: the file is empty")
    return lines[0]
