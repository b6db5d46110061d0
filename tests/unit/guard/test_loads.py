"""Loads at one router: what it holds is counted and it is asked in one turn."""

import asyncio
import json
import time
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpumod_tui.core.admission.commitments import Commitment
from gpumod_tui.core.admission.decide import Granted, Refused
from gpumod_tui.core.models import DriverKind, ModelStatus, Service
from gpumod_tui.core.ports import Closeable
from gpumod_tui.guard.admission import Gate
from gpumod_tui.guard.llamacpp.routers import Answer, Router, UpstreamGone
from gpumod_tui.guard.loads import Failed, Full, Loads, Ready
from gpumod_tui.guard.server.metrics import Counts

SERVICE = Service("r", "r.service", DriverKind.LLAMACPP, default_model="a")


class PlayedGate(Gate):
    """Grants everything, and takes its time; what was granted is open until it is withdrawn."""

    def __init__(self, decide_s: float = 0.05) -> None:
        self.decide_s = decide_s
        self.kept_by_another = False
        self.open: set[str] = set()

    def decide(self, unit: str, model: str) -> Granted | Refused:
        time.sleep(self.decide_s)
        self.open.add(model)
        return Granted(Commitment(model, unit, model, {0: 1}, None, 0.0))

    def would_fit(self, unit: str, model: str, without: Collection[str]) -> bool:
        return True

    def try_turn(self, unit: str) -> Closeable | None:
        if self.kept_by_another:
            return None
        return SimpleNamespace(close=lambda: None)

    def is_open(self, commitment: Commitment) -> bool:
        return commitment.id in self.open

    def withdraw(self, commitment: Commitment) -> None:
        self.open.discard(commitment.id)


SILENCE = Answer(0, b"")


class PlayedRouter(Router):
    """Has two models, loads at once, and writes down what it was asked for."""

    def __init__(self, folder: Path, *, answers: tuple[Answer, ...] = ()) -> None:
        super().__init__(SERVICE, folder / "r.sock", lambda _event: None)
        self.limit = 1
        self.states = {"a": ModelStatus.UNLOADED, "b": ModelStatus.UNLOADED}
        self.asked: list[str] = []
        self.answers = list(answers)
        self.looks = 0

    async def ask(self, method: str, path: str, post: Any = None, *, timeout_s: float = 0.0) -> Answer:
        if (method, path) == ("GET", "/models"):
            self.looks += 1
            assert self.looks < 1000, "it is asked without a pause"
            entries = [{"id": name, "status": {"value": self.really.get(name, "unloaded")}} for name in self.states]
            return Answer(200, json.dumps({"data": entries}).encode())
        self.asked.append(f"{path} {post['model']}")
        if self.answers:
            answer = self.answers.pop(0)
            if answer is SILENCE:
                raise UpstreamGone("no answer in time")
            return answer
        self.really[post["model"]] = "loaded"
        self.note(post["model"], ModelStatus.LOADED)
        return Answer(200, b'{"success":true}')

    really: dict[str, str]


def loaded_in(router: PlayedRouter, gate: PlayedGate, *models: str, then_s: float = 0.1) -> list[object]:
    async def run() -> list[object]:
        router.really = {}
        loads = Loads(gate, Counts())
        found = await asyncio.gather(*(loads.begin(router, model).done for model in models))
        await asyncio.sleep(then_s)
        await loads.close()
        await router.close()
        return list(found)

    return asyncio.run(run())


