"""Who can reach the servers from outside, and who sits on their ports."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from gpumod_tui.core.doctor.facts import Finding, LoadedUnit, OpenSocket, OpenSockets, error, fine, warning
from gpumod_tui.core.models import Listener, Service
from gpumod_tui.core.text import number_of
from gpumod_tui.core.units.addresses import is_loopback
from gpumod_tui.core.units.guard import GUARD_SERVICE, GUARD_SOCKET, is_guards

_SOCKETS: Final = "sockets"
_PORTS: Final = "ports"


def check_sockets(
    pids_by_unit: Mapping[str, Iterable[int]],
    look: Callable[[Iterable[int]], OpenSockets],
    command_of: Callable[[int], str],
) -> Iterator[Finding]:
    """Every open socket of the managed units' processes."""
    count = units = 0
    is_clean = True
    for unit, pids in pids_by_unit.items():
        found = look(pids)
        units += bool(found.sockets)
        count += len(found.sockets)
        for pid in found.unreadable:
            is_clean = False
            yield warning(
                _SOCKETS,
                f"{unit}: the sockets of {command_of(pid)} pid {pid} cannot be read",
                "whether it can be reached from outside is unknown",
                f"sudo ss -ltnup | grep pid={pid},",
            )
        for one in found.sockets:
            if not is_loopback(one.address):
                is_clean = False
                yield _exposed(unit, one, command_of(one.pid))
    if is_clean:
        yield fine(
            _SOCKETS, f"open sockets: {count}, of {units} units, all on loopback" if count else "no open sockets"
        )


def _exposed(unit: str, one: OpenSocket, command: str) -> Finding:
    where = f"[{one.address}]:{one.port}" if ":" in one.address else f"{one.address}:{one.port}"
    if one.protocol != "tcp":
        return warning(
            _SOCKETS,
            f"{unit}: {command} pid {one.pid} takes UDP on {where}, beyond loopback",
            "other hosts can send to it",
            f"if that is not meant: systemctl --user stop {unit}",
        )
    return error(
        _SOCKETS,
        f"{unit}: {command} pid {one.pid} listens on {where}, beyond loopback",
        "other hosts can use it, and can make VRAM grow without asking",
        f"systemctl --user stop {unit}; systemctl --user cat {unit} shows what binds it there: let it be 127.0.0.1",
    )


def check_guard(socket: LoadedUnit, *, is_up: bool) -> Iterator[Finding]:
    """What the guard's socket unit listens on, also while no guard runs; `is_up`: it does so now."""
    if socket.load_state != "loaded":
        return
    beyond = [text for text in socket.listens if not text.startswith("/") and not is_loopback(_host(text))]
    for text in beyond:
        yield error(
            _SOCKETS,
            f"{GUARD_SOCKET} listens on {text}, beyond loopback",
            "other hosts can reach every router behind the guard",
            f"gpumod template install --force --yes; systemctl --user restart {GUARD_SOCKET}",
        )
    if not is_up:
        yield warning(
            _SOCKETS,
            f"{GUARD_SOCKET} is not active",
            "requests to the routers behind the guard are refused",
            f"systemctl --user start {GUARD_SOCKET}",
        )
    elif not beyond:
        yield fine(_SOCKETS, f"{GUARD_SOCKET} listens on {', '.join(socket.listens) or 'nothing'}")


def _host(text: str) -> str:
    """`[::1]:7070` → `::1`; a port alone means all addresses."""
    host, colon, _ = text.rpartition(":")
    return host.strip("[]") if colon else ""


def check_ports(
    services: Iterable[Service],
    installed: Collection[str],
    guarded_ports: Collection[int],
    listeners: Callable[[int], Sequence[Listener]],
) -> Iterator[Finding]:
    """Each port of the catalog is free, or held by a service it belongs to or by the guard.

    `installed`: ids of services with a unit file; `guarded_ports`: those that the guard's socket unit holds.
    """
    by_port: dict[int, list[Service]] = {}
    for service in services:
        if service.port is not None:
            by_port.setdefault(service.port, []).append(service)
    free = 0
    for port, owners in sorted(by_port.items()):
        allowed = {owner.unit for owner in owners} | {GUARD_SERVICE}
        strangers = [
            one for one in listeners(port) if one.unit not in allowed and not (port in guarded_ports and is_guards(one))
        ]
        free += not strangers
        names = ", ".join(owner.id for owner in owners)
        for one in strangers:
            say = error if any(owner.id in installed for owner in owners) else warning
            yield say(
                _PORTS,
                f"port {port} of {names} is held by {one}",
                "the service cannot start, or requests meant for it go to somebody else",
                f"sudo ss -ltnp sport = :{port}"
                if one.pid is None
                else f"systemctl --user stop {one.unit}"
                if one.unit and one.unit.endswith(".service")
                else f"end it (kill {one.pid}), or set another port in the preset",
            )
    if by_port and free == len(by_port):
        yield fine(_PORTS, f"ports of the catalog: {len(by_port)}, each free or held by whom it belongs to")


def ports_of(socket: LoadedUnit) -> frozenset[int]:
    """The TCP ports that a socket unit holds."""
    ports = (number_of(text.rpartition(":")[2]) for text in socket.listens)
    return frozenset(port for port in ports if port is not None)
