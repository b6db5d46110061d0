"""The played servers as their drivers see them: health, models, loads with progress."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumod_tui.core.errors import ServerError
from gpumod_tui.core.models import Health, ModelState, ModelStatus, Probe, Service
from gpumod_tui.demo import phrases
from gpumod_tui.demo.machine import Machine
from gpumod_tui.demo.world import Process, World

_LOAD_TICKS: Final = 30
_STAGES: Final = "text_model"
_MEANWHILE_S: Final = 0.05


@dataclass(slots=True)
class Model:
    """One model of a played router."""

    id: str
    need_bytes: int
    status: ModelStatus = ModelStatus.UNLOADED
    exit_code: int | None = None
    progress: float | None = None
    child: Process | None = None
    turn: int = 0
    """Counts loads, so that the end of an old one is not taken for the end of a new one."""

    def state(self) -> ModelState:
        """As the router tells it."""
        stage = _STAGES if self.progress is not None else None
        path = Path(f"~/models/{self.id}.gguf")
        return ModelState(self.id, self.status, self.exit_code, self.progress, stage, path)


class ModelSubscription:
    """Takes a sink off a router when it is closed."""

    def __init__(self, sinks: list["ModelSubscription"], sink: Callable[[ModelState], None]) -> None:
        self._sinks = sinks
        self.sink = sink
        sinks.append(self)

    def close(self) -> None:
        """No model state after this."""
        if self in self._sinks:
            self._sinks.remove(self)


class DemoServer:
    """Satisfies the ServerDriver port for one service."""

    def __init__(self, machine: Machine, world: World, answers_for: Callable[[Service], Machine | None]) -> None:
        self.models_by_id: dict[str, Model] = {}
        self._machine = machine
        self._world = world
        self._answers_for = answers_for
        self._sinks: list[ModelSubscription] = []
        default = machine.service.default_model
        if default is not None:
            self.models_by_id[default] = Model(default, machine.held_bytes)
            small = f"{default.split('-')[0]}-Small-Q4_K_M"
            self.models_by_id[small] = Model(small, machine.held_bytes // 3)
        machine.on_exit = self._forget

    def probe(self, service: Service) -> Probe:
        """Whoever holds the port answers, as on a real host: an old router too."""
        with self._world.turn():
            hangs_s = self._machine.script.probe_hangs_s
        if hangs_s:
            self._world.clock.wait(threading.Event(), hangs_s)
            return Probe(Health.DOWN, f"no answer within {hangs_s:g} s")
        with self._world.turn():
            machine = self._answers_for(service)
            return self._machine.probe() if machine is None else machine.probe()

    def models(self, service: Service) -> tuple[ModelState, ...]:  # noqa: ARG002
        """Raises: ServerError."""
        with self._world.turn():
            self._check_up()
            return self._states()

    def load(self, service: Service, model: str, meanwhile: Callable[[], None] | None = None) -> None:  # noqa: ARG002
        """Raises: ServerError."""
        with self._world.turn():
            self._check_up()
            known = self.models_by_id.get(model)
            if known is None:
                raise ServerError(f"{service.id}: no model {model}", status=404)
            if known.status in (ModelStatus.LOADED, ModelStatus.LOADING):
                return
            self._begin_load(known)

    def unload(self, service: Service, model: str) -> None:
        """Raises: ServerError."""
        with self._world.turn():
            self._check_up()
            known = self.models_by_id.get(model)
            if known is None or known.child is None:
                raise ServerError(f"{service.id}: model {model} is not running", status=400)
            self._drop(known, exit_code=0)

    def sleep(self, service: Service, meanwhile: Callable[[], None]) -> None:
        """A router unloads its models. Raises: ServerError."""
        self._take(self._machine.script.sleep_s, meanwhile)
        with self._world.turn():
            self._check_sleep(service, fails=self._machine.script.sleep_fails)
            if service.is_router:
                for model in self.models_by_id.values():
                    if model.child is not None:
                        self._drop(model, exit_code=0)
            else:
                self._machine.turn_in(asleep=True)

    def wake(self, service: Service, meanwhile: Callable[[], None]) -> None:
        """Raises: ServerError."""
        if not service.is_router:
            self._take(self._machine.script.wake_s, meanwhile)
        with self._world.turn():
            self._check_sleep(service, fails=self._machine.script.wake_fails)
            if not service.is_router:
                self._machine.turn_in(asleep=False)

    def is_sleeping(self, service: Service) -> bool | None:
        """Raises: ServerError."""
        with self._world.turn():
            self._check_sleep(service, fails=False)
            if service.is_router:
                return all(model.child is None for model in self.models_by_id.values())
            return self._machine.asleep

    def _take(self, seconds: float, meanwhile: Callable[[], None]) -> None:
        clock = self._world.clock
        end = clock.monotonic() + seconds
        while clock.monotonic() < end:
            clock.wait(threading.Event(), _MEANWHILE_S)
            meanwhile()

    def _check_sleep(self, service: Service, *, fails: bool) -> None:
        self._check_up()
        if not service.is_guarded:
            raise ServerError(f"{service.id}: it cannot sleep")
        if fails:
            raise ServerError(f"{service.id}: HTTP 500", status=500)

    def follow_models(
        self,
        service: Service,  # noqa: ARG002
        sink: Callable[[ModelState], None],
    ) -> ModelSubscription:
        """Begins with what is known now."""
        with self._world.turn():
            for state in self._states():
                self._world.tell(lambda state=state: sink(state))  # type: ignore[misc]
            return ModelSubscription(self._sinks, sink)

    def appear(self) -> None:
        """Have the default model loaded, as if long ago."""
        model = self.models_by_id.get(self._machine.service.default_model or "")
        if model is not None:
            model.child = self._machine.spawn_child("llama-server", model.id)
            model.status = ModelStatus.LOADED
            self._world.hold(model.child, model.need_bytes, self._machine.gpus)

    def _check_up(self) -> None:
        if not self._machine.is_up or not self._machine.ready:
            raise ServerError(f"{self._machine.service.id}: connection refused")

    def _states(self) -> tuple[ModelState, ...]:
        if self._machine.service.is_router:
            return tuple(model.state() for model in self.models_by_id.values())
        name = self._machine.service.model_id
        status = ModelStatus.SLEEPING if self._machine.asleep else ModelStatus.LOADED
        return (ModelState(name, status),) if name and self._machine.ready else ()

    def _begin_load(self, model: Model) -> None:
        script = self._machine.script
        model.turn += 1
        model.child = self._machine.spawn_child("llama-server", model.id)
        model.status, model.exit_code, model.progress = ModelStatus.LOADING, None, 0.0
        self._publish(model)
        self._machine.say(phrases.ROUTER_LOAD[:1], model.id)
        fails = bool(script.load_fails)
        script.load_fails -= 1 if script.load_fails > 0 else 0
        last = int(_LOAD_TICKS * 0.6) if fails or script.load_never_ends else _LOAD_TICKS
        for tick in range(1, last + 1):
            self._on_tick(model, tick, script.load_s * tick / _LOAD_TICKS)
        if fails:
            self._then(model, script.load_s * 0.62, lambda: self._fail(model))
        elif not script.load_never_ends:
            self._then(model, script.load_s, lambda: self._loaded(model))

    def _on_tick(self, model: Model, tick: int, seconds: float) -> None:
        share = tick / _LOAD_TICKS

        def move() -> None:
            model.progress = share
            if model.child is not None:
                self._world.hold(model.child, int(model.need_bytes * share), self._machine.gpus)
            if tick in (_LOAD_TICKS // 3, _LOAD_TICKS * 2 // 3):
                self._machine.say(phrases.ROUTER_LOAD[tick * 3 // _LOAD_TICKS :][:1], model.id)
            self._publish(model)

        self._then(model, seconds, move)

    def _loaded(self, model: Model) -> None:
        model.status, model.progress = ModelStatus.LOADED, None
        self._machine.say(phrases.ROUTER_LOAD[-1:], model.id)
        self._publish(model)

    def _fail(self, model: Model) -> None:
        self._machine.say(phrases.ROUTER_OOM, model.id)
        self._drop(model, exit_code=1)

    def _drop(self, model: Model, exit_code: int) -> None:
        if model.child is not None:
            self._world.end(model.child)
        model.turn += 1
        model.child, model.progress = None, None
        model.status, model.exit_code = ModelStatus.UNLOADED, exit_code
        self._publish(model)

    def _then(self, model: Model, seconds: float, action: Callable[[], None]) -> None:
        turn = model.turn
        self._machine.soon(seconds, lambda: action() if turn == model.turn else None)

    def _forget(self) -> None:
        for model in self.models_by_id.values():
            model.turn += 1
            model.status, model.exit_code, model.progress, model.child = ModelStatus.UNLOADED, None, None, None

    def _publish(self, model: Model) -> None:
        state = model.state()
        for subscription in tuple(self._sinks):
            self._world.tell(lambda subscription=subscription: subscription.sink(state))  # type: ignore[misc]
