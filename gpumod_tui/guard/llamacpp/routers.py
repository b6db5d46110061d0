"""Routers behind the guard: their models' states, followed on event streams, asked for where that is not certain."""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from gpumod_tui.core.models import ModelStatus, Service
from gpumod_tui.guard.server.api_keys import Keys

ASK_S: Final = 30.0
LOAD_S: Final = 30.0
"""A load is answered at its spawn."""
CONNECT_S: Final = 1.0
_CONNECTIONS: Final = 0
"""No limit: each client has its own, and a stream holds one for as long as it lasts."""
_EVENT_BYTES: Final = 16 * 1024 * 1024
_POLL_S: Final = 0.25
_DOUBT_S: Final = 2.0
"""Silence after which a router is asked all the same: events of two threads may come in the wrong order."""
_RUNNING: Final = (ModelStatus.LOADED, ModelStatus.LOADING, ModelStatus.SLEEPING)

Heard = Callable[[bytes], None]


class UpstreamGone(Exception):
    """The server behind does not answer."""


@dataclass(slots=True)
class Answer:
    """What a router said to the guard itself."""

    status: int
    body: bytes


def open_session(socket: Path) -> aiohttp.ClientSession:
    """Connections to one unix socket; bytes pass as they are, and nothing is given up for silence."""
    return aiohttp.ClientSession(
        connector=aiohttp.UnixConnector(str(socket), limit=_CONNECTIONS, keepalive_timeout=30),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
    )


