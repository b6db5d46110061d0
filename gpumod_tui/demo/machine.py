"""One played unit: what systemd would do with it, and what its server does meanwhile."""

import signal
import zlib
from collections.abc import Callable, Iterable, Sequence

from gpumod_tui.core.models import ActiveState, DriverKind, Health, Probe, Service, UnitState
from gpumod_tui.core.text import MIB
from gpumod_tui.demo import phrases
from gpumod_tui.demo.journal import DemoJournal
from gpumod_tui.demo.script import Script, default_script
from gpumod_tui.demo.world import Process, World

_SLICE = "/user.slice/user-1000.slice/user@1000.service/gpumod.slice/"
_COMMANDS = {DriverKind.LLAMACPP: "llama-server", DriverKind.VLLM: "vllm", DriverKind.FASTAPI: "python3"}
_START_LIMIT = 5


class Machine:
    """Call its methods inside `world.turn()` only."""

    def __init__(
        self, service: Service, world: World, journal: DemoJournal, port_taken: Callable[[int, str], bool]
    ) -> None:
        self.service = service
        self.script: Script = default_script(service)
        self.world = world
        self.ready = False
        self.asleep = False
        self.invocation = ""
        self.changed: Callable[[], None] = lambda: None
        self.on_exit: Callable[[], None] = lambda: None
        """The router forgets its models here."""
        self.gpus = tuple(gpu if isinstance(gpu, int) else int(gpu.rsplit("-", 1)[-1]) for gpu in service.gpus)
        self._journal = journal
        self._port_taken = port_taken
        self._state = ActiveState.INACTIVE
        self._sub = "dead"
        self._result = "success"
        self._exit_status: int | None = None
        self._since: float | None = None
        self._restarts = 0
        self._job = False
        self._life = 0
        self._main: Process | None = None
        self._lives = 0

    @property
    def unit(self) -> str:
        """Its systemd unit."""
        return self.service.unit

    @property
    def held_bytes(self) -> int:
        """What it holds when its model is there."""
        return int((self.service.vram_bytes or 0) * self.script.held_share)

    @property
    def is_up(self) -> bool:
        """Its main process runs."""
        return self._main is not None and self._main.pid in self.world.processes

    @property
    def listens(self) -> bool:
        """It holds its port."""
        loading = self.service.driver is DriverKind.LLAMACPP and not self.service.is_router
        return self.is_up and (self.ready or loading)

    def state(self) -> UnitState:
        """What systemd says."""
        if not self.script.installed:
            return UnitState(self.unit, load_state="not-found")
        return UnitState(
            unit=self.unit,
            active_state=self._state,
            sub_state=self._sub,
            result=self._result,
            main_pid=self._main.pid if self._main and self.is_up else None,
            exit_status=self._exit_status,
            restarts=self._restarts,
            job_pending=self._job,
            control_group=_SLICE + self.unit if self.world.of_unit(self.unit) else "",
            since=self._since,
            invocation_id=self.invocation,
            exec_path=f"/usr/local/bin/{_COMMANDS.get(self.service.driver, 'server')}",
            fragment_path=f"~/.config/systemd/user/{self.unit}",
            slice="gpumod.slice",
            memory_bytes=self._memory_bytes() if self.is_up else None,
            cpu_usage_ns=self._cpu_ns() if self.is_up else None,
        )

    def properties(self) -> dict[str, str]:
        """What `systemctl show` would print, as far as it is played."""
        state = self.state()
        if state.load_state == "not-found":
            return {}
        return {
            "Description": f"{self.service.name} (gpumod)",
            "LoadState": state.load_state,
            "ActiveState": state.active_state,
            "SubState": state.sub_state,
            "Result": state.result,
            "UnitFileState": "enabled" if self.script.enabled else "static",
            "FragmentPath": state.fragment_path or "",
            "Slice": state.slice,
            "ControlGroup": state.control_group,
            "InvocationID": state.invocation_id,
            "MainPID": str(state.main_pid or 0),
            "NRestarts": str(state.restarts),
            "Restart": "on-failure",
            "ExecMainStatus": str(state.exit_status or 0),
            "Requires": "app.slice basic.target",
            "Wants": "gpumod-guard.socket" if self.service.is_guarded else "",
            "After": "basic.target gpumod-guard.socket" if self.service.is_guarded else "basic.target",
            "WantedBy": "default.target" if self.script.enabled else "",
        }

    def _memory_bytes(self) -> int:
        """Host memory: a server's own, and a little for each process beside it."""
        return (900 + 350 * len(self.world.of_unit(self.unit))) * MIB

    def _cpu_ns(self) -> int:
        """A server that waits takes three hundredths of a core, one that starts a whole one."""
        age_s = max(0.0, self.world.clock.time() - (self._since or 0.0))
        return int((0.03 if self.ready else 1.0) * age_s * 1e9)

    def probe(self) -> Probe:
        """What its health endpoint answers."""
        if not self.is_up:
            return Probe(Health.DOWN, "connection refused")
        if self.script.dead:
            return Probe(Health.DEAD, "503: the engine is dead")
        if self.ready:
            return Probe(Health.READY, "200")
        if self.service.driver is DriverKind.LLAMACPP and not self.service.is_router:
            return Probe(Health.LOADING, "503: loading model")
        return Probe(Health.DOWN, "connection refused")

    def start(self) -> None:
        """The start job."""
        if self._state in (ActiveState.ACTIVE, ActiveState.ACTIVATING):
            return
        if self._state is ActiveState.DEACTIVATING:
            self._soon(0.05, self.start)
            return
        self._restarts = 0
        self._begin()

    def stop(self) -> None:
        """The stop job: SIGTERM to all, then waiting."""
        if self._state in (ActiveState.INACTIVE, ActiveState.FAILED, ActiveState.DEACTIVATING):
            return
        if not self.is_up:
            self._settle_down("success")
            return
        self._life += 1
        self.ready = False
        self._become(ActiveState.DEACTIVATING, "stop-sigterm", job=True)
        self.log(f"Stopping {self.unit} - {self.service.name}...", by="systemd")
        if not (self.script.ignores_stop or self.script.ignores_kill):
            self._soon(self.script.stop_s, lambda: self._all_gone("success"))
        elif self.script.systemd_kills_after_s is not None:
            self._soon(self.script.systemd_kills_after_s, lambda: self._killed("timeout"))

    def kill(self, number: int) -> None:
        """A signal to every process."""
        if not self.world.of_unit(self.unit):
            return
        if number == signal.SIGKILL:
            self._killed("timeout" if self._state is ActiveState.DEACTIVATING else "signal")
        elif not (self.script.ignores_stop or self.script.ignores_kill):
            self._soon(self.script.stop_s, lambda: self._all_gone("success"))

    def reset_failed(self) -> None:
        """Failed becomes inactive."""
        if self._state is ActiveState.FAILED:
            self._result = "success"
            self._become(ActiveState.INACTIVE, "dead")

    def die(self, status: int = 1) -> None:
        """Its main process ends by itself, and systemd ends the rest."""
        if not self.is_up:
            return
        self._end_processes()
        self.log(f"{self.unit}: Main process exited, code=exited, status={status}/FAILURE", by="systemd", priority=5)
        self._exit_status = status
        if self.script.auto_restart and self._state is not ActiveState.DEACTIVATING:
            self._restarts += 1
            if self._restarts >= _START_LIMIT:
                self.log(f"{self.unit}: Start request repeated too quickly.", by="systemd", priority=4)
                self._settle_down("start-limit-hit")
                return
            self._life += 1
            self._become(ActiveState.ACTIVATING, "auto-restart")
            self._soon(self.script.restart_s, self._begin)
            return
        self._settle_down("exit-code")

    def log(self, message: str, *, priority: int = 6, by: str = "") -> None:
        """One line in its journal."""
        pid = self._main.pid if self._main else None
        command = _COMMANDS.get(self.service.driver, "server")
        self._journal.write(
            self.unit, message, priority=priority, pid=pid, by=by or command, invocation=self.invocation
        )

    def say(self, lines: Iterable[tuple[int, str]], model: str = "") -> None:
        """Lines of the server, with its names filled in."""
        for priority, text in lines:
            name = model or self.service.model_id or self.service.id
            self.log(text.format(model=name, port=self.service.port), priority=priority)

    def spawn_child(self, command: str, serves: str = "") -> Process:
        """A process beside the main one, in the same cgroup."""
        child = self.world.spawn(command, self.unit)
        child.serves = serves
        return child

    def soon(self, seconds: float, action: Callable[[], None]) -> None:
        """Something that happens later, unless this life of the unit is over by then."""
        self._soon(seconds, action)

    def appear(self) -> None:
        """Be up and ready, as if started long ago."""
        self._lives += 1
        self.invocation = self._next_invocation()
        self._main = self.world.spawn(_COMMANDS.get(self.service.driver, "server"), self.unit)
        self._become(ActiveState.ACTIVE, "running")
        self.ready = True
        if not self.service.is_router and self.held_bytes:
            vllm = self.service.driver is DriverKind.VLLM
            self.world.hold(self.spawn_child("VLLM::EngineCore") if vllm else self._main, self.held_bytes, self.gpus)

    def turn_in(self, *, asleep: bool) -> None:
        """Give the memory back, or take it again."""
        self.asleep = asleep
        share = self.script.sleep_share if asleep else 1.0
        holders = self.world.of_unit(self.unit)
        self.world.hold(holders[-1], int(self.held_bytes * share), self.gpus)

    def _next_invocation(self) -> str:
        return f"{zlib.crc32(self.unit.encode()):016x}{self._lives:016x}"

    def _begin(self) -> None:
        self._life += 1
        self._lives += 1
        self.invocation = self._next_invocation()
        self._become(ActiveState.ACTIVATING, "start", job=True)
        self._soon(self.script.start_s, self._launch)

    def _launch(self) -> None:
        if self.script.exec_condition_fails:
            self.log(f"{self.unit}: Skipped due to 'exec-condition'.", by="systemd", priority=5)
            self._settle_down("exec-condition")
            return
        self._main = self.world.spawn(_COMMANDS.get(self.service.driver, "server"), self.unit)
        self._result = "success"
        self._become(ActiveState.ACTIVE, "running")
        self.log(f"Started {self.unit} - {self.service.name}.", by="systemd")
        if self.service.port is not None and self._port_taken(self.service.port, self.unit):
            llama = self.service.driver is DriverKind.LLAMACPP
            self._fail_later(0.1, phrases.PORT_TAKEN_LLAMA if llama else phrases.PORT_TAKEN)
        elif self.script.start_fails:
            self.script.start_fails -= 1 if self.script.start_fails > 0 else 0
            vllm = self.service.driver is DriverKind.VLLM
            self._fail_later(self.script.ready_s, phrases.VLLM_OOM if vllm else ((3, "error: cannot start"),))
        else:
            self._boot()

    def _boot(self) -> None:
        if self.service.is_router:
            lines: Sequence[tuple[int, str]] = phrases.ROUTER_BOOT
            holder = None
        elif self.service.driver is DriverKind.VLLM:
            lines, holder = phrases.VLLM_BOOT, self.spawn_child("VLLM::EngineCore")
        else:
            lines, holder = phrases.PLAIN_BOOT, self._main
        last = len(lines) - 1
        for number, line in enumerate(lines):
            share = number / last
            self._soon(self.script.ready_s * share * 0.99, lambda line=line: self.say([line]))  # type: ignore[misc]
            if holder is not None and self.held_bytes:
                self._soon(
                    self.script.ready_s * share * 0.98,
                    lambda share=share, holder=holder: self.world.hold(holder, int(self.held_bytes * share), self.gpus),  # type: ignore[misc]
                )
        if not self.script.never_ready:
            self._soon(self.script.ready_s, self._get_ready)

    def _get_ready(self) -> None:
        self.ready = True
        self.changed()

    def _fail_later(self, seconds: float, lines: Sequence[tuple[int, str]]) -> None:
        self._soon(seconds * 0.8, lambda: self.say(lines))
        self._soon(seconds, self.die)

    def _killed(self, result: str) -> None:
        if self.script.ignores_kill:
            for process in self.world.of_unit(self.unit):
                process.state = "D"
            return
        self.log(f"{self.unit}: Main process exited, code=killed, status=9/KILL", by="systemd", priority=5)
        self._exit_status = 9
        self._all_gone(result)

    def _all_gone(self, result: str) -> None:
        self._end_processes()
        if result == "success":
            self.log(f"Stopped {self.unit} - {self.service.name}.", by="systemd")
        self._settle_down(result)

    def _end_processes(self) -> None:
        for process in self.world.of_unit(self.unit):
            self.world.end(process)
        self.ready = False
        self.asleep = False
        self.on_exit()

    def _settle_down(self, result: str) -> None:
        self._life += 1
        self._result = result
        good = result in ("success", "exec-condition")
        if not good:
            self.log(f"{self.unit}: Failed with result '{result}'.", by="systemd", priority=4)
        self._become(*((ActiveState.INACTIVE, "dead") if good else (ActiveState.FAILED, "failed")))

    def _become(self, state: ActiveState, sub: str, *, job: bool = False) -> None:
        if state is not self._state:
            self._since = self.world.clock.time()
        self._state, self._sub, self._job = state, sub, job
        self.changed()

    def _soon(self, seconds: float, action: Callable[[], None]) -> None:
        life = self._life

        def act() -> None:
            if life == self._life:
                action()

        self.world.after(seconds, act)
