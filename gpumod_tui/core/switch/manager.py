"""The worker thread: the single writer of switch state."""

import contextlib
import queue
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from gpumod_tui.core.catalog.modes import ModeSaved, delete_mode, save_mode
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import ConfigInvalid, GpumodError, ModeRefused, UnknownName
from gpumod_tui.core.events import ActEnded, Event, Step, SwitchEnded, SwitchStarted
from gpumod_tui.core.models import BLANK, Mode
from gpumod_tui.core.observation import Survey, look
from gpumod_tui.core.status.details import (
    ModelChoice,
    ProcessView,
    UnitDetails,
    model_choices,
    process_view,
    unit_details,
)
from gpumod_tui.core.switch.plan import Target, plan_switch
from gpumod_tui.core.switch.records import SwitchError, SwitchHistory, SwitchLock, SwitchRecord
from gpumod_tui.core.switch.results import ModeResult, Outcome, SwitchPlan
from gpumod_tui.core.switch.simulate import WhatIf, imagine, look_around
from gpumod_tui.core.switch.steps.context import Report, Run
from gpumod_tui.core.switch.steps.load import load_work, unload_work
from gpumod_tui.core.switch.switch import carry_out
from gpumod_tui.core.units.actions import Act
from gpumod_tui.core.units.actions import carry_out as carry_out_act
from gpumod_tui.core.units.login import LoginMode
from gpumod_tui.core.units.managed import managed_units

CANCEL_S: Final = 15.0
"""How long a holder may take to honour a request to cancel; then SIGTERM."""
TERM_S: Final = 5.0
"""How long it may take to end after SIGTERM; then SIGKILL."""
KILL_S: Final = 5.0
LOCK_POLL_S: Final = 0.05
PROMISES_S: Final = 2.0
"""Between two attempts to take back what a switch that has ended was promised."""

Targeting = Callable[[Callable[[], Survey]], Target]
"""Makes a target, from a look at the box where it depends on what runs."""


@dataclass(frozen=True, slots=True)
class _Job:
    label: str
    target: Targeting
    timeout_s: float | None
    takes_over: bool
    cancel: threading.Event
    future: "Future[ModeResult]"
    carry: Callable[[Run], ModeResult] = carry_out


