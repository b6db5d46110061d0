"""What units take of the processor, and how far loads are that somebody else began."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from gpumod_tui.core.models import ActiveState, ModelState, ModelStatus, Service, Snapshot, UnitState
from gpumod_tui.core.status.load_progress import LoadWatch
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.poller import CpuMeter, Poller
from gpumod_tui.demo.clock import PlayedClock
from gpumod_tui.demo.host import DemoHost

GLM = "GLM-4.7-Flash-UD-Q4_K_XL"
UP = UnitState("a.service", active_state=ActiveState.ACTIVE, invocation_id="1", cpu_usage_ns=1_000_000_000)


def with_ns(used_ns: int | None, invocation: str = "1") -> dict[str, UnitState]:
    return {"a.service": replace(UP, cpu_usage_ns=used_ns, invocation_id=invocation)}


def test_percent_of_one_core_between_two_readings() -> None:
    meter = CpuMeter()
    assert meter.note(with_ns(1_000_000_000), 10.0) == {}
    assert meter.note(with_ns(1_500_000_000), 11.0) == {"a.service": 50.0}
    assert meter.note(with_ns(1_500_000_000), 11.1) == {"a.service": 50.0}, "too soon to say anything new"
    assert meter.note(with_ns(5_500_000_000), 13.0) == {"a.service": 200.0}


def test_another_life_an_old_reading_and_no_counter_say_nothing() -> None:
    meter = CpuMeter()
    meter.note(with_ns(9_000_000_000), 10.0)
    assert meter.note(with_ns(1_000_000_000, invocation="2"), 11.0) == {}
    assert meter.note(with_ns(2_000_000_000, invocation="2"), 60.0) == {}
    assert meter.note(with_ns(None), 61.0) == {}
    assert meter.note(with_ns(3_000_000_000, invocation="2"), 62.0) == {}


class Heard:
    """A router's driver that hands on what a test says."""

    def __init__(self) -> None:
        self.sink: Callable[[ModelState], None] = lambda _state: None
        self.followed = 0
        self.closed = 0

    def follow_models(self, service: Service, sink: Callable[[ModelState], None]) -> "Heard":
        self.sink = sink
        self.followed += 1
        sink(ModelState(GLM, ModelStatus.LOADING, progress=0.1))
        return self

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def router() -> Service:
    return DemoHost().registry.service("glm-code")


def test_a_router_is_listened_to_only_while_it_loads(router: Service) -> None:
    clock, heard, changes = PlayedClock(), Heard(), []
    watch = LoadWatch(lambda _service: heard, clock, lambda: changes.append(1))  # type: ignore[arg-type, return-value]
    there = (ModelState(GLM, ModelStatus.LOADED),)
    coming = (ModelState(GLM, ModelStatus.LOADING), ModelState("other", ModelStatus.UNLOADED))
    watch.see(router, there)
    assert heard.followed == 0
    watch.see(router, coming)
    watch.see(router, coming)
    assert (heard.followed, len(changes)) == (1, 1)
    heard.sink(ModelState(GLM, ModelStatus.LOADING, progress=0.4, stage="text_model"))
    assert len(changes) == 1, "not more often than can be read"
    clock.advance(1.0)
    heard.sink(ModelState(GLM, ModelStatus.LOADING, progress=0.5, stage="text_model"))
    assert len(changes) == 2
    assert [model.progress for model in watch.further(router.unit, coming)] == [0.5, None]
    heard.sink(ModelState(GLM, ModelStatus.LOADED))
    assert len(changes) == 3, "an end is told at once"
    assert watch.further(router.unit, coming)[0].status is ModelStatus.LOADED
    watch.see(router, there)
    assert heard.closed == 1
    assert watch.further(router.unit, coming) == coming


def test_who_is_down_or_left_is_listened_to_no_more(router: Service) -> None:
    heard = Heard()
    watch = LoadWatch(lambda _service: heard, PlayedClock(), lambda: None)  # type: ignore[arg-type, return-value]
    coming = (ModelState(GLM, ModelStatus.LOADING),)
    watch.see(router, coming)
    watch.keep({router.unit})
    assert heard.closed == 0
    watch.keep(())
    assert heard.closed == 1
    watch.close()
    watch.see(router, coming)
    assert heard.followed == 1


def test_the_poller_tells_progress_and_processor_of_what_runs() -> None:
    host = DemoHost(running=["vllm-embedding"])
    seen: list[Snapshot] = []
    poller = Poller(host, Recorded)
    poller._callback = seen.append
    for _ in range(3):
        poller.look_at_units()
        host.clock.wait(threading.Event(), 1.0)
    view = seen[-1].service("vllm-embedding")
    assert view is not None
    assert view.cpu_percent == pytest.approx(3.0, abs=0.5)
    idle = seen[-1].service("glm-code")
    assert idle is not None
    assert idle.cpu_percent is None


def test_a_vllm_that_loads_is_as_far_as_it_logged() -> None:
    host = DemoHost()
    host.units.start("vllm-embedding.service")
    seen: list[Snapshot] = []
    poller = Poller(host, Recorded)
    poller._callback = seen.append
    stages: list[tuple[str | None, float | None]] = []
    for _ in range(200):
        host.clock.wait(threading.Event(), 0.25)
        poller.look_at_units()
        poller.look_at_servers()
        view = seen[-1].service("vllm-embedding")
        assert view is not None
        if view.is_ready:
            break
        stages += [(model.stage, model.progress) for model in view.models if model.status is ModelStatus.LOADING]
    names = list(dict.fromkeys(stage for stage, _ in stages))
    assert names == ["weights", "to the GPU", "compiling", "measuring", "graphs", "starting"]
    progress = [done for _, done in stages if done is not None]
    assert progress == sorted(progress)
    assert 0 <= progress[0] < progress[-1] < 1
    last = seen[-1].service("vllm-embedding")
    assert last is not None
    assert last.is_ready
    assert not [model for model in last.models if model.status is ModelStatus.LOADING]


def test_the_poller_tells_what_starts_at_login() -> None:
    host = DemoHost()
    seen: list[Snapshot] = []
    poller = Poller(host, Recorded)
    poller._callback = seen.append
    poller.look_at_units()
    host.script("glm-code").enabled = True
    poller.look_at_units()
    assert seen[-1].services[0].state.file_state == "static", "it is not asked for each time"
    host.clock.wait(threading.Event(), 6.0)
    poller.look_at_units()
    assert [view.state.file_state for view in seen[-1].services[:2]] == ["enabled", "static"]
