"""What goes on by itself on the played host: clients' requests, and a pulse for clocks that run."""

import random
import threading
from collections.abc import Iterator, Mapping

from gpumod_tui.core.models import DriverKind, ModelStatus
from gpumod_tui.demo import phrases
from gpumod_tui.demo.machine import Machine
from gpumod_tui.demo.servers import DemoServer
from gpumod_tui.demo.world import World


class Activity:
    """Requests to whatever is ready, with journal lines and GPU load."""

    def __init__(self, world: World, machines: Mapping[str, Machine], servers: Mapping[str, DemoServer]) -> None:
        self._world = world
        self._machines = machines
        self._servers = servers
        self._random = random.Random(7)  # noqa: S311 - a played client, no secret
        self._busy: dict[int, int] = {}
        self._requests = 0

    def start(self) -> None:
        """Begin, and go on for ever."""
        self._world.after(1.0, self._tick)

    def load_percent(self, gpu: int) -> int:
        """Utilisation of a GPU now."""
        return self._busy.get(gpu, 0)

    def _tick(self) -> None:
        self._busy.clear()
        for unit, machine in self._machines.items():
            if not machine.ready:
                continue
            if self._serves(unit) and self._random.random() < 0.6:
                self._request(machine)
        self._world.after(self._random.uniform(1.0, 3.0), self._tick)

    def _serves(self, unit: str) -> bool:
        machine = self._machines[unit]
        models = self._servers[unit].models_by_id.values()
        return not machine.service.is_router or any(model.status is ModelStatus.LOADED for model in models)

    def _request(self, machine: Machine) -> None:
        self._requests += 1
        llama = machine.service.driver is DriverKind.LLAMACPP
        lines: Iterator[str] = (phrases.llama_chat if llama else phrases.vllm_request)(self._requests)
        for number, line in enumerate(lines):
            machine.soon(number * 0.35, lambda line=line: machine.log(line))  # type: ignore[misc]
        for gpu in machine.gpus:
            self._busy[gpu] = min(98, self._busy.get(gpu, 0) + self._random.randint(45, 92))


class Pulse:
    """A thread that lets things happen on a clock that runs."""

    def __init__(self, world: World, every_s: float = 0.05) -> None:
        self._world = world
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="demo-pulse", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End and join."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=5.0)
            self._thread = None

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._world.settle()