class Router:
    """One llama-server without a model. Its states are certain while its event stream is open."""

    def __init__(self, service: Service, socket: Path, heard: Heard) -> None:
        """`heard` is handed every event as it came."""
        self.service = service
        self.keys = Keys(service.api_key_file)
        self.session = open_session(socket)
        self.states: dict[str, ModelStatus] = {}
        self.limit = 0
        """Models it holds at most; 0: no limit."""
        self.ending: set[str] = set()
        """Models whose unload was asked for through the guard; the router calls them loaded until they are gone."""
        self.dismissed: set[str] = set()
        """Models that a client had unloaded and nobody has loaded since: what fails because of that is no fault."""
        self.in_use: dict[str, int] = {}
        """Requests under way, by model."""
        self.used_at: dict[str, float] = {}
        self.ends: Counter[str] = Counter()
        """How often each model's process was seen to end."""
        self._aliases: dict[str, str] = {}
        self._heard = heard
        self._certain = False
        self._opening: asyncio.Task[bool] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._exit_codes: dict[str, int] = {}
        self._told = 0
        self._told_at: dict[str, int] = {}
        """By model, the number of the last thing that was told of it."""

    # -- what it has ----------------------------------------------------------------------------------------------

    @property
    def is_certain(self) -> bool:
        """Whether `states` is what the router says now."""
        return self._certain

    def name(self, model: str) -> str | None:
        """The model's own id, of an id or alias; None: it has none of that name."""
        return model if model in self.states else self._aliases.get(model)

    def running(self) -> list[str]:
        """Models that have a process."""
        return [name for name, status in self.states.items() if status in _RUNNING]

    def exit_code(self, model: str) -> int | None:
        """Of the model's last process."""
        return self._exit_codes.get(model)

    async def look(self) -> bool:
        """Make sure that the states are right; False: the router does not run."""
        if self._certain:
            return True
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._try_to_open())
        # All who wait share one attempt, and nobody's leaving ends it.
        return await asyncio.shield(self._opening)

    async def _try_to_open(self) -> bool:
        try:
            await self._open()
        except (UpstreamGone, aiohttp.ClientError, OSError, TimeoutError):
            self.states = {}
            return False
        return True

    async def ask(self, method: str, path: str, post: object = None, *, timeout_s: float = ASK_S) -> Answer:
        """A request of the guard's own, with the service's key. Raises: UpstreamGone."""
        data = None if post is None else json.dumps(post).encode()
        try:
            async with asyncio.timeout(timeout_s):
                async with self.session.request(
                    method, f"http://router{path}", data=data, headers=self._headers()
                ) as answer:
                    return Answer(answer.status, await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise UpstreamGone(f"{self.service.id}: {str(error) or 'no answer in time'}") from error

    async def unload(self, model: str) -> Answer:
        """Ask for an unload; the model counts as ending from before the request on. Raises: UpstreamGone."""
        # The news that it is gone may be here before the answer is.
        if self.states.get(model) in _RUNNING:
            self.ending.add(model)
        try:
            answer = await self.ask("POST", "/models/unload", {"model": model})
        except UpstreamGone:
            self.ending.discard(model)
            raise
        if answer.status != 200:
            self.ending.discard(model)
        return answer

    async def refresh(self, timeout_s: float = ASK_S) -> None:
        """Ask for all states. Raises: UpstreamGone."""
        # An event that is heard meanwhile may be newer than the answer, and what follows it will be heard, too.
        told = self._told
        answer = await self.ask("GET", "/models", timeout_s=timeout_s)
        try:
            entries = json.loads(answer.body)["data"] if answer.status == 200 else None
        except (ValueError, KeyError, TypeError):
            entries = None
        if not isinstance(entries, list):
            raise UpstreamGone(f"{self.service.id}: GET /models: HTTP {answer.status}")
        self._take(entries, {model for model, at in self._told_at.items() if at > told})

    async def wait(self, model: str, ended: Callable[[ModelStatus], bool], timeout_s: float) -> ModelStatus:
        """Until the model's state is one that `ended` accepts. Raises: UpstreamGone, TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while True:
                status = self.states.get(model, ModelStatus.UNKNOWN)
                if ended(status):
                    return status
                self._changed.clear()
                try:
                    async with asyncio.timeout(_DOUBT_S if self._certain else _POLL_S):
                        await self._changed.wait()
                except TimeoutError:
                    if self.is_certain:
                        await self.refresh()
                if not self._certain and not await self.look():
                    raise UpstreamGone(f"{self.service.id} has ended")

    async def wait_ended(self, model: str) -> None:
        """Until a model that is being unloaded is gone. Raises: UpstreamGone, TimeoutError."""
        try:
            await self.wait(model, lambda _: model not in self.ending, self.service.stop_timeout_s)
        except TimeoutError:
            # It was not heeded, or its news was lost; the next who asks finds out.
            self.ending.discard(model)
            raise

    def note(self, model: str, status: ModelStatus) -> None:
        """What a request of ours has just brought about; the stream tells it a moment later."""
        self._set(model, status)
        self._wake()

    def _set(self, model: str, status: ModelStatus) -> None:
        self._note_end(model, status)
        self.states[model] = status
        self._told += 1
        self._told_at[model] = self._told
        if status not in _RUNNING:
            self.ending.discard(model)

    def _note_end(self, model: str, status: ModelStatus) -> None:
        if self.states.get(model) in _RUNNING and status not in _RUNNING:
            self.ends[model] += 1

    async def close(self) -> None:
        """End what follows it."""
        if self._opening is not None:
            self._opening.cancel()
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        await self.session.close()

    # -- following ------------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        """Follow the stream; the states are asked for once it stands, so that nothing is missed between."""
        opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._follower is not None:
            self._follower.cancel()
        self._follower = asyncio.create_task(self._follow(opened))
        try:
            async with asyncio.timeout(ASK_S):
                await opened
        except TimeoutError:
            self._follower.cancel()
            raise

    async def _follow(self, opened: "asyncio.Future[None]") -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
            async with self.session.get("http://router/models/sse", headers=self._headers(), timeout=timeout) as stream:
                await self._learn_limit()
                await self.refresh()
                # A router from before the stream is asked each time.
                self._certain = stream.status == 200
                opened.set_result(None)
                if self._certain:
                    async for event in _events(stream):
                        await self._hear(event)
        except (UpstreamGone, aiohttp.ClientError, OSError) as error:
            if not opened.done():
                opened.set_exception(error if isinstance(error, UpstreamGone) else UpstreamGone(str(error)))
        finally:
            self._certain = False
            self._wake()
            if not opened.done():
                opened.set_exception(UpstreamGone(f"{self.service.id}: its event stream ended at once"))

    async def _hear(self, event: bytes) -> None:
        self._heard(event)
        try:
            told = json.loads(event)
        except ValueError:
            return
        name, data = told.get("model"), told.get("data")
        if told.get("event") == "models_reload":
            await self.refresh()
        elif isinstance(name, str) and isinstance(data, dict) and isinstance(data.get("status"), str):
            self._set(name, ModelStatus(data["status"]))
            if isinstance(data.get("exit_code"), int):
                self._exit_codes[name] = data["exit_code"]
            self._wake()

    async def _learn_limit(self) -> None:
        answer = await self.ask("GET", "/props")
        try:
            limit = json.loads(answer.body).get("max_instances", 0)
        except (ValueError, AttributeError):
            limit = self.service.unit_vars.get("models_max") or 1
        self.limit = limit if isinstance(limit, int) else 1

    def _take(self, entries: list[Any], news: set[str]) -> None:
        states: dict[str, ModelStatus] = {}
        aliases: dict[str, str] = {}
        for entry in entries:
            name = entry.get("id")
            status = entry.get("status") or {}
            if isinstance(name, str):
                states[name] = ModelStatus(status.get("value", "unknown"))
                aliases.update(dict.fromkeys((one for one in entry.get("aliases") or () if isinstance(one, str)), name))
                if isinstance(status.get("exit_code"), int):
                    self._exit_codes[name] = status["exit_code"]
        states.update({name: self.states[name] for name in news if name in self.states})
        for name, status in states.items():
            self._note_end(name, status)
        self.states, self._aliases = states, aliases
        self.ending = {name for name in self.ending if states.get(name) in _RUNNING}
        self._wake()

    def _wake(self) -> None:
        self._changed.set()

    def _headers(self) -> dict[str, str]:
        key = self.keys.first()
        return {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}


async def _events(stream: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The `data:` of each event."""
    rest = b""
    async for chunk in stream.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _EVENT_BYTES:
            raise aiohttp.ClientPayloadError("an event without end")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A running router that has the model."""

    service: str
    status: ModelStatus
    is_default: bool
    """Whether it is the router's default model."""


_BUSY = (ModelStatus.LOADED, ModelStatus.LOADING, ModelStatus.SLEEPING)


def choose(candidates: Sequence[Candidate]) -> str | tuple[str, ...]:
    """The service to ask, or the names of those that it could be; empty: nobody has the model.

    Where it is loaded, else loading, else asleep, else the router whose default model it is, else the only one.
    """
    for status in _BUSY:
        found = [one.service for one in candidates if one.status is status]
        if found:
            return min(found)
    defaults = [one.service for one in candidates if one.is_default]
    if len(defaults) == 1:
        return defaults[0]
    names = tuple(sorted(defaults or [one.service for one in candidates]))
    return names[0] if len(names) == 1 else names


def merged(told: Sequence[tuple[Router, Answer | BaseException]]) -> list[dict[str, Any]]:
    """One entry an id: that of the router which a request for it would go to. Who failed to answer has none."""
    entries: dict[str, dict[str, dict[str, Any]]] = {}
    for router, answer in told:
        if isinstance(answer, Answer) and answer.status == 200:
            for entry in json.loads(answer.body).get("data", ()):
                entries.setdefault(entry["id"], {})[router.service.id] = entry
    defaults = {router.service.id: router.service.default_model for router, _ in told}
    data = []
    for name, by_service in entries.items():
        candidates = [
            Candidate(service, ModelStatus(entry.get("status", {}).get("value", "")), defaults[service] == name)
            for service, entry in by_service.items()
        ]
        chosen = choose(candidates)
        data.append(by_service[chosen if isinstance(chosen, str) else chosen[0]])
    return data
