"""The guard's units, and who may hold the port of a service that it stands before. Pure."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from gpumod_tui.core.models import ActiveState, Listener, Service, UnitState

GUARD_ID: Final = "gpumod-guard"
"""No service may be named so."""
GUARD_SOCKET: Final = f"{GUARD_ID}.socket"
GUARD_SERVICE: Final = f"{GUARD_ID}.service"
GUARD_UNITS: Final = (GUARD_SOCKET, GUARD_SERVICE)
_USER_MANAGER: Final = "init.scope"
"""What systemd's user manager, who holds the port of a socket unit, runs in."""


class GuardAction(StrEnum):
    """What the guard lets pass only where config.yaml says so."""

    DOWNLOAD = "download"
    DELETE = "delete"
    RELOAD = "reload"


def guarded_ports(services: Iterable[Service]) -> tuple[int, ...]:
    """The ports that the guard holds, each once: several services may share one."""
    return tuple(sorted({service.port for service in services if service.is_guarded and service.port is not None}))


def may_share_port(one: Service, other: Service) -> bool:
    """Behind the guard, which tells servers apart by their models, several may."""
    return one.is_guarded and other.is_guarded


def is_guards(listener: Listener) -> bool:
    """Whether it is the guard, or the user manager that holds the port for it.

    A user manager with capabilities of its own lets nobody see its descriptors: then only the socket's owner is known.
    """
    if listener.pid is None:
        return listener.is_ours
    return listener.unit in (_USER_MANAGER, GUARD_SERVICE)


def port_fault(port: int, socket: UnitState, listeners: Iterable[Listener]) -> tuple[str, str] | None:
    """Why requests to a guarded port do not reach the guard, and what helps; None: they do, or will.

    A socket unit that is down is started by the first server behind it.
    """
    if socket.load_state != "loaded":
        return f"{GUARD_SOCKET} is not installed ({socket.load_state})", "gpumod template install --yes"
    if socket.active_state is ActiveState.ACTIVE and not any(map(is_guards, listeners)):
        return f"{GUARD_SOCKET} does not hold port {port}", "gpumod template install --yes"
    return None


def strangers(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
    """Who keeps the guard from the port."""
    return tuple(listener for listener in listeners if not is_guards(listener))