@pytest.fixture
def session_in_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session wants a loop; no request leaves the played router."""

    class Session:
        async def close(self) -> None: ...

    monkeypatch.setattr("gpumod_tui.guard.llamacpp.routers.open_session", lambda _socket: Session())


pytestmark = pytest.mark.usefixtures("session_in_loop")


def test_of_two_at_once_a_router_with_one_place_is_asked_for_one(tmp_path: Path) -> None:
    router = PlayedRouter(tmp_path)
    first, second = loaded_in(router, PlayedGate(), "a", "b")
    assert first == Ready()
    assert second == Full("r", 1, ("a",))
    assert router.asked == ["/models/load a"], "asked for the second, it would have evicted the first"


def test_what_another_process_loads_meanwhile_is_counted_before_the_router_is_asked(tmp_path: Path) -> None:
    """Past its limit the router would end what the other one has loaded."""
    router, gate = PlayedRouter(tmp_path), PlayedGate(0.0)
    gate.kept_by_another = True

    async def run() -> object:
        router.really = {}
        loads = Loads(gate, Counts())
        load = loads.begin(router, "a")
        await asyncio.sleep(0.3)
        assert not load.done.done()
        # No event has told it yet.
        router.really["b"] = "loading"
        gate.kept_by_another = False
        outcome = await load.done
        await asyncio.sleep(0.1)
        await loads.close()
        return outcome

    assert asyncio.run(run()) == Full("r", 1, ("b",))
    assert router.asked == []
    assert not gate.open


def test_a_router_that_another_process_keeps_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumod_tui.guard.loads._TURN_S", 0.1)
    gate = PlayedGate(0.0)
    gate.kept_by_another = True
    (outcome,) = loaded_in(PlayedRouter(tmp_path), gate, "a")
    assert outcome == Failed("another process has r load a model", "busy", 503, may_pass=True)
    assert not gate.open


def test_a_router_that_says_it_is_full_is_full(tmp_path: Path) -> None:
    said = Answer(500, b'{"error":{"code":500,"message":"model limit reached, try again later"}}')
    gate = PlayedGate(0.0)
    (outcome,) = loaded_in(PlayedRouter(tmp_path, answers=(said,)), gate, "a")
    assert isinstance(outcome, Full)
    assert not gate.open


def test_what_the_router_refuses_is_withdrawn(tmp_path: Path) -> None:
    gate = PlayedGate(0.0)
    (outcome,) = loaded_in(PlayedRouter(tmp_path, answers=(Answer(404, b"{}"),)), gate, "a")
    assert isinstance(outcome, Failed)
    assert not gate.open


@pytest.mark.parametrize(("absent_s", "kept"), [(30.0, {"a"}), (0.2, set())])
def test_a_load_that_was_not_answered_is_promised_until_its_router_is_long_without_it(
    absent_s: float, kept: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full router calls the model unloaded for as long as it takes to end another one."""
    monkeypatch.setattr("gpumod_tui.guard.loads.ORPHAN_S", absent_s)
    monkeypatch.setattr("gpumod_tui.guard.loads._SETTLE_S", 0.05)
    gate = PlayedGate(0.0)
    (outcome,) = loaded_in(PlayedRouter(tmp_path, answers=(SILENCE,)), gate, "a", then_s=1.0)
    assert isinstance(outcome, Failed)
    assert gate.open == kept


class Downloading(PlayedRouter):
    """A download of the model begins: before it is looked at, or with the request for its load."""

    def __init__(self, folder: Path, *, known: bool) -> None:
        super().__init__(folder, answers=(Answer(400, b'{"error":{"message":"model is already running"}}'),))
        self.known = known

    async def ask(self, method: str, path: str, post: Any = None, *, timeout_s: float = 0.0) -> Answer:
        if self.known or path == "/models/load":
            self.really["a"] = "downloading"
        return await super().ask(method, path, post, timeout_s=timeout_s)


@pytest.mark.parametrize("known", [True, False])
def test_a_model_that_is_being_downloaded_is_not_loaded_and_not_promised(known: bool, tmp_path: Path) -> None:
    gate = PlayedGate(0.0)
    router = Downloading(tmp_path, known=known)
    (outcome,) = loaded_in(router, gate, "a")
    assert outcome == Failed("model 'a' is still being downloaded", "invalid_request_error", 400)
    assert router.asked == ([] if known else ["/models/load a"])
    assert not gate.open