class Manager:
    """Carries out switches one after the other, in a thread of its own that outlives a lost terminal.

    `report` is called from that thread with every event, and from whoever submits with the end of what is unknown; what
    it raises is dropped.
    """

    def __init__(self, host: Engine, report: Report = lambda _event: None) -> None:
        self._host = host
        self._sink = report
        self._queue: queue.Queue[_Job | None] = queue.Queue()
        self._jobs: list[_Job] = []
        """Queued or running, the oldest first."""
        self._promised: list[str] = []
        """Ids of switches that have ended, and whose promises have still to be taken back."""
        self._acts: list[threading.Thread] = []
        self._jobs_lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="gpumod-manager", daemon=False)
        self._started = False

    # -- asked from outside ------------------------------------------------------------------------------------

    def plan(self, mode: str, *, load_models: bool = True) -> SwitchPlan:
        """What a switch to the mode would do now; nothing is touched. Raises: UnknownName, SystemdUnavailable."""
        self._renew()
        return self._plan(self._mode_target(mode, load_models=load_models))

    def plan_service(self, verb: str, service: str) -> SwitchPlan:
        """The same for `start`, `stop`, `restart`, `sleep` or `wake` of one service.

        Raises: UnknownName, SystemdUnavailable.
        """
        self._renew()
        return self._plan(self._service_target(verb, service))

    def what_if(self, gpus_bytes: tuple[int, ...] = ()) -> WhatIf:
        """The box and the needs of all services, for any question what would fit; `gpus_bytes`: idle GPUs of these
        sizes in place of its own. Raises: SystemdUnavailable."""
        self._renew()
        return imagine(self._host, gpus_bytes) if gpus_bytes else look_around(self._host)

    def catalog(self) -> ServiceRegistry:
        """The presets as they are now; while a switch runs here, as it began. Raises: ConfigInvalid."""
        return self._host.registry if self.busy else self._host.reload()

    def _renew(self) -> None:
        """Decide on the presets as they are now; where config.yaml cannot be used, on those that are known."""
        with contextlib.suppress(ConfigInvalid):
            self.catalog()

    def own_modes(self) -> frozenset[str]:
        """Ids of the modes whose files lie in the user's own folder."""
        host = self._host
        return frozenset(mode.id for mode in host.registry.modes.values() if host.mode_files.is_own(mode))

    def save_mode(self, mode: Mode, *, replaces: bool = False) -> ModeSaved:
        """As `mode_editing.save_mode`. Raises: ModeTaken, ModeRefused, PresetInvalid, ConfigInvalid."""
        self._refuse_while_busy()
        return save_mode(self._host, mode, replaces=replaces)

    def delete_mode(self, mode_id: str) -> ModeSaved:
        """As `mode_editing.delete_mode`. Raises: UnknownName, ModeRefused, ConfigInvalid."""
        self._refuse_while_busy()
        return delete_mode(self._host, mode_id)

    def _refuse_while_busy(self) -> None:
        # The switch reads the catalog again and again: it must not change under it.
        if self.busy:
            raise ModeRefused("a switch runs here", hint="save when it has ended")

    def submit_mode(
        self, mode: str, *, load_models: bool = True, timeout_s: float | None = None
    ) -> "Future[ModeResult]":
        """Queue a switch. A blank first asks the switch that runs to cancel. An unknown mode is a result, too."""
        if mode == BLANK:
            self.cancel()
        return self._submit(
            mode, lambda: self._mode_target(mode, load_models=load_models), timeout_s, takes_over=mode == BLANK
        )

    def submit_service(
        self, verb: str, service: str, *, load_models: bool = True, timeout_s: float | None = None
    ) -> "Future[ModeResult]":
        """Queue `start`, `stop`, `restart`, `sleep` or `wake` of one service; same lock, preflight and proof."""
        return self._submit(
            f"service {verb} {service}",
            lambda: self._service_target(verb, service, load_models=load_models),
            timeout_s,
            takes_over=False,
        )

    def submit_load(self, service: str, model: str, *, timeout_s: float | None = None) -> "Future[ModeResult]":
        """Queue the load of one model by a running router; admission control decides whether it may begin."""
        carry = partial(_carry_load, service=service, model=model)
        return self._submit_model(f"service load {service} {model}", service, timeout_s, carry)

    def submit_unload(self, service: str, model: str, *, timeout_s: float | None = None) -> "Future[ModeResult]":
        """Queue the unload of one model of a running router."""
        carry = partial(_carry_unload, service=service, model=model)
        return self._submit_model(f"service unload {service} {model}", service, timeout_s, carry)

    def submit_act(self, act: Act) -> "Future[ActEnded]":
        """Do something that is no switch now, also while a switch runs; its end is an event, too."""
        future: Future[ActEnded] = Future()

        def run() -> None:
            ended = carry_out_act(self._host, act)
            self._report(ended)
            future.set_result(ended)

        thread = threading.Thread(target=run, name=f"gpumod-act-{act.label}", daemon=False)
        with self._jobs_lock:
            self._acts = [one for one in self._acts if one.is_alive()] + [thread]
            thread.start()
        return future

    def details(self, service: str) -> UnitDetails:
        """One unit looked at closely; may block. Raises: UnknownName, SystemdUnavailable."""
        return unit_details(self._host, service)

    def models(self, service: str) -> tuple[ModelChoice, ...]:
        """A router's models with their needs; may block. Raises: UnknownName, ServerError."""
        return model_choices(self._host, service)

    def process(self, pid: int) -> ProcessView | None:
        """One process looked at closely; None: it has ended. May block."""
        return process_view(self._host, pid)

    def switch_mode(self, mode: str, *, load_models: bool = True, timeout_s: float | None = None) -> ModeResult:
        """Submit and wait for the end; what bounds the wait is the limit of each step."""
        return self.submit_mode(mode, load_models=load_models, timeout_s=timeout_s).result()

    def cancel(self) -> None:
        """Ask the switch that runs here, and those that wait behind it, to cancel."""
        with self._jobs_lock:
            for job in self._jobs:
                job.cancel.set()

    def cancel_elsewhere(self, switch_id: str) -> None:
        """Ask that switch of another process to cancel; it ends by itself. Raises: StateUnavailable."""
        self._host.store.request_cancel(switch_id)

    def history(self) -> SwitchHistory:
        """Switches that ended, whoever began them. Raises: StateUnavailable."""
        return self._host.store.history()

    def login_mode(self) -> LoginMode:
        """How the unit stands that switches to a mode at login. Raises: SystemdUnavailable."""
        return self._host.login_mode.read()

    def set_login_mode(self, mode: str | None) -> LoginMode:
        """That mode, or none, at every login from now on. Raises: UnknownName, UnitRefused, StateUnavailable,
        SystemdUnavailable."""
        if mode is None:
            self._host.login_mode.clear()
            return self._host.login_mode.read()
        return self._host.login_mode.write(self._host.registry.mode(mode).id)

    def fitting(self) -> tuple[str, ...]:
        """Ids of the modes that nothing stands against now, `blank` apart. Raises: SystemdUnavailable."""
        self._renew()
        registry = self._host.registry
        survey = look(self._host, registry.services)
        margin_bytes = self._host.settings.vram_margin_bytes

        def fits(mode: str) -> bool:
            target = self._mode_target(mode, load_models=True)(lambda: survey)
            return not plan_switch(registry, survey, target, margin_bytes=margin_bytes).blockers

        return tuple(mode for mode in registry.modes if mode != BLANK and fits(mode))

    @property
    def busy(self) -> bool:
        """Whether a switch runs or waits in this process."""
        with self._jobs_lock:
            return bool(self._jobs)

    def close(self) -> None:
        """Finish what is queued, then end the thread and wait for it; idempotent."""
        if self._started:
            self._queue.put(None)
            self._thread.join()
        with self._jobs_lock:
            acts, self._acts = self._acts, []
        for act in acts:
            act.join()

    # -- targets -----------------------------------------------------------------------------------------------

    def _plan(self, targeting: Targeting) -> SwitchPlan:
        survey = look(self._host, self._host.registry.services)
        target = targeting(lambda: survey)
        plan = plan_switch(self._host.registry, survey, target, margin_bytes=self._host.settings.vram_margin_bytes)
        return replace(plan, warnings=(*plan.warnings, *self._host.admission.take_news()))

    def _mode_target(self, mode: str, *, load_models: bool) -> Targeting:
        registry = self._host.registry
        target = Target(mode, registry.with_dependencies(registry.mode(mode).services), load_models=load_models)
        return lambda _look: target

    def _service_target(self, verb: str, name: str, *, load_models: bool = True) -> Targeting:
        registry = self._host.registry
        # What runs without a preset can still be stopped.
        if verb != "stop" or f"{name}.service" not in managed_units(self._host):
            registry.service(name)
        label = f"service {verb} {name}"

        def start(looked: Callable[[], Survey]) -> Target:
            up = _up(looked())
            wanted = registry.with_dependencies((*up, name))
            restart = frozenset({name} if verb == "restart" else ())
            only = frozenset(registry.with_dependencies((name,)))
            return Target(label, wanted, frozenset(), only, restart, load_models=load_models, is_mode=False)

        def stop(looked: Callable[[], Survey]) -> Target:
            up = _up(looked())
            stays = tuple(one for one in up if name not in registry.with_dependencies((one,)))
            going = frozenset({name, *up}) - frozenset(stays)
            return Target(label, stays, going, frozenset(), load_models=False, is_mode=False)

        def sleep(look_first: Callable[[], Survey]) -> Target:
            one = frozenset({name})
            return Target(
                label,
                _with(_up(look_first()), name),
                frozenset(),
                frozenset(),
                sleep=one,
                load_models=False,
                is_mode=False,
            )

        def wake(look_first: Callable[[], Survey]) -> Target:
            one = frozenset({name})
            return Target(
                label,
                _with(_up(look_first()), name),
                frozenset(),
                one,
                wake_only=one,
                load_models=load_models,
                is_mode=False,
            )

        return {"stop": stop, "sleep": sleep, "wake": wake}.get(verb, start)

    # -- the thread --------------------------------------------------------------------------------------------

    def _submit_model(
        self, label: str, name: str, timeout_s: float | None, carry: Callable[..., ModeResult]
    ) -> "Future[ModeResult]":
        def target() -> Targeting:
            self._host.registry.service(name)
            return lambda _look: Target(label, (), frozenset(), load_models=False, is_mode=False)

        return self._submit(label, target, timeout_s, takes_over=False, carry=carry)

    def _submit(
        self,
        label: str,
        targeting: Callable[[], Targeting],
        timeout_s: float | None,
        *,
        takes_over: bool,
        carry: Callable[[Run], ModeResult] = carry_out,
    ) -> "Future[ModeResult]":
        future: Future[ModeResult] = Future()
        self._renew()
        try:
            target = targeting()
        except UnknownName as error:
            result = _refused(label, Outcome.UNKNOWN_TARGET, SwitchError(str(error), hint=error.hint))
            self._report(SwitchEnded(result))
            future.set_result(result)
            return future
        job = _Job(label, target, timeout_s, takes_over, threading.Event(), future, carry)
        with self._jobs_lock:
            self._jobs.append(job)
        self._queue.put(job)
        if not self._started:
            self._started = True
            self._thread.start()
        return future

    def _report(self, event: Event) -> None:
        # A view that breaks must not keep a switch from its rollback and its record.
        with contextlib.suppress(Exception):
            self._sink(event)

    def _work(self) -> None:
        while True:
            try:
                job = self._queue.get(timeout=PROMISES_S if self._promised else None)
            except queue.Empty:
                self._take_back()
                continue
            if job is None:
                return
            try:
                result = self._carry_out(job)
            except GpumodError as error:
                result = _refused(job.label, Outcome.REFUSED, SwitchError(str(error), hint=error.hint))
                self._report(SwitchEnded(result))
            except Exception as error:  # noqa: BLE001 the thread must live on, and whoever waits must hear of it
                text = f"internal error: {type(error).__name__}: {error}"
                result = _refused(job.label, Outcome.FAILED, SwitchError(text, hint="please report this"))
                self._report(SwitchEnded(result))
            finally:
                with self._jobs_lock:
                    self._jobs.remove(job)
            job.future.set_result(result)

    def _carry_out(self, job: _Job) -> ModeResult:
        if job.cancel.is_set():
            result = _refused(job.label, Outcome.CANCELLED)
            self._report(SwitchEnded(result))
            return result
        lock = self._host.store.acquire(job.label)
        if lock is None and job.takes_over:
            lock = self._take_over(job)
        if lock is None:
            result = _refused(job.label, Outcome.BUSY, self._busy_error())
            self._report(SwitchEnded(result))
            return result
        try:
            self._report(SwitchStarted(job.label, self._host.clock.time()))
            return self._under_lock(job, lock)
        finally:
            self._promised.append(lock.record.id)
            self._take_back()
            lock.release()

    def _take_back(self) -> None:
        """What ended switches were promised would else be kept for them as long as this process lives."""
        # An unwritable ledger has been told by the switch itself; the lock must be given back all the same.
        with contextlib.suppress(GpumodError):
            while self._promised:
                self._host.admission.end_switch(self._promised[0])
                del self._promised[0]

    def _under_lock(self, job: _Job, lock: SwitchLock) -> ModeResult:
        try:
            target = job.target(lambda: look(self._host, ()))
            return job.carry(Run(self._host, lock, target, self._report, job.cancel, timeout_s=job.timeout_s))
        except GpumodError as error:
            # Nothing was touched, and the record must not read as if this process had been killed.
            ended = replace(
                lock.record,
                outcome=Outcome.REFUSED,
                note=str(error),
                ended_at=self._host.clock.time(),
                errors=(SwitchError(str(error), hint=error.hint),),
            )
            with contextlib.suppress(GpumodError):
                lock.write(ended)
            raise

    def _busy_error(self) -> SwitchError:
        holder = self._host.store.read().running
        if holder is None:
            return SwitchError("another switch holds the lock", hint="try again")
        seconds = self._host.clock.time() - holder.started_at
        return SwitchError(
            f"busy: pid {holder.pid} is switching to {holder.target}, since {seconds:.0f} s, at step {holder.step}",
            hint="wait for it, or gpumod mode switch blank to make it cancel",
        )

    def _take_over(self, job: _Job) -> SwitchLock | None:
        """Ask the holder to cancel, then make it end; what it leaves is what systemd says. None: cancelled."""
        store = self._host.store
        for limit_s, act in (
            (CANCEL_S, lambda record: store.request_cancel(record.id)),
            (TERM_S, lambda record: store.signal(record, signal.SIGTERM)),
            (KILL_S, lambda record: store.signal(record, signal.SIGKILL)),
        ):
            asked: SwitchRecord | None = None
            end = self._host.clock.monotonic() + limit_s
            while self._host.clock.monotonic() < end:
                lock = store.acquire(job.label)
                if lock is not None:
                    return lock
                record = store.read().running
                if record is not None and record != asked and (asked is None or record.id != asked.id):
                    act(record)
                    asked = record
                if job.cancel.is_set():
                    return None
                self._host.clock.wait(job.cancel, LOCK_POLL_S)
        return store.acquire(job.label)


def _up(survey: Survey) -> tuple[str, ...]:
    return tuple(name for name, unit in survey.units.items() if not unit.is_down and unit.service is not None)


def _with(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return names if name in names else (*names, name)


def _carry_load(run: Run, *, service: str, model: str) -> ModeResult:
    return carry_out(run, Step.LOAD, load_work(run.host.registry.service(service), model))


def _carry_unload(run: Run, *, service: str, model: str) -> ModeResult:
    return carry_out(run, Step.UNLOAD, unload_work(run.host.registry.service(service), model))


def _refused(label: str, outcome: Outcome, *errors: SwitchError) -> ModeResult:
    return ModeResult(success=False, mode=label, errors=errors, outcome=outcome)
