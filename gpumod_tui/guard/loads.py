"""Loads: admitted, begun, followed to their end. One for all who wait for the same model; nobody's leaving ends it."""

import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gpumod_tui.core.admission.commitments import ORPHAN_S, Commitment
from gpumod_tui.core.admission.decide import Granted, Refused
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.models import ModelStatus
from gpumod_tui.core.text import in_one_line
from gpumod_tui.guard.admission import Gate, Switching
from gpumod_tui.guard.llamacpp.routers import LOAD_S, Answer, Router, UpstreamGone
from gpumod_tui.guard.server.metrics import Counts

_SETTLE_S: Final = 0.5
_SETTLE_AT_MOST_S: Final = 5.0
"""Between two looks at a load that may have come to be; the first are closer together."""
_EVICT_S: Final = 30.0
_RETRY_S: Final = 0.2
_COUNT_S: Final = 1.0
"""For a router to tell its models before it is asked for one more."""
_TURN_S: Final = 60.0
"""Others keep a turn for an admission and a load's answer: longer only where a router hangs."""
_ASKED: Final = "invalid_request_error"
_ENDED: Final = (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED, ModelStatus.DOWNLOADING, ModelStatus.UNKNOWN)
"""Without a process that serves it."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded, or a request will wake it."""


@dataclass(frozen=True, slots=True)
class Full:
    """The router holds as many models as it may, and none is unloaded behind anybody's back."""

    service: str
    limit: int
    models: tuple[str, ...]
    evicts: bool = False
    """Whether idle ones may be unloaded, and none was, or none that helps."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It was admitted and did not come to be. `answer`: what the router said, if it refused."""

    message: str
    kind: str = "load_failed"
    status: int = 500
    answer: Answer | None = None
    may_pass: bool = False
    """Asked again soon, it may be answered otherwise."""


class _NoTurn(Exception):
    """Others keep the router, or it cannot be known whether they do."""

    def __init__(self, message: str, kind: str, *, may_pass: bool = False) -> None:
        super().__init__(message)
        self.outcome = Failed(message, kind, 503, may_pass=may_pass)


NotBegun = Refused | Switching | Full | Failed


