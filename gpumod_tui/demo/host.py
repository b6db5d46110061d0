"""The played host: everything that wiring needs, and the strings that a test pulls."""

import os
from collections.abc import Callable, Iterable

from gpumod_tui.core.admission.commitments import Asker
from gpumod_tui.core.admission.controller import AdmissionController
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.host import Settings
from gpumod_tui.core.models import Listener, Service, Xid
from gpumod_tui.core.ports import Clock
from gpumod_tui.core.text import MIB
from gpumod_tui.core.vram.requirements import VramRequirements
from gpumod_tui.demo.activity import Activity, Pulse
from gpumod_tui.demo.catalog import demo_registry
from gpumod_tui.demo.clock import PlayedClock
from gpumod_tui.demo.journal import DemoJournal
from gpumod_tui.demo.ledger import MemoryLedger, MemoryPeaks, NoFiles
from gpumod_tui.demo.machine import Machine
from gpumod_tui.demo.modes import MemoryModes
from gpumod_tui.demo.past import played_past
from gpumod_tui.demo.ports import DemoGpus, DemoProcesses, DemoUnitFiles, DemoUnits
from gpumod_tui.demo.script import Script
from gpumod_tui.demo.servers import DemoServer
from gpumod_tui.demo.store import MemoryLoginMode, MemoryStore
from gpumod_tui.demo.unit_text import render_unit
from gpumod_tui.demo.world import World


class DemoHost:
    """A GPU box in memory.

    With a `PlayedClock` (the default) nothing takes real time; with a `RunningClock`, call `start()` so that things
    happen, and are told to followers, also while nobody asks.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        registry: ServiceRegistry | None = None,
        gpu_count: int = 1,
        running: Iterable[str] = (),
        activity: bool = False,
    ) -> None:
        """`running`: services that are ready, with their models loaded, from the first moment; `activity`: clients
        send requests now and then."""
        self.clock: Clock = clock or PlayedClock()
        self.registry = registry or demo_registry()
        self.mode_files = MemoryModes(self.registry)
        self.settings = Settings()
        self.store = MemoryStore(self.clock)
        self.login_mode = MemoryLoginMode()
        self.world = World(self.clock, gpu_count)
        began = self.clock.time()
        self.journal = DemoJournal(self.world, lambda: played_past(self.registry.services.values(), began))
        self._machines = {
            service.unit: Machine(service, self.world, self.journal, self._port_taken)
            for service in self.registry.services.values()
        }
        self.units = DemoUnits(self.world, self._machines)
        self.processes = DemoProcesses(self.world, self._machines)
        self.unit_files = DemoUnitFiles(self._machines)
        self.render_unit = render_unit
        self._servers = {
            unit: DemoServer(machine, self.world, self._answering) for unit, machine in self._machines.items()
        }
        self.needs = VramRequirements(NoFiles(), MemoryPeaks(), NoFiles())
        self.ledger = MemoryLedger()
        self.admission = AdmissionController(self, self.needs, self.ledger, Asker(os.getpid(), os.getpid()))
        self._activity = Activity(self.world, self._machines, self._servers)
        self.gpus = DemoGpus(self.world, self._activity.load_percent)
        self._pulse = Pulse(self.world)
        if isinstance(self.clock, PlayedClock):
            self.clock.attach(self.world)
        for service_id in running:
            self._bring_up(service_id)
        if activity:
            self._activity.start()

    def start(self) -> None:
        """Let things happen by themselves; for a clock that runs."""
        self._pulse.start()

    def close(self) -> None:
        """End what `start` began; idempotent."""
        self._pulse.close()

    def reload(self) -> ServiceRegistry:
        """Take what was saved into the catalog."""
        self.registry = self.mode_files.registry()
        return self.registry

    def drivers(self, service: Service) -> DemoServer:
        """The driver of a service."""
        return self._servers[service.unit]

    @property
    def overcommits(self) -> int:
        """Moments of used > total."""
        return self.world.overcommits

    def script(self, service_id: str) -> Script:
        """How this service's unit behaves; change its fields."""
        return self._machines[f"{service_id}.service"].script

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something so many seconds from now."""
        self.world.after(seconds, action)

    def die(self, service_id: str, status: int = 1) -> None:
        """The main process of a service ends now."""
        with self.world.turn():
            self._machines[f"{service_id}.service"].die(status)

    def hold_release(self) -> None:
        """From now on the memory of processes that end stays taken."""
        self.world.hold_release = True

    def let_go(self) -> None:
        """Take `hold_release` back and free what it withheld."""
        with self.world.turn():
            self.world.let_go()

    def foreign(
        self,
        mib: int,
        *,
        gpu: int = 0,
        command: str = "python3",
        user: str = "sam",
        ignores_term: bool = False,
    ) -> int:
        """A process of no managed unit takes memory; returns its pid."""
        with self.world.turn():
            process = self.world.spawn(command, None, user)
            process.ignores_term = ignores_term
            self.world.hold(process, mib * MIB, (gpu,))
            return process.pid

    def end_foreign(self, pid: int) -> None:
        """That process ends."""
        with self.world.turn():
            if pid in self.world.processes:
                self.world.end(self.world.processes[pid])

    def take_port(self, port: int) -> None:
        """Somebody else listens there."""
        self.processes.foreign_listeners[port] = Listener(port, 999, None, "nginx")

    def free_port(self, port: int) -> None:
        """Nobody else listens there any more."""
        self.processes.foreign_listeners.pop(port, None)

    def lose_gpu(self, gpu: int, error: str | None) -> None:
        """One GPU cannot be used (or can again, with None)."""
        self.world.cards[gpu].error = error

    def xid(self, gpu: int, number: int) -> None:
        """The played driver reports an error of a GPU."""
        card = self.world.cards[gpu]
        card.xids = (*(card.xids or ()), Xid(number, self.clock.time()))

    def _port_taken(self, port: int, unit: str) -> bool:
        if self._machines[unit].service.is_guarded:
            return False
        return any(listener.unit != unit for listener in self.processes.listeners(port))

    def _answering(self, service: Service) -> Machine | None:
        """Who answers on the service's port if it is another played server."""
        if service.is_guarded or service.port is None:
            return None
        for listener in self.processes.listeners(service.port):
            if listener.unit is not None and listener.unit != service.unit:
                return self._machines[listener.unit]
        return None

    def _bring_up(self, service_id: str) -> None:
        service = self.registry.service(service_id)
        with self.world.turn():
            self._machines[service.unit].appear()
            self._servers[service.unit].appear()
