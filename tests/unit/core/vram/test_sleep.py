"""What sleeps when it is left gives its memory back, is promised no more than it holds, and asks before it wakes."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gpumod_tui.core.admission.commitments import Commitment
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.models import Mode, OnLeave
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.core.text import GIB, MIB
from gpumod_tui.demo.catalog import demo_registry
from gpumod_tui.demo.host import DemoHost

EMBEDDING = "vllm-embedding"
UNIT = f"{EMBEDDING}.service"


def sleepy(*, need_mib: int = 5000) -> ServiceRegistry:
    known = demo_registry()
    vllm = replace(known.service(EMBEDDING), on_leave=OnLeave.SLEEP, sleep_mode="l1", vram_bytes=need_mib * MIB)
    devstral = replace(known.service("devstral-small-2"), vram_bytes=15000 * MIB)
    glm = replace(known.service("glm-code"), on_leave=OnLeave.SLEEP, sleep_mode="router")
    services = {**known.services, vllm.id: vllm, devstral.id: devstral, glm.id: glm}
    modes = {
        **known.modes,
        "devstral": Mode("devstral", "Devstral", ("devstral-small-2",)),
        "other": Mode("other", "Other", ()),
    }
    return ServiceRegistry(services=services, modes=modes)


class Box:
    def __init__(self, *, need_mib: int = 5000) -> None:
        self.host = DemoHost(registry=sleepy(need_mib=need_mib))
        self.manager = Manager(self.host)

    def switch(self, mode: str) -> ModeResult:
        return self.manager.submit_mode(mode).result(timeout=60)

    def service(self, verb: str, name: str = EMBEDDING) -> ModeResult:
        return self.manager.submit_service(verb, name).result(timeout=60)

    def asleep(self) -> bool | None:
        service = self.host.registry.service(EMBEDDING)
        return self.host.drivers(service).is_sleeping(service)

    def is_up(self, name: str = EMBEDDING) -> bool:
        return not self.host.units.states([f"{name}.service"])[f"{name}.service"].is_down

    def entry(self) -> Commitment:
        state, _, _ = self.host.admission.take_stock()
        (found,) = [one for one in state.commitments if one.unit == UNIT and not one.model]
        return found

    def in_a_while(self, action: Callable[[], None]) -> None:
        self.host.at(3.0, action)


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    assert made.switch("rag").success
    yield made
    made.manager.close()
    assert made.host.overcommits == 0


def test_a_mode_without_it_puts_it_to_sleep_and_uses_its_room(box: Box) -> None:
    before = box.entry().needs[0]
    result = box.switch("code")
    assert result.success, result.errors
    assert (result.slept, result.stopped, result.started) == ((EMBEDDING,), (), ("glm-code",))
    assert box.asleep()
    assert box.entry().needs[0] < before // 2
    assert box.host.admission.still_open()[UNIT, ""] == {0: 0}


def test_back_it_wakes_in_the_same_life_and_the_router_unloads(box: Box) -> None:
    life = box.host.units.states([UNIT])[UNIT].invocation_id
    box.switch("code")
    result = box.switch("rag")
    assert result.success, result.errors
    assert (result.woken, result.started, result.slept) == ((EMBEDDING,), (), ("glm-code",))
    assert box.asleep() is False
    assert box.host.units.states([UNIT])[UNIT].invocation_id == life
    assert box.entry().needs[0] >= 5000 * MIB
    assert box.is_up("glm-code")
    assert box.switch("code").success


def test_blank_stops_everything_asleep_or_not(box: Box) -> None:
    box.switch("other")
    assert box.asleep()
    result = box.switch("blank")
    assert result.stopped == (EMBEDDING,)
    box.switch("rag")
    assert box.switch("blank").stopped == (EMBEDDING,)


def test_memory_that_does_not_come_back_ends_in_a_stop_and_a_warning(box: Box) -> None:
    box.host.script(EMBEDDING).sleep_share = 0.9
    result = box.switch("code")
    assert result.success, result.errors
    assert (result.slept, result.stopped) == ((), (EMBEDDING,))
    assert any("did not come back" in warning for warning in result.warnings)


def test_a_refused_sleep_ends_in_a_stop_and_a_warning(box: Box) -> None:
    box.host.script(EMBEDDING).sleep_fails = True
    result = box.switch("code")
    assert (result.success, result.stopped) == (True, (EMBEDDING,))
    assert any("HTTP 500" in warning for warning in result.warnings)


def test_what_does_not_fit_beside_a_sleeper_stops_it(box: Box) -> None:
    result = box.switch("nemotron")
    assert result.success, result.errors
    assert (result.slept, result.stopped) == ((), (EMBEDDING,))
    assert any("rather than asleep" in warning for warning in result.warnings)


def test_a_sleeper_that_is_in_the_way_of_a_later_mode_is_stopped(box: Box) -> None:
    box.switch("other")
    result = box.switch("nemotron")
    assert (result.success, result.stopped) == (True, (EMBEDDING,))


def test_a_wake_that_does_not_fit_is_refused_and_it_sleeps_on(box: Box) -> None:
    box.switch("other")
    held = box.entry().needs
    box.host.foreign(20000)
    result = box.service("wake")
    assert result.outcome is Outcome.REFUSED
    assert box.asleep()
    assert box.entry().needs == held


def test_a_refused_wake_at_the_guard_leaves_the_promise_as_it_is(box: Box) -> None:
    box.switch("other")
    held = box.entry()
    box.host.foreign(20000)
    box.host.admission.admit(UNIT, invocation=held.invocation)
    assert box.entry() == held


def test_a_wake_that_fails_leaves_it_asleep_again(box: Box) -> None:
    box.switch("other")
    box.host.script(EMBEDDING).wake_fails = True
    result = box.switch("rag")
    assert (result.outcome, result.woken) == (Outcome.FAILED, ())
    assert any("does not wake" in str(error) and error.journal for error in result.errors)
    assert box.asleep()
    assert box.host.admission.still_open()[UNIT, ""] == {0: 0}


def test_a_wake_that_fails_where_sleep_fails_too_is_stopped(box: Box) -> None:
    box.switch("other")
    box.host.script(EMBEDDING).wake_fails = box.host.script(EMBEDDING).sleep_fails = True
    assert box.switch("rag").outcome is Outcome.FAILED
    assert not box.is_up()


def test_one_that_sleeps_and_is_promised_more_is_put_to_sleep_once_more_and_promised_what_it_holds(box: Box) -> None:
    service = box.host.registry.service(EMBEDDING)
    box.host.drivers(service).sleep(service, lambda: None)
    assert box.entry().needs[0] >= 5000 * MIB
    result = box.switch("code")
    assert (result.success, result.slept, result.stopped) == (True, (EMBEDDING,), ())
    assert box.host.admission.still_open()[UNIT, ""] == {0: 0}


def test_while_somebody_else_has_the_turn_it_is_neither_woken_nor_put_to_sleep(box: Box) -> None:
    turn = box.host.admission.try_turn(UNIT)
    assert turn is not None
    result = box.service("sleep")
    assert (result.outcome, box.is_up(), box.asleep()) == (Outcome.FAILED, True, False)
    assert "another process" in str(result.errors[0])
    box.in_a_while(turn.close)
    assert box.service("sleep").success
    turn = box.host.admission.try_turn(UNIT)
    assert turn is not None
    assert box.service("wake").outcome is Outcome.FAILED
    assert box.asleep()
    assert box.switch("nemotron").stopped == (EMBEDDING,)
    turn.close()


def test_one_admitted_since_it_was_seen_awake_is_not_shrunk(box: Box) -> None:
    known = box.host.admission.promises_of(UNIT)
    needs = box.entry().needs
    box.host.admission.admit(UNIT, invocation=box.entry().invocation)
    assert box.host.admission.shrink(UNIT, known, {0: 32 * GIB}) is False
    assert box.entry().needs == needs


def test_what_a_switch_promised_its_next_life_is_not_shrunk_by_the_sleep_of_this_one(box: Box) -> None:
    assert box.host.admission.promise("a switch", [(UNIT, "", {0: 5000 * MIB})], ending={UNIT}) is None
    known = box.host.admission.promises_of(UNIT)
    assert len(known) == 2
    assert box.host.admission.shrink(UNIT, known, {0: 32 * GIB}) is False
    state, _, _ = box.host.admission.take_stock()
    (its_next,) = [one for one in state.commitments if one.unit == UNIT and not one.invocation]
    assert its_next.needs[0] == 5000 * MIB


def test_one_that_holds_more_than_it_may_is_not_shrunk(box: Box) -> None:
    known = box.host.admission.promises_of(UNIT)
    assert box.host.admission.shrink(UNIT, known, {0: 1000 * MIB}) is False
    assert box.host.admission.shrink(UNIT, known, {0: 32 * GIB}) is True


def test_a_wake_that_hangs_is_cancelled_and_it_sleeps_on(box: Box) -> None:
    box.service("sleep")
    box.host.script(EMBEDDING).wake_s = 1e6
    box.in_a_while(box.manager.cancel)
    assert box.service("wake").outcome is Outcome.CANCELLED
    assert box.asleep()
    assert box.host.admission.still_open()[UNIT, ""] == {0: 0}


def test_a_sleep_that_hangs_is_cancelled_and_its_promise_stays(box: Box) -> None:
    needs = box.entry().needs
    box.host.script(EMBEDDING).sleep_s = 1e6
    box.in_a_while(box.manager.cancel)
    result = box.service("sleep")
    assert result.outcome is Outcome.CANCELLED
    assert any("stays promised" in warning for warning in result.warnings)
    assert box.entry().needs == needs


def test_a_server_that_dies_while_it_wakes_ends_the_wait(box: Box) -> None:
    box.service("sleep")
    box.host.script(EMBEDDING).wake_s = 1e6
    box.in_a_while(lambda: box.host.die(EMBEDDING))
    result = box.service("wake")
    assert (result.outcome, box.is_up()) == (Outcome.FAILED, False)


def test_by_hand(box: Box) -> None:
    assert box.service("sleep").slept == (EMBEDDING,)
    assert box.service("sleep").success
    assert box.host.store.read().recorded.mode == "rag"
    assert box.service("wake").woken == (EMBEDDING,)
    assert box.service("wake").success
    box.service("sleep")
    assert box.service("start").woken == (EMBEDDING,)
    assert box.service("sleep", "devstral-small-2").outcome is Outcome.REFUSED
    box.service("stop")
    assert box.service("wake").outcome is Outcome.REFUSED
    assert box.service("sleep").outcome is Outcome.REFUSED


def test_a_router_is_woken_by_the_load_of_its_default_model_and_not_where_that_does_not_fit(box: Box) -> None:
    box.switch("code")
    assert box.service("sleep", "glm-code").slept == ("glm-code",)
    assert box.host.admission.still_open().keys() == {(UNIT, ""), ("glm-code.service", "")}
    box.host.foreign(20000)
    result = box.service("wake", "glm-code")
    assert result.outcome is Outcome.REFUSED
    assert "insufficient VRAM" in str(result.errors[0])
    box.switch("blank")
    assert box.service("wake", "glm-code").outcome is Outcome.REFUSED


def test_a_router_that_sleeps_is_woken_in_the_same_life(box: Box) -> None:
    box.switch("code")
    box.service("sleep", "glm-code")
    result = box.service("wake", "glm-code")
    assert (result.success, result.started) == (True, ())
    driver = box.host.drivers(box.host.registry.service("glm-code"))
    assert driver.is_sleeping(box.host.registry.service("glm-code")) is False
    assert box.service("wake", "glm-code").success


def test_the_plan_says_who_sleeps_and_who_wakes(box: Box) -> None:
    assert box.manager.plan("code").sleep == (EMBEDDING,)
    box.switch("code")
    plan = box.manager.plan("rag")
    assert (plan.wake, plan.sleep, plan.blockers) == ((EMBEDDING,), ("glm-code",), ())
    assert 0 < plan.needs[EMBEDDING][0] < 5000 * MIB


def test_without_memory_by_process_nothing_can_be_proved_and_it_is_stopped(box: Box) -> None:
    box.host.gpus.tells_processes = False
    result = box.switch("other")
    assert (result.success, result.stopped) == (True, (EMBEDDING,))