class Load:
    """One model on its way. `begun`: as `POST /models/load` is answered; `done`: it can be asked."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[Answer | NotBegun] = loop.create_future()
        self.done: asyncio.Future[Ready | NotBegun] = loop.create_future()

    def begin(self, answer: Answer) -> None:
        """The router has said yes."""
        if not self.begun.done():
            self.begun.set_result(answer)

    def end(self, outcome: Ready | NotBegun) -> bool:
        """How it ended; only the first word counts, and it is told whether this was it."""
        if not self.begun.done():
            self.begun.set_result(Answer(200, b'{"success":true}') if isinstance(outcome, Ready) else outcome)
        if self.done.done():
            return False
        self.done.set_result(outcome)
        return True


class Loads:
    """All loads of the guard."""

    def __init__(self, gate: Gate, counts: Counts) -> None:
        self._gate = gate
        self._counts = counts
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gpumod-admission")
        self._files = ThreadPoolExecutor(1, thread_name_prefix="gpumod-files")
        self._running: dict[tuple[str, str], Load] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        """By unit."""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def call(self, function: Callable[[], _T]) -> _T:
        """Run in the one thread that talks to the machine."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def read(self, function: Callable[[], _T]) -> _T:
        """Run what only reads files: it waits for no decision, however long systemd or NVML take."""
        return await asyncio.get_running_loop().run_in_executor(self._files, function)

    async def see_through(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Await it; it goes on where who awaits it is gone, and its error is then nobody's."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(task)

    def find(self, router: Router, model: str) -> Load | None:
        """The load under way."""
        return self._running.get((router.service.unit, model))

    def begin(self, router: Router, model: str) -> Load:
        """The load of a model; begun, unless it is under way."""
        key = (router.service.unit, model)
        load = self._running.get(key)
        if load is None:
            load = self._running[key] = Load()
            self._spawn(self._carry(router, model, load))
        return load

    async def close(self) -> None:
        """What is under way is not followed any more; a commitment that is not bound ends with this process."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for threads in (self._thread, self._files):
            threads.shutdown(wait=False, cancel_futures=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- one load ---------------------------------------------------------------------------------------------------

    async def _carry(self, router: Router, model: str, load: Load) -> None:
        began = time.monotonic()
        outcome: Ready | NotBegun = Failed("the guard is stopping", "stopping", 503)
        try:
            outcome = await self._load(router, model, load)
            # Loaded a moment ago is not unused for longest.
            router.used_at[model] = time.monotonic()
        except UpstreamGone as error:
            outcome = Failed(str(error), "router_gone", 502)
        except _NoTurn as error:
            outcome = error.outcome
        except Exception as error:  # noqa: BLE001  whatever it is, those who wait are answered
            _tell(f"load of {model}: {type(error).__name__}: {error}")
            outcome = Failed(f"internal error: {type(error).__name__}")
        finally:
            del self._running[router.service.unit, model]
            self._counts.ended(type(outcome).__name__.lower(), time.monotonic() - began)
            load.end(outcome)

    async def _load(self, router: Router, model: str, load: Load) -> Ready | NotBegun:
        commitment: Commitment | None = None
        # From counting a router's models to the load's answer nothing else begins there, whoever else asks it.
        async with self._turn(router):
            # Others may have had it load something before, which no event has told yet. One that hangs says so when it
            # is asked for the load.
            with contextlib.suppress(UpstreamGone):
                await router.refresh(timeout_s=_COUNT_S)
            status = router.states.get(model, ModelStatus.UNKNOWN)
            if status is ModelStatus.LOADED:
                return Ready()
            if status is ModelStatus.DOWNLOADING:
                return _why_ended(router, model)
            if status is not ModelStatus.LOADING:
                verdict = await self._admitted(router, model)
                if not isinstance(verdict, Granted):
                    return verdict
                if status is ModelStatus.SLEEPING:
                    # It has its process already, and its next request wakes it.
                    return Ready()
                commitment = verdict.commitment
                failure = await self._ask_for(router, model, load, commitment)
                if failure is not None:
                    return failure
        try:
            return await self._follow(router, model, commitment)
        finally:
            if commitment is not None:
                self._spawn(self._settle(router, model, commitment, absent_s=0.0))

    @contextlib.asynccontextmanager
    async def _turn(self, router: Router) -> AsyncIterator[None]:
        """Nobody else has the router load anything meanwhile, here or in another process. Raises: _NoTurn."""
        unit = router.service.unit
        end = time.monotonic() + _TURN_S
        async with self._turns.setdefault(unit, asyncio.Lock()):
            try:
                while (turn := await self.call(functools.partial(self._gate.try_turn, unit))) is None:
                    if time.monotonic() >= end:
                        raise _NoTurn(f"another process has {router.service.id} load a model", "busy", may_pass=True)
                    await asyncio.sleep(_RETRY_S)
            except GpumodError as error:
                raise _NoTurn(str(error), "unavailable") from error
            try:
                yield
            finally:
                turn.close()

    async def _ask_for(self, router: Router, model: str, load: Load, commitment: Commitment) -> NotBegun | None:
        """Have the router begin what was admitted; why it does not, if it does not. Raises: UpstreamGone."""
        absent_s = ORPHAN_S
        begun = False
        try:
            router.dismissed.discard(model)
            # Noted before it is asked for: the news of how it went may be here before the answer is.
            router.note(model, ModelStatus.LOADING)
            answer = await router.ask("POST", "/models/load", {"model": model}, timeout_s=LOAD_S)
            absent_s = 0.0
            running = answer.status == 400 and b"already running" in answer.body
            if answer.status != 200:
                await router.refresh()
            if answer.status == 500 and b"model limit reached" in answer.body:
                # Somebody has loaded past the guard, on the router's own socket.
                return Full(router.service.id, router.limit, tuple(router.running()))
            if answer.status != 200 and not running:
                return Failed("the router refuses the load", status=answer.status, answer=answer)
            if not running:
                self._counts.admitted(router.service.id, model)
            begun = True
            load.begin(answer)
            return None
        finally:
            if not begun:
                self._spawn(self._settle(router, model, commitment, absent_s=absent_s))

    async def _follow(self, router: Router, model: str, commitment: Commitment | None) -> Ready | NotBegun:
        """Until it is loaded. A model that hangs is unloaded first and given up then."""
        limit_s = router.service.startup_timeout_s
        try:
            # One limit for all: whatever the router tells, this ends.
            async with asyncio.timeout(limit_s):
                while True:
                    status = await router.wait(model, lambda now: now is not ModelStatus.LOADING, limit_s)
                    if status in (ModelStatus.LOADED, ModelStatus.SLEEPING):
                        return Ready()
                    # The stream may still be telling of the model's last life.
                    await router.refresh()
                    if router.states.get(model, ModelStatus.UNKNOWN) in _ENDED:
                        return _why_ended(router, model)
        except TimeoutError:
            if commitment is not None:
                await router.unload(model)
                with_limit = router.service.stop_timeout_s
                try:
                    await router.wait(model, lambda now: now in _ENDED, with_limit)
                except TimeoutError:
                    _tell(f"{model} does not end within {with_limit:g} s after its load hung")
            return Failed(f"model {model} was not loaded within {limit_s:g} s", "load_timeout", 504)

    async def _settle(self, router: Router, model: str, commitment: Commitment, *, absent_s: float) -> None:
        """Bind the commitment to the model's process, or withdraw it: unbound it would last as long as the guard.

        `absent_s`: for how long the router has to answer without the model, which it may be about to take up where its
        answer to the load is missing. Ends with the router at the latest: the ledger drops it then.
        """
        absent_since: float | None = None
        pause_s = _SETTLE_S
        while True:
            try:
                if not await self.call(functools.partial(self._gate.is_open, commitment)):
                    return
                await router.refresh()
                now = time.monotonic()
                if router.states.get(model, ModelStatus.UNKNOWN) not in _ENDED:
                    absent_since = None
                elif absent_since is None:
                    absent_since = now
                if absent_since is not None and now - absent_since >= absent_s:
                    await self.call(functools.partial(self._gate.withdraw, commitment))
                    return
            except UpstreamGone:
                absent_since = None
            except GpumodError as error:
                _tell(f"the ledger cannot be settled for {model}: {error}")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _SETTLE_AT_MOST_S)

    # -- room -------------------------------------------------------------------------------------------------------

    async def _admitted(self, router: Router, model: str) -> Granted | Refused | Switching | Full:
        """Decide, and where the preset allows it unload idle models of the same router for it."""
        unit = router.service.unit
        decide = functools.partial(self._gate.decide, unit, model)
        evicted = False
        while True:
            full = self._full(router, model)
            if full is None:
                verdict = await self.call(decide)
                if evicted and isinstance(verdict, Refused) and verdict.may_pass:
                    verdict = await self._patiently(decide)
                if not isinstance(verdict, Refused) or verdict.short_bytes is None:
                    return verdict
                refused: Refused | Full = verdict
            else:
                refused = full
            if not await self._evict(router, model):
                return refused
            evicted = True

    def _full(self, router: Router, model: str) -> Full | None:
        running = tuple(name for name in router.running() if name != model)
        if not router.limit or len(running) < router.limit:
            return None
        return Full(router.service.id, router.limit, running, bool(router.service.unit_vars.get("evict")))

    async def _patiently(self, decide: Callable[[], Granted | Refused | Switching]) -> Granted | Refused | Switching:
        end = time.monotonic() + _EVICT_S
        while True:
            verdict = await self.call(decide)
            if not isinstance(verdict, Refused) or not verdict.may_pass or time.monotonic() > end:
                return verdict
            await asyncio.sleep(_RETRY_S)

    def _is_idle(self, router: Router, model: str) -> bool:
        return (
            router.states.get(model) in (ModelStatus.LOADED, ModelStatus.SLEEPING)
            and model not in router.ending
            and not router.in_use.get(model)
        )

    async def _evict(self, router: Router, model: str) -> bool:
        """Unload the idle model that was used longest ago; False: none may be."""
        if not router.service.unit_vars.get("evict"):
            return False
        unit = router.service.unit
        idle = [name for name in router.running() if name != model and self._is_idle(router, name)]
        # Nobody loses a model for a load that fits nowhere.
        if not idle or not await self.call(functools.partial(self._gate.would_fit, unit, model, tuple(idle))):
            return False
        idle = [name for name in idle if self._is_idle(router, name)]
        if not idle:
            return False
        victim = min(idle, key=lambda name: router.used_at.get(name, 0.0))
        if (await router.unload(victim)).status != 200:
            return False
        self._counts.evicted(router.service.id)
        try:
            await router.wait(victim, lambda now: now in _ENDED, _EVICT_S)
        except TimeoutError:
            return False
        return True


def _why_ended(router: Router, model: str) -> Failed:
    """Why a model that was to be loaded has no process."""
    if router.states.get(model) is ModelStatus.DOWNLOADING:
        return Failed(f"model '{model}' is still being downloaded", _ASKED, 400)
    if model in router.dismissed:
        return Failed(f"model '{model}' was unloaded while it was loading", _ASKED, 400)
    code = router.exit_code(model)
    return Failed(f"model {model} failed to load (exit code {code}): gpumod service logs {router.service.id}")


def _tell(message: str) -> None:
    print(in_one_line(f"gpumod-guard: {message}"), file=sys.stderr, flush=True)
