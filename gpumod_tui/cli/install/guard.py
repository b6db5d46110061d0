"""Applies changed unit files of the guard: enables, starts, restarts it where its ports changed, or removes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from gpumod_tui.cli.install.plan import Action, Entry
from gpumod_tui.core.errors import UnitRefused
from gpumod_tui.core.models import ActiveState, Listener
from gpumod_tui.core.units.guard import GUARD_SERVICE, GUARD_SOCKET, guarded_ports, is_guards, strangers
from gpumod_tui.core.units.managed import service_id

if TYPE_CHECKING:
    from gpumod_tui.wiring import RealHost

STOP_S: Final = 45.0
"""The guard's own limit is 40 s: streams that it serves end within 30."""
START_S: Final = 5.0
_LOOK_S: Final = 0.05


def take_guard_down(host: RealHost, entries: Sequence[Entry]) -> list[str]:
    """Before its files are removed; what was done, in sentences. Raises: GpumodError."""
    if not any(entry.action is Action.REMOVE and entry.unit == GUARD_SOCKET for entry in entries):
        return []
    host.units.disable(GUARD_SOCKET)
    _stop(host)
    return [f"{GUARD_SOCKET}: disabled and stopped: no service needs it any more"]


def bring_guard_up(host: RealHost, entries: Sequence[Entry]) -> list[str]:
    """After its files were written and read; what was done, in sentences. Raises: GpumodError."""
    of_unit = {entry.unit: entry for entry in entries if entry.service is None and entry.wanted is not None}
    if GUARD_SOCKET not in of_unit:
        return []
    said = []
    if host.units.enable(GUARD_SOCKET):
        host.units.reload()
        said.append(f"{GUARD_SOCKET}: enabled")
    states = host.units.states((GUARD_SOCKET, GUARD_SERVICE))
    listening = states[GUARD_SOCKET].active_state is ActiveState.ACTIVE
    if listening and not of_unit[GUARD_SOCKET].written and _holds_all(host):
        changed = any(entry.written for entry in entries if entry.unit == GUARD_SERVICE or _is_guarded(entry))
        if changed and not states[GUARD_SERVICE].is_down:
            # Its socket holds the ports meanwhile, and starts it again with the next connection.
            _stop(host, GUARD_SERVICE)
            said.append(f"{GUARD_SERVICE}: restarted, to know what changed; what it served was finished first")
        return said
    if listening:
        said.append(f"{GUARD_SOCKET}: restarted, since its ports changed; what was being served was finished first")
    # systemd refuses to start a socket whose service runs.
    _stop(host)
    _start(host)
    ports = ", ".join(map(str, _ports(host)))
    return [*said, f"{GUARD_SOCKET}: listens on 127.0.0.1, port {ports}"]


def _stop(host: RealHost, *units: str) -> None:
    going = units or (GUARD_SOCKET, GUARD_SERVICE)
    for unit in going:
        host.units.stop(unit)

    def gone() -> bool:
        return all(state.is_down for state in host.units.states(going).values())

    if not _wait(host, gone, STOP_S):
        raise UnitRefused(
            f"{' and '.join(going)} did not stop within {STOP_S:g} s", hint=f"systemctl --user status {going[-1]}"
        )


def _start(host: RealHost) -> None:
    host.units.reset_failed(GUARD_SOCKET)
    host.units.start(GUARD_SOCKET)

    def settled() -> bool:
        state = host.units.states((GUARD_SOCKET,))[GUARD_SOCKET]
        return not state.job_pending and state.active_state in (ActiveState.ACTIVE, ActiveState.FAILED)

    _wait(host, settled, START_S)
    if host.units.states((GUARD_SOCKET,))[GUARD_SOCKET].active_state is ActiveState.ACTIVE:
        return
    held = [listener for port in _ports(host) for listener in strangers(host.processes.listeners(port))]
    if not held:
        raise UnitRefused(f"{GUARD_SOCKET} did not start", hint=f"journalctl --user -u {GUARD_SOCKET} --no-pager -n 20")
    raise UnitRefused(
        f"{GUARD_SOCKET} could not take its ports: {'; '.join(map(_holding, held))}", hint=_advice(host, held)
    )


def _holding(listener: Listener) -> str:
    return f"port {listener.port} is held by {listener}"


def _advice(host: RealHost, held: Iterable[Listener]) -> str:
    """A server from before the guard gives up its port when it is restarted, and that starts the socket."""
    ours = sorted({service_id(one.unit) for one in held if one.unit and service_id(one.unit) in host.registry.services})
    if ours:
        return "; ".join(f"gpumod service restart {name}" for name in ours) + ": it then leaves the port to the guard"
    return f"stop it, or give the service another port; then systemctl --user start {GUARD_SOCKET}"


def _is_guarded(entry: Entry) -> bool:
    return entry.service is not None and entry.service.is_guarded


def _holds_all(host: RealHost) -> bool:
    """False where an installation was interrupted between writing and restarting."""
    return all(any(map(is_guards, host.processes.listeners(port))) for port in _ports(host))


def _ports(host: RealHost) -> tuple[int, ...]:
    return guarded_ports(host.registry.services.values())


def _wait(host: RealHost, check: Callable[[], bool], limit_s: float) -> bool:
    end = host.clock.monotonic() + limit_s
    while not check():
        if host.clock.monotonic() >= end:
            return False
        host.clock.wait(threading.Event(), _LOOK_S)
    return True
