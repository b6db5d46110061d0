"""The played adapters: NVML, systemd, /proc and unit files of the played host."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from signal import SIGKILL

from gpumod_tui.core.errors import GpuUnavailable, NotPermitted, SystemdUnavailable, UnitMissing, UnitRefused
from gpumod_tui.core.models import (
    ActiveState,
    GpuProcess,
    GpuReading,
    GpuSample,
    Listener,
    ProcessInfo,
    Service,
    UnitState,
)
from gpumod_tui.core.text import GIB
from gpumod_tui.core.units.guard import GUARD_SOCKET
from gpumod_tui.demo.machine import Machine
from gpumod_tui.demo.unit_text import unit_text
from gpumod_tui.demo.world import OPERATOR, RESERVED_BYTES, TOTAL_BYTES, Card, World


class DemoGpus:
    """Satisfies the Gpus port."""

    def __init__(self, world: World, load_percent: Callable[[int], int]) -> None:
        self._world = world
        self._load_percent = load_percent
        self.error: str | None = None
        """Set: NVML as a whole cannot be read, and why."""
        self.tells_processes = True
        """False: memory by process is N/A, as on some drivers."""

    def read(self, *, processes: bool) -> GpuReading:
        """Raises: GpuUnavailable."""
        with self._world.turn():
            if self.error is not None:
                raise GpuUnavailable(self.error, hint="nvidia-smi shows what is wrong")
            now = self._world.clock.time()
            return GpuReading(now, "580.65.06", tuple(self._sample(card, processes) for card in self._world.cards))

    def _sample(self, card: Card, with_processes: bool) -> GpuSample:
        if card.error is not None:
            return GpuSample(card.index, uuid=f"GPU-played-{card.index}", error=card.error, xids=card.xids)
        taken = self._world.taken_bytes(card.index)
        load = self._load_percent(card.index)
        power = 24.0 + 3.9 * load
        return GpuSample(
            index=card.index,
            uuid=f"GPU-played-{card.index}",
            name="NVIDIA GeForce RTX 4090",
            total_bytes=TOTAL_BYTES,
            free_bytes=max(0, TOTAL_BYTES - RESERVED_BYTES - taken),
            used_bytes=taken,
            reserved_bytes=RESERVED_BYTES,
            utilization_percent=load,
            temperature_c=36 + load * 28 // 100,
            power_w=power,
            power_limit_w=450.0,
            throttle_reasons=("power cap",) if power > 400 else (),
            processes=self._processes(card.index) if with_processes else None,
            xids=card.xids,
            ecc_errors=card.ecc_errors,
        )

    def _processes(self, gpu: int) -> tuple[GpuProcess, ...]:
        return tuple(
            GpuProcess(process.pid, process.held[gpu] if self.tells_processes else None)
            for process in self._world.processes.values()
            if process.held.get(gpu)
        )


class ChangeSubscription:
    """Takes a callback off the list when it is closed."""

    def __init__(self, entries: list["ChangeSubscription"], callback: Callable[[], None]) -> None:
        self._entries = entries
        self.callback = callback
        entries.append(self)

    def close(self) -> None:
        """No call after this."""
        if self in self._entries:
            self._entries.remove(self)


class DemoUnits:
    """Satisfies the Units port."""

    def __init__(self, world: World, machines: Mapping[str, Machine]) -> None:
        self._world = world
        self._machines = machines
        self._subscriptions: list[ChangeSubscription] = []
        self.error: str | None = None
        """Set: the user manager cannot be asked, and why."""
        self.calls: list[tuple[str, str]] = []
        """Every start, stop and kill, in order: (verb, unit)."""
        for machine in machines.values():
            machine.changed = self._tell

    def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """Raises: SystemdUnavailable."""
        with self._turn():
            return {unit: self._state(unit) for unit in units}

    def managed(self) -> tuple[str, ...]:
        """Raises: SystemdUnavailable."""
        with self._turn():
            return tuple(sorted(u for u, machine in self._machines.items() if not machine.state().is_down))

    def start(self, unit: str) -> None:
        """Raises: UnitMissing, UnitRefused, SystemdUnavailable."""
        with self._turn():
            self._asked("start", unit).start()

    def stop(self, unit: str) -> None:
        """Raises: UnitRefused, SystemdUnavailable."""
        with self._turn():
            self._asked("stop", unit).stop()

    def kill(self, unit: str, signal: int) -> None:
        """Send a signal to every process of its cgroup."""
        with self._turn():
            self.calls.append((f"kill {signal}", unit))
            if unit in self._machines:
                self._machines[unit].kill(signal)

    def reset_failed(self, unit: str) -> None:
        """Clear a failed state."""
        with self._turn():
            if unit in self._machines:
                self._machines[unit].reset_failed()

    def reload(self) -> None:
        """Raises: SystemdUnavailable."""
        self.states(())

    def enable(self, unit: str) -> bool:
        """Nothing outlives this machine, but it is remembered. Raises: UnitMissing, UnitRefused, SystemdUnavailable."""
        with self._turn():
            machine = self._asked("enable", unit)
            before, machine.script.enabled = machine.script.enabled, True
            return not before

    def disable(self, unit: str) -> bool:
        """Raises: UnitMissing, UnitRefused, SystemdUnavailable."""
        with self._turn():
            machine = self._asked("disable", unit)
            before, machine.script.enabled = machine.script.enabled, False
            return before

    def file_states(self, units: Iterable[str]) -> dict[str, str]:
        """Raises: SystemdUnavailable."""
        with self._turn():
            found = {unit: self._machines[unit] for unit in units if unit in self._machines}
            return {
                unit: "enabled" if machine.script.enabled else "static"
                for unit, machine in found.items()
                if machine.script.installed
            }

    def show(self, unit: str) -> dict[str, str]:
        """What systemd would print, as far as it is played. Raises: SystemdUnavailable."""
        with self._turn():
            return self._machines[unit].properties() if unit in self._machines else {}

    def on_change(self, callback: Callable[[], None]) -> ChangeSubscription:
        """Call back after any unit changed."""
        return ChangeSubscription(self._subscriptions, callback)

    def _state(self, unit: str) -> UnitState:
        if unit == GUARD_SOCKET:
            return UnitState(unit, active_state=ActiveState.ACTIVE, sub_state="running")
        return self._machines[unit].state() if unit in self._machines else UnitState(unit, "not-found")

    def _asked(self, verb: str, unit: str) -> Machine:
        self.calls.append((verb, unit))
        machine = self._machines.get(unit)
        if machine is None or not machine.script.installed:
            raise UnitMissing(unit)
        if machine.script.refuses:
            raise UnitRefused(f"{unit}: {machine.script.refuses}")
        return machine

    def _turn(self) -> AbstractContextManager[None]:
        if self.error is not None:
            raise SystemdUnavailable(self.error, hint="systemctl --user status shows what is wrong")
        return self._world.turn()

    def _tell(self) -> None:
        for subscription in tuple(self._subscriptions):
            self._world.tell(subscription.callback)


class DemoProcesses:
    """Satisfies the Processes port."""

    def __init__(self, world: World, machines: Mapping[str, Machine]) -> None:
        self._world = world
        self._machines = machines
        self.foreign_listeners: dict[int, Listener] = {}
        """Who else listens, by port."""
        self.available_bytes: int | None = 48 * GIB

    def unit_of(self, pid: int) -> str | None:
        """The unit of a living process."""
        with self._world.turn():
            process = self._world.processes.get(pid)
            return process.unit if process else None

    def describe(self, pid: int) -> ProcessInfo | None:
        """None: it is gone."""
        with self._world.turn():
            process = self._world.processes.get(pid)
            if process is None:
                return None
            return ProcessInfo(
                pid,
                process.command,
                process.user,
                process.state,
                process.unit,
                started_at=process.since,
                is_ours=process.user == OPERATOR,
            )

    def in_cgroup(self, control_group: str) -> tuple[int, ...]:
        """Pids of the unit that the path ends in."""
        if not control_group:
            return ()
        with self._world.turn():
            return tuple(process.pid for process in self._world.of_unit(control_group.rsplit("/", 1)[-1]))

    def arguments(self, pid: int) -> tuple[str, ...]:
        """A router's child names its model."""
        with self._world.turn():
            process = self._world.processes.get(pid)
            if process is None:
                return ()
            return (process.command, "--alias", process.serves) if process.serves else (process.command,)

    def variable(self, pid: int, name: str) -> str | None:  # noqa: ARG002
        """Nothing is told of them."""
        return None

    def start_time(self, pid: int) -> int | None:
        """Pids are never used twice here; this process counts as one of them."""
        with self._world.turn():
            return pid if pid in self._world.processes or pid == os.getpid() else None

    def signal(self, pid: int, start_time: int, number: int) -> bool:
        """False: it is gone. Raises: NotPermitted."""
        with self._world.turn():
            process = self._world.processes.get(pid)
            if process is None or start_time != pid:
                return False
            if process.user != OPERATOR:
                raise NotPermitted(f"pid {pid} belongs to another user")
            if number == SIGKILL or not process.ignores_term:
                self._world.after(0.2, lambda: self._world.end(process))
            return True

    def listeners(self, port: int) -> tuple[Listener, ...]:
        """A foreign one, the user manager that holds it for the guard, or the played server that is up."""
        with self._world.turn():
            if port in self.foreign_listeners:
                return (self.foreign_listeners[port],)
            if any(m.service.port == port and m.service.is_guarded for m in self._machines.values()):
                return (Listener(port, 1, "init.scope", "systemd"),)
            for machine in self._machines.values():
                pid = machine.state().main_pid
                if machine.service.port == port and machine.listens and pid is not None:
                    return (Listener(port, pid, machine.unit, "server"),)
            return ()

    def host_available_bytes(self) -> int | None:
        """MemAvailable."""
        return self.available_bytes


class DemoUnitFiles:
    """Satisfies the UnitFiles port."""

    def __init__(self, machines: Mapping[str, Machine]) -> None:
        self._machines = machines

    def stamped(self) -> tuple[str, ...]:
        """All installed units."""
        return tuple(sorted(unit for unit, machine in self._machines.items() if machine.script.installed))

    def text(self, unit: str) -> str | None:
        """As installed some time ago."""
        machine = self._machines.get(unit)
        return unit_text(machine.service, stop_s=20) if machine is not None and machine.script.installed else None

    def missing_files(self, service: Service, state: UnitState) -> tuple[str, ...]:  # noqa: ARG002
        """What the unit's script says."""
        machine = self._machines.get(service.unit)
        return machine.script.missing if machine else ()

    def unsafe(self, service: Service) -> tuple[str, ...]:  # noqa: ARG002
        """Nobody edits them."""
        return ()

    def file_bytes(self, service: Service) -> int | None:
        """Nine tenths of what is declared."""
        return None if service.vram_bytes is None else service.vram_bytes * 9 // 10
