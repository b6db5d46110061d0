"""What is done to a unit or a process besides switches: none of it makes VRAM grow or changes what a mode is."""

import signal
import threading
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import GpumodError, UnitRefused, UnknownName
from gpumod_tui.core.events import ActEnded
from gpumod_tui.core.units.managed import managed_units

END_S: Final = 5.0
"""How long a process may take to end after a signal, before it is said that it goes on."""
_POLL_S: Final = 0.05


class Verb(StrEnum):
    """What is done to a unit."""

    ENABLE = "enable"
    """Start it with the user manager, at login or at boot."""
    DISABLE = "disable"
    RESET_FAILED = "reset-failed"


@dataclass(frozen=True, slots=True)
class UnitAct:
    """Something done to the unit of a service."""

    verb: Verb
    service: str

    @property
    def label(self) -> str:
        """`enable glm-code`."""
        return f"{self.verb} {self.service}"


@dataclass(frozen=True, slots=True)
class EndProcess:
    """End a process of no managed unit."""

    pid: int
    start_time: int
    """With the pid it names the process for ever: a reused pid is not hit."""
    command: str
    force: bool = False
    """SIGKILL rather than SIGTERM."""

    @property
    def label(self) -> str:
        """`end python3 (pid 8123)`."""
        return f"{'kill' if self.force else 'end'} {self.command} (pid {self.pid})"


Act = UnitAct | EndProcess


def carry_out(host: Engine, act: Act) -> ActEnded:
    """Do it, and say how it ended; never raises."""
    try:
        done = _end_process(host, act) if isinstance(act, EndProcess) else _to_unit(host, act)
    except GpumodError as error:
        return ActEnded(act.label, False, str(error), error.hint, unknown=isinstance(error, UnknownName))
    except Exception as error:  # noqa: BLE001 a thread's exception is shown nowhere else
        return ActEnded(act.label, False, f"internal error: {type(error).__name__}: {error}", "please report this")
    return done


def _to_unit(host: Engine, act: UnitAct) -> ActEnded:
    unit = f"{act.service}.service"
    if unit not in managed_units(host):
        host.registry.service(act.service)
    if act.verb is Verb.RESET_FAILED:
        host.units.reset_failed(unit)
        return ActEnded(act.label, True, f"{act.service} does not count as failed any more")
    if act.verb is Verb.DISABLE:
        host.units.disable(unit)
        host.units.reload()
        return ActEnded(act.label, True, f"{act.service} is not started at login any more")
    host.units.enable(unit)
    host.units.reload()
    state = host.units.file_states([unit]).get(unit, "not known to systemd")
    if not state.startswith("enabled"):
        raise UnitRefused(
            f"{unit} cannot be enabled: it is {state}",
            hint=f"gpumod template install {act.service}",
        )
    return ActEnded(act.label, True, f"{act.service} is started at login from now on, if it fits then")


def _end_process(host: Engine, act: EndProcess) -> ActEnded:
    unit = host.processes.unit_of(act.pid)
    if unit is not None and unit in managed_units(host):
        return ActEnded(act.label, False, f"pid {act.pid} belongs to {unit}", "stop that unit")
    gone = f"{act.command} (pid {act.pid}) has ended"
    if not host.processes.signal(act.pid, act.start_time, signal.SIGKILL if act.force else signal.SIGTERM):
        return ActEnded(act.label, True, gone)
    never = threading.Event()
    end = host.clock.monotonic() + END_S
    while host.clock.monotonic() < end:
        if host.processes.start_time(act.pid) != act.start_time:
            return ActEnded(act.label, True, gone)
        host.clock.wait(never, _POLL_S)
    about = host.processes.describe(act.pid)
    kernel = "; it waits in the kernel (state D)" if about is not None and about.state == "D" else ""
    name = "SIGKILL" if act.force else "SIGTERM"
    return ActEnded(
        act.label,
        False,
        f"{act.command} (pid {act.pid}) goes on {END_S:g} s after {name}{kernel}",
        "dmesg shows why" if act.force else "SIGKILL ends it without asking",
        survivor=None if act.force else (act.pid, act.start_time),
    )
