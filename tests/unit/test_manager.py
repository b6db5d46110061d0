"""The manager switches the played host, and says the truth when it cannot."""

import threading
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from gpumod_tui.core.admission.commitments import LedgerState
from gpumod_tui.core.admission.decide import Granted, Refused
from gpumod_tui.core.catalog.registry import BLANK_MODE, ServiceRegistry
from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import StateUnavailable
from gpumod_tui.core.events import Event, Step, StepEnded, StepProgress, SwitchEnded
from gpumod_tui.core.models import ActiveState, DriverKind, Listener, Mode, ModelState, ModelStatus, Service
from gpumod_tui.core.servers.llamacpp import full_router
from gpumod_tui.core.switch import manager as module
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.core.text import MIB
from gpumod_tui.demo.clock import PlayedClock
from gpumod_tui.demo.host import DemoHost

GLM = "GLM-4.7-Flash-UD-Q4_K_XL"
SMALL = "GLM-Small-Q4_K_M"


class Box:
    """A played host with its manager and what it reported."""

    def __init__(self, *running: str, registry: ServiceRegistry | None = None) -> None:
        self.host = DemoHost(running=running, registry=registry)
        self.events: list[Event] = []
        self.manager = Manager(fits(self.host), self.events.append)

    def switch(self, mode: str, *, timeout_s: float | None = None) -> ModeResult:
        return self.manager.submit_mode(mode, timeout_s=timeout_s).result(timeout=60)

    def service(self, verb: str, name: str) -> ModeResult:
        return self.manager.submit_service(verb, name).result(timeout=60)

    def up(self) -> set[str]:
        units = [service.unit for service in self.host.registry.services.values()]
        return {
            unit.removesuffix(".service") for unit, state in self.host.units.states(units).items() if not state.is_down
        }

    def loaded(self, service: str) -> set[str]:
        found = self.host.registry.service(service)
        return {m.id for m in self.host.drivers(found).models(found) if m.status is ModelStatus.LOADED}

    @property
    def steps(self) -> list[Step]:
        return [event.step for event in self.events if isinstance(event, StepEnded)]

    @property
    def clock(self) -> PlayedClock:
        assert isinstance(self.host.clock, PlayedClock)
        return self.host.clock


def unwritable(_timeout_s: float) -> None:
    raise StateUnavailable("ledger.json: No space left on device")


def fits(host: DemoHost) -> Engine:
    return host


@pytest.fixture
def box() -> Iterator[Box]:
    made = Box()
    yield made
    made.manager.close()


def started(*running: str) -> Box:
    return Box(*running)


def service(name: str, vram_mib: int, *, depends_on: tuple[str, ...] = ()) -> Service:
    port = 9000 + vram_mib % 1000 + len(depends_on)
    return Service(name, name, DriverKind.FASTAPI, port, vram_mib * MIB, depends_on=depends_on)


def registry_of(*services: Service, mode: tuple[str, ...]) -> ServiceRegistry:
    return ServiceRegistry(
        services={one.id: one for one in services}, modes={"blank": BLANK_MODE, "both": Mode("both", "Both", mode)}
    )


class TestSwitch:
    def test_from_nothing_to_a_router_with_its_model_loaded(self, box: Box) -> None:
        result = box.switch("code")
        assert result.errors == ()
        assert result.success
        assert (result.mode, result.started, result.stopped, result.kept) == ("code", ("glm-code",), (), ())
        assert box.loaded("glm-code") == {GLM}
        assert box.host.store.read().recorded.mode == "code"
        assert box.steps == [Step.PREFLIGHT, Step.STOP, Step.RELEASE, Step.START, Step.LOAD, Step.VERIFY]
        assert set(result.timings) == set(box.steps)

    def test_what_goes_is_gone_and_its_memory_back_before_what_comes_starts(self, box: Box) -> None:
        box.switch("code")
        result = box.switch("nemotron")
        assert result.success, result.errors
        assert (result.started, result.stopped) == (("nemotron-3-nano",), ("glm-code",))
        assert box.up() == {"nemotron-3-nano"}
        assert result.timings[Step.RELEASE] == pytest.approx(1.0, abs=0.1)
        assert box.host.overcommits == 0

    def test_release_is_found_within_50_ms(self, box: Box) -> None:
        box.switch("code")
        box.host.world.release_s = 2.0
        result = box.switch("nemotron")
        assert 0 <= result.timings[Step.RELEASE] - 2.0 + 0.02 <= 0.05

    def test_what_is_ready_is_kept(self, box: Box) -> None:
        box.switch("rag")
        before = box.host.units.states(["vllm-embedding.service"])["vllm-embedding.service"].invocation_id
        result = box.switch("rag")
        assert (result.success, result.kept, result.started) == (True, ("vllm-embedding",), ())
        assert box.host.units.states(["vllm-embedding.service"])["vllm-embedding.service"].invocation_id == before

    def test_what_runs_counts_not_what_was_recorded(self, box: Box) -> None:
        box.switch("rag")
        box.host.units.start("devstral-small-2.service")
        box.clock.advance(30.0)
        result = box.switch("blank")
        assert set(result.stopped) == {"vllm-embedding", "devstral-small-2"}
        assert box.up() == set()
        assert box.host.store.read().recorded.mode == "blank"

    def test_a_failed_unit_is_started_anew(self, box: Box) -> None:
        box.switch("code")
        box.host.die("glm-code")
        result = box.switch("code")
        assert (result.success, result.started) == (True, ("glm-code",))

    def test_a_router_that_lost_its_model_loads_it_again_without_a_restart(self, box: Box) -> None:
        box.switch("code")
        service = box.host.registry.service("glm-code")
        box.host.drivers(service).unload(service, GLM)
        box.clock.advance(3.0)
        result = box.switch("code")
        assert (result.success, result.kept) == (True, ("glm-code",))
        assert box.loaded("glm-code") == {GLM}

    def test_no_load_leaves_the_router_empty(self, box: Box) -> None:
        result = box.manager.submit_mode("code", load_models=False).result(timeout=60)
        assert result.success
        assert box.loaded("glm-code") == set()

    def test_blank_waits_until_memory_is_back(self, box: Box) -> None:
        box.switch("code")
        result = box.switch("blank")
        assert result.success
        assert result.timings[Step.RELEASE] == pytest.approx(1.0, abs=0.1)


class TestVramTimeoutAborts:
    """A release that does not come ends the switch before anything starts."""

    def test_switch_fails_and_says_vram_not_released(self, box: Box) -> None:
        box.switch("code")
        box.host.hold_release()
        result = box.switch("nemotron")
        assert isinstance(result, ModeResult)
        assert result.success is False
        assert "VRAM not released" in str(result.errors[0])
        assert "23040 MiB" in str(result.errors[0])
        assert result.outcome is Outcome.FAILED

    def test_nothing_is_started(self, box: Box) -> None:
        box.switch("code")
        box.host.hold_release()
        result = box.switch("nemotron")
        assert result.started == ()
        assert result.stopped == ("glm-code",)
        assert box.up() == set()
        assert Step.START not in box.steps[6:]
        assert box.host.overcommits == 0

    def test_blank_recovers(self, box: Box) -> None:
        box.switch("code")
        box.host.hold_release()
        box.switch("nemotron")
        recorded = box.host.store.read().recorded
        assert recorded.mode is None
        assert recorded.note.startswith("switch to nemotron failed at release: VRAM not released")
        box.host.let_go()
        assert box.switch("blank").success
        assert box.host.store.read().recorded.mode == "blank"
        assert box.switch("nemotron").success


class TestRelease:
    def test_ends_early_when_nobody_who_could_release_is_left(self, box: Box) -> None:
        box.switch("code")
        box.host.hold_release()
        result = box.switch("nemotron")
        assert result.timings[Step.RELEASE] < 10.0

    def test_goes_on_while_memory_still_moves(self, box: Box) -> None:
        box.switch("code")
        box.host.hold_release()

        def take() -> None:
            box.host.foreign(70)

        for second in range(1, 25):
            box.host.at(second, take)
        result = box.switch("nemotron")
        assert not result.success
        assert result.timings[Step.RELEASE] > 15.0

    def test_blank_succeeds_with_a_warning_when_memory_is_lost(self, box: Box) -> None:
        box.switch("code")
        box.host.hold_release()
        result = box.switch("blank")
        assert result.success
        assert any("VRAM not released" in warning for warning in result.warnings)

    def test_progress_is_told_while_it_waits(self, box: Box) -> None:
        box.switch("code")
        box.switch("nemotron")
        told = [event for event in box.events if isinstance(event, StepProgress) and event.step is Step.RELEASE]
        assert len(told) >= 5
        assert all(event.fraction is not None and 0 <= event.fraction <= 1 for event in told)


class TestPreflight:
    """What cannot work is refused before anything stops."""

    def test_too_little_memory_names_the_holder_and_touches_nothing(self, box: Box) -> None:
        box.switch("rag")
        pid = box.host.foreign(8000)
        result = box.switch("nemotron")
        assert result.outcome is Outcome.REFUSED
        assert "insufficient VRAM" in str(result.errors[0])
        assert str(pid) in str(result.errors[0])
        assert "8000 MiB" in str(result.errors[0])
        assert box.up() == {"vllm-embedding"}
        assert box.host.store.read().recorded.mode == "rag"

    def test_memory_of_what_stops_is_counted(self, box: Box) -> None:
        box.switch("code")
        plan = box.manager.plan("nemotron")
        assert plan.blockers == ()
        (row,) = plan.arithmetic
        assert row.stopping_bytes is not None
        assert row.stopping_bytes > 19000 * 1024**2

    @pytest.mark.parametrize(
        ("break_it", "said"),
        [
            (lambda host: setattr(host.script("glm-code"), "installed", False), "not installed"),
            (lambda host: setattr(host.script("glm-code"), "missing", ("no model file x.gguf",)), "x.gguf"),
            (lambda host: host.take_port(7070), "port 7070"),
            (lambda host: setattr(host.gpus, "error", "driver is gone"), "driver is gone"),
            (lambda host: host.lose_gpu(0, "GPU is lost"), "GPU is lost"),
        ],
    )
    def test_refused_with_a_reason(self, break_it: object, said: str) -> None:
        box = started("vllm-embedding")
        assert callable(break_it)
        break_it(box.host)
        result = box.switch("code")
        assert result.outcome is Outcome.REFUSED
        assert any(said in str(error) for error in result.errors), result.errors
        assert box.up() == {"vllm-embedding"}
        box.manager.close()

    def test_a_port_held_by_what_stops_is_free(self, box: Box) -> None:
        box.switch("code")
        assert box.manager.plan("nemotron").blockers == ()

    def test_blank_works_without_nvml_and_says_so(self) -> None:
        box = started("glm-code")
        box.host.gpus.error = "driver is gone"
        result = box.switch("blank")
        assert result.success
        assert any("driver is gone" in warning for warning in result.warnings)
        box.manager.close()

    def test_unknown_mode(self, box: Box) -> None:
        result = box.switch("cod")
        assert result.outcome is Outcome.UNKNOWN_TARGET
        assert "code" in result.errors[0].hint
        assert box.events == [SwitchEnded(result)], "whoever only listens hears of it, too"


@pytest.mark.parametrize(
    ("listener", "words"),
    [
        (Listener(1, 99, None, "nginx"), "nginx pid 99 (no unit)"),
        (Listener(1, 99, "a.service"), "a process pid 99 (a.service)"),
        (Listener(1, None, None), "a process of another user"),
        (Listener(1, None, None, is_ours=True), "a process that cannot be looked into"),
    ],
)
def test_who_listens_is_named_as_far_as_it_is_known(listener: Listener, words: str) -> None:
    assert str(listener) == words


class TestFailures:
    def test_a_unit_that_dies_ends_the_wait_at_once_with_its_journal(self, box: Box) -> None:
        box.host.script("vllm-embedding").start_fails = 1
        began = box.clock.monotonic()
        result = box.switch("rag")
        assert result.outcome is Outcome.FAILED
        assert box.clock.monotonic() - began < 10.0
        assert "exit-code" in str(result.errors[0])
        assert any("Free memory on device" in line.message for line in result.errors[0].journal)
        recorded = box.host.store.read().recorded
        assert recorded.mode is None
        assert "failed at start" in recorded.note

    def test_a_crash_loop_is_a_death(self, box: Box) -> None:
        script = box.host.script("vllm-embedding")
        script.auto_restart, script.start_fails = True, -1
        result = box.switch("rag")
        assert "restarted by systemd" in str(result.errors[0])
        assert box.up() == set()

    def test_a_failed_load_is_undone(self, box: Box) -> None:
        box.host.script("glm-code").load_fails = 1
        result = box.switch("code")
        assert result.outcome is Outcome.FAILED
        assert "failed to load" in str(result.errors[0])
        assert result.started == ()
        assert box.up() == set()
        assert box.steps[-1] is Step.ROLLBACK

    def test_a_load_that_never_ends_has_a_limit(self, box: Box) -> None:
        box.host.script("glm-code").load_never_ends = True
        result = box.switch("code")
        assert "is not loaded" in str(result.errors[0])
        assert box.up() == set()

    def test_never_ready_has_a_limit(self, box: Box) -> None:
        box.host.script("vllm-embedding").never_ready = True
        result = box.switch("rag")
        assert "not ready after 120 s" in str(result.errors[0])

    def test_a_dead_engine_is_not_waited_for(self, box: Box) -> None:
        box.host.script("vllm-embedding").dead = True
        began = box.clock.monotonic()
        assert "dead" in str(box.switch("rag").errors[0])
        assert box.clock.monotonic() - began < 10.0

    def test_death_while_loading(self, box: Box) -> None:
        box.host.at(2.0, lambda: box.host.die("glm-code", 137))
        result = box.switch("code")
        assert not result.success
        assert "glm-code" in str(result.errors[0])

    def test_sigkill_after_the_stop_timeout(self, box: Box) -> None:
        box.switch("code")
        box.host.script("glm-code").ignores_stop = True
        result = box.switch("nemotron")
        assert result.success, result.errors
        assert any("was killed" in warning for warning in result.warnings)

    def test_a_process_stuck_in_the_kernel_fails_the_stop_and_is_named(self, box: Box) -> None:
        box.switch("code")
        box.host.script("glm-code").ignores_kill = True
        result = box.switch("nemotron")
        assert result.outcome is Outcome.FAILED
        assert "state D" in str(result.errors[0])
        assert result.started == ()

    def test_a_port_answered_by_somebody_else_is_not_ready(self, box: Box) -> None:
        box.host.script("vllm-embedding").ready_s = 2.0
        box.host.at(1.0, lambda: box.host.take_port(8200))
        result = box.switch("rag")
        assert "port 8200 of vllm-embedding is held by nginx pid 999" in str(result.errors[0])

    @pytest.mark.parametrize(("address", "told"), [("0.0.0.0", True), ("127.0.0.1", False)])
    def test_a_service_that_listens_beyond_loopback_is_told(
        self, box: Box, address: str, told: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = box.host.processes.listeners
        monkeypatch.setattr(
            box.host.processes,
            "listeners",
            lambda port: tuple(msgspec.structs.replace(one, addresses=(address,)) for one in before(port)),
        )
        result = box.switch("rag")
        assert result.success, result.errors
        said = [warning for warning in result.warnings if "vllm-embedding listens on 0.0.0.0 port 8200" in warning]
        assert len(said) == told

    def test_an_overall_timeout(self, box: Box) -> None:
        box.host.script("glm-code").load_s = 50.0
        result = box.switch("code", timeout_s=5.0)
        assert not result.success
        assert box.up() == set()


class TestRefusedByTheUnitItself:
    """A unit's ExecCondition may say no after the preflight has said yes."""

    def test_is_refused_not_failed_and_the_recorded_mode_stays(self, box: Box) -> None:
        box.switch("blank")
        box.host.script("glm-code").exec_condition_fails = True
        result = box.switch("code")
        assert result.outcome is Outcome.REFUSED
        assert box.host.store.read().recorded.mode == "blank"

    def test_its_words_come_from_the_ledger(self, box: Box) -> None:
        box.host.script("glm-code").exec_condition_fails = True
        box.host.script("glm-code").start_s = 1.0
        pids: list[int] = []
        box.host.at(0.5, lambda: pids.append(box.host.foreign(24_000)))

        def refuse() -> None:
            box.host.admission.admit("glm-code.service", GLM)

        box.host.at(0.6, refuse)
        result = box.switch("code")
        assert "glm-code.service was refused: insufficient VRAM" in str(result.errors[0])
        assert "24000 MiB" in str(result.errors[0])

    def test_after_something_was_stopped_it_is_a_failure(self, box: Box) -> None:
        box.switch("rag")
        box.host.script("glm-code").exec_condition_fails = True
        assert box.switch("code").outcome is Outcome.FAILED


class TestPromises:
    """A switch commits its whole target before anything stops."""

    def test_nobody_is_admitted_into_a_switch_that_runs(self, box: Box) -> None:
        box.switch("rag")
        verdicts: list[object] = []

        def ask() -> None:
            verdicts.append(box.host.admission.admit("devstral-small-2.service", invocation="by-hand"))

        box.host.at(1.9, ask)
        assert box.switch("nemotron").success
        assert isinstance(verdicts[0], Refused)
        assert verdicts[0].promised_bytes

    def test_a_promise_of_others_is_not_planned_with(self, box: Box) -> None:
        verdict = box.host.admission.admit("devstral-small-2.service")
        assert isinstance(verdict, Granted)
        result = box.service("start", "glm-code")
        assert result.outcome is Outcome.REFUSED
        assert "insufficient VRAM" in str(result.errors[0])

    def test_a_ledger_that_was_rebuilt_is_told_in_the_result_and_once(self) -> None:
        box = started("glm-code")
        box.host.ledger.state = LedgerState(lost="ledger.json is damaged")
        assert [text for text in box.switch("code").warnings if "rebuilt" in text] == [
            "ledger.json is damaged; rebuilt from what runs"
        ]
        assert not [text for text in box.switch("blank").warnings if "rebuilt" in text]
        box.host.ledger.state = LedgerState()
        assert not [text for text in box.manager.plan("code").warnings if "ledger" in text], "nothing ran"
        box.switch("code")
        box.host.ledger.state = LedgerState()
        assert any("was missing while glm-code" in text for text in box.manager.plan("blank").warnings)
        box.manager.close()

    def test_nothing_is_promised_any_more_when_all_has_ended(self, box: Box) -> None:
        box.switch("code")
        box.host.script("nemotron-3-nano").load_fails = 1
        box.switch("nemotron")
        box.switch("blank")
        state, _, _ = box.host.admission.take_stock()
        assert state.commitments == ()


class TestBrokenByHand:
    """What reviewers broke once."""

    def test_memory_that_a_stranger_takes_between_two_waves_is_seen(self) -> None:
        box = Box(
            registry=registry_of(
                service("first", 1000), service("second", 12_000, depends_on=("first",)), mode=("first", "second")
            )
        )
        box.host.script("first").ready_s = 6.0
        pids: list[int] = []
        box.host.at(3.0, lambda: pids.append(box.host.foreign(15_000)))
        result = box.switch("both")
        assert not result.success
        assert "second.service was refused: insufficient VRAM" in str(result.errors[0])
        assert box.host.overcommits == 0
        assert box.up() == set()
        box.manager.close()

    def test_a_preset_that_changed_is_planned_and_decided_with_as_it_is_now(
        self, box: Box, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert not box.manager.plan("rag").blockers
        services = dict(box.host.registry.services)
        services["vllm-embedding"] = replace(services["vllm-embedding"], vram_bytes=1 << 40)
        larger = replace(box.host.registry, services=services)
        monkeypatch.setattr(box.host.mode_files, "registry", lambda: larger)
        assert box.manager.plan("rag").blockers
        assert box.service("start", "vllm-embedding").outcome is Outcome.REFUSED
        assert box.up() == set()
        box.manager.close()

    def test_beside_a_unit_of_unknown_need_nothing_is_admitted(self, box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
        box.switch("rag")
        services = {name: one for name, one in box.host.registry.services.items() if name != "vllm-embedding"}
        broken = replace(box.host.registry, services=services)
        monkeypatch.setattr(box.host.mode_files, "registry", lambda: broken)
        box.host.ledger.write(LedgerState(known=True))
        result = box.service("start", "devstral-small-2")
        assert result.outcome is Outcome.REFUSED
        assert "vllm-embedding.service runs, and what it may still take is unknown" in str(result.errors[0])

    def test_a_ledger_that_cannot_be_written_keeps_nobody_from_blank(self, monkeypatch: pytest.MonkeyPatch) -> None:
        box = started("glm-code")
        monkeypatch.setattr(box.host.ledger, "locked", unwritable)
        assert box.switch("blank").outcome is Outcome.DONE
        assert box.up() == set()
        box.manager.close()

    def test_what_could_not_be_taken_back_at_its_end_is_taken_back_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        first, second = service("first", 1000), service("second", 2000, depends_on=("first",))
        box = Box(registry=registry_of(first, second, mode=("first", "second")))
        box.host.script("first").start_fails = 1
        monkeypatch.setattr(module, "PROMISES_S", 0.01)
        end_switch, ended = box.host.admission.end_switch, threading.Event()
        calls: list[str] = []

        def end(switch: str) -> None:
            calls.append(switch)
            if len(calls) < 3:
                raise StateUnavailable("ledger.json: No space left on device")
            end_switch(switch)
            ended.set()

        monkeypatch.setattr(box.host.admission, "end_switch", end)
        assert box.switch("both").outcome is Outcome.FAILED
        assert ended.wait(60)
        box.manager.close()
        assert len(calls) == 3
        assert not box.host.ledger.state.commitments

    def test_a_view_that_breaks_skips_no_rollback(self) -> None:
        host = DemoHost()
        host.script("glm-code").load_fails = 1

        def view(_event: Event) -> None:
            raise RuntimeError("broken view")

        manager = Manager(fits(host), view)
        assert manager.submit_mode("code").result(timeout=60).outcome is Outcome.FAILED
        assert host.units.states(["glm-code.service"])["glm-code.service"].is_down
        manager.close()

    def test_a_cancel_before_the_switch_begins_is_heard(self, box: Box) -> None:
        first = box.manager.submit_mode("code")
        second = box.manager.submit_mode("nemotron")
        box.manager.cancel()
        assert first.result(timeout=60).outcome is Outcome.CANCELLED
        assert second.result(timeout=60).outcome is Outcome.CANCELLED

    def test_a_refusal_is_not_recorded_as_interrupted(self, box: Box) -> None:
        box.host.units.error = "no bus"
        assert box.switch("code").outcome is Outcome.REFUSED
        assert box.host.store.read().interrupted is None

    def test_the_time_limit_of_the_whole_switch_is_named_as_such(self, box: Box) -> None:
        box.switch("code")
        box.host.script("glm-code").stop_s = 20.0
        result = box.switch("nemotron", timeout_s=2.0)
        assert "time limit of the whole switch" in str(result.errors[0])

    def test_a_failed_rollback_is_a_failure_whatever_led_there(self, box: Box) -> None:
        box.host.script("glm-code").ignores_kill = True
        box.host.at(3.0, box.manager.cancel)
        result = box.switch("code")
        assert result.outcome is Outcome.FAILED
        assert "could not be stopped again" in box.host.store.read().recorded.note

    def test_a_kept_router_that_dies_keeps_nothing_of_a_rollback_from_being_stopped(self) -> None:
        router = Service("router", "router", DriverKind.LLAMACPP, 9001, 5000 * MIB, default_model="M")
        box = Box(registry=registry_of(router, service("other", 4000), mode=("router", "other")))
        box.host.units.start("router.service")
        box.clock.advance(1.0)
        box.host.script("router").load_s = 30.0
        box.host.at(box.clock.monotonic() + 10.0, lambda: box.host.die("router"))
        result = box.switch("both")
        assert result.outcome is Outcome.FAILED
        assert "router.service failed" in str(result.errors[0])
        assert box.up() == set()
        assert "could not be stopped" not in box.host.store.read().recorded.note
        box.manager.close()

    def test_one_that_systemd_does_not_stop_keeps_no_other_from_being_stopped(self, box: Box) -> None:
        box.switch("rag")
        box.host.units.start("devstral-small-2.service")
        box.clock.advance(30.0)
        box.host.script("devstral-small-2").refuses = "masked"
        result = box.switch("blank")
        assert result.outcome is Outcome.FAILED
        assert "devstral-small-2.service was not stopped: " in str(result.errors[0])
        assert box.up() == {"devstral-small-2"}

    def test_what_was_started_before_a_refusal_is_no_untouched_box(self) -> None:
        first, second = service("first", 3000), service("second", 4000, depends_on=("first",))
        box = Box(registry=registry_of(first, second, mode=("first", "second")))
        box.host.script("first").ready_s = 5.0

        def take() -> None:
            box.host.foreign(20000)

        box.host.at(box.clock.monotonic() + 2.0, take)
        result = box.switch("both")
        assert "second.service was refused" in str(result.errors[0])
        assert result.outcome is Outcome.FAILED
        assert box.up() == set()
        box.manager.close()

    def test_start_of_a_service_brings_up_nothing_else(self, box: Box) -> None:
        box.switch("code")
        glm = box.host.registry.service("glm-code")
        box.host.drivers(glm).unload(glm, GLM)
        box.clock.advance(3.0)
        assert box.service("start", "vllm-embedding").success
        assert box.loaded("glm-code") == set()

    def test_without_nvml_nothing_is_stopped_for_a_load_that_cannot_be_admitted(self, box: Box) -> None:
        box.switch("rag")
        box.host.admission.admit("glm-code.service")
        box.host.units.start("glm-code.service")
        box.clock.advance(1.0)
        box.host.gpus.error = "driver was updated"
        result = box.switch("code")
        assert result.outcome is Outcome.REFUSED
        assert "vllm-embedding" in box.up()

    def test_a_model_needs_no_less_in_the_router_of_another_preset(self, box: Box) -> None:
        box.host.units.start("nemotron-3-nano.service")
        box.clock.advance(1.0)
        box.host.foreign(5000)
        verdict = box.host.admission.admit("nemotron-3-nano.service", GLM)
        assert isinstance(verdict, Refused)
        assert verdict.need_bytes == 20480 * MIB

    @pytest.mark.parametrize("verb", ["blank", "stop"])
    def test_a_unit_that_somebody_else_installed_for_a_service_is_stopped_like_all(self, box: Box, verb: str) -> None:
        box.switch("rag")
        ours = [unit for unit in box.host.unit_files.stamped() if unit != "vllm-embedding.service"]
        box.host.unit_files.stamped = lambda: tuple(ours)  # type: ignore[method-assign]
        box.host.units.managed = lambda: tuple(ours)  # type: ignore[method-assign]
        result = box.switch("blank") if verb == "blank" else box.service("stop", "vllm-embedding")
        assert (result.success, result.stopped, box.up()) == (True, ("vllm-embedding",), set())
        assert result.warnings == ("vllm-embedding.service is stopped, though gpumod did not install it",)

    def test_a_kept_service_that_somebody_else_answers_for_is_not_ready(self, box: Box) -> None:
        box.switch("rag")
        box.host.take_port(8200)
        result = box.switch("rag")
        assert result.kept == ()
        assert not result.success

    def test_what_undoes_the_safety_of_a_unit_is_told_before_it_starts(self, box: Box) -> None:
        box.host.unit_files.unsafe = lambda service: (f"{service.id} was edited",)  # type: ignore[method-assign]
        assert "glm-code was edited" in box.switch("code").warnings

    def test_a_load_under_way_is_counted_once_and_joined(self, box: Box) -> None:
        box.manager.submit_mode("code", load_models=False).result(timeout=60)
        glm = box.host.registry.service("glm-code")
        box.host.admission.admit(glm.unit, GLM)
        box.host.drivers(glm).load(glm, GLM)
        box.clock.advance(5.0)
        result = box.switch("code")
        assert result.success, result.errors
        assert result.kept == ("glm-code",)

    @pytest.mark.parametrize("verb", ["switch", "wake", "start"])
    def test_a_full_router_is_refused_before_anything_is_touched(self, box: Box, verb: str) -> None:
        box.manager.submit_mode("code", load_models=False).result(timeout=60)
        assert box.manager.submit_load("glm-code", SMALL).result(timeout=60).success
        result = box.switch("code") if verb == "switch" else box.service(verb, "glm-code")
        assert result.outcome is Outcome.REFUSED
        error = result.errors[0]
        assert f"holds as many models as it may (1), and none is unloaded for {GLM} unasked: {SMALL}" in str(error)
        assert error.hint.startswith(f"gpumod service unload glm-code {SMALL}; or a larger models_max")
        assert result.plan is not None
        assert result.plan.blockers
        assert box.loaded("glm-code") == {SMALL}

    def test_a_full_router_that_evicts_for_requests_is_refused_and_says_so(self, box: Box) -> None:
        glm = box.host.registry.service("glm-code")
        evicting = replace(glm, unit_vars={**glm.unit_vars, "evict": True})
        full = full_router(evicting, [ModelState(SMALL, ModelStatus.LOADED)], GLM)
        assert full is not None
        assert "evict: true holds for requests, since the guard alone sees which one is idle" in full.reason
        assert full.hint.endswith(f"the guard unloads an idle one for a request that asks for {GLM}")

    def test_a_full_router_that_the_switch_restarts_is_in_nobodys_way(self, box: Box) -> None:
        box.manager.submit_mode("code", load_models=False).result(timeout=60)
        assert box.manager.submit_load("glm-code", SMALL).result(timeout=60).success
        assert box.service("restart", "glm-code").success
        assert box.loaded("glm-code") == {GLM}

    def test_a_router_that_fills_up_during_the_switch_keeps_what_it_holds(self, box: Box) -> None:
        box.manager.submit_mode("code", load_models=False).result(timeout=60)
        glm = box.host.registry.service("glm-code")
        driver = box.host.drivers(glm)
        admit = box.host.admission.promise

        def fill(*args: object, **more: object) -> object:
            verdict = admit(*args, **more)  # type: ignore[arg-type]
            driver.load(glm, SMALL)
            return verdict

        box.host.admission.promise = fill  # type: ignore[assignment, method-assign]
        result = box.switch("code")
        assert result.outcome is Outcome.REFUSED
        assert SMALL in str(result.errors[0])
        box.clock.advance(40.0)
        assert box.loaded("glm-code") == {SMALL}

    def test_a_model_loaded_into_a_kept_router_is_unloaded_again(self, box: Box) -> None:
        box.manager.submit_mode("code", load_models=False).result(timeout=60)
        box.host.script("glm-code").load_s = 30.0
        box.host.at(box.clock.monotonic() + 5.0, box.manager.cancel)
        assert box.switch("code").outcome is Outcome.CANCELLED
        box.clock.advance(40.0)
        assert box.loaded("glm-code") == set()
        assert box.up() == {"glm-code"}

    def test_memory_is_back_when_a_rollback_is_over(self, box: Box) -> None:
        box.host.script("glm-code").load_s = 20.0
        box.host.at(15.0, box.manager.cancel)
        box.switch("code")
        reading = box.host.gpus.read(processes=False)
        assert reading.gpus[0].free_bytes == DemoHost().gpus.read(processes=False).gpus[0].free_bytes

    def test_blank_waits_for_what_a_cancelled_stop_left_on_its_way_back(self, box: Box) -> None:
        box.switch("code")
        box.host.script("glm-code").stop_s = 2.0
        box.host.at(box.clock.monotonic() + 1.0, box.manager.cancel)
        assert box.switch("nemotron").outcome is Outcome.CANCELLED
        box.clock.advance(1.2)
        assert box.switch("blank").success
        reading = box.host.gpus.read(processes=False)
        assert reading.gpus[0].free_bytes == DemoHost().gpus.read(processes=False).gpus[0].free_bytes

    def test_no_warning_where_nothing_is_missing_but_process_memory_is_unknown(self, box: Box) -> None:
        box.switch("rag")
        box.host.gpus.tells_processes = False
        assert box.switch("blank").warnings == ()


class TestCancel:
    def test_during_the_load_what_was_started_is_stopped_again(self, box: Box) -> None:
        box.host.at(3.0, box.manager.cancel)
        result = box.switch("code")
        assert result.outcome is Outcome.CANCELLED
        assert box.up() == set()
        assert result.started == ()
        assert box.host.store.read().recorded.note == "switch to code cancelled at load"

    def test_by_request_of_another_process(self, box: Box) -> None:
        store = box.host.store

        def ask() -> None:
            running = store.read().running
            assert running is not None
            store.request_cancel(running.id)

        box.host.at(3.0, ask)
        assert box.switch("code").outcome is Outcome.CANCELLED

    def test_blank_makes_the_running_switch_cancel_and_follows(self, box: Box) -> None:
        futures = []
        box.host.at(3.0, lambda: futures.append(box.manager.submit_mode("blank")))
        assert box.switch("code").outcome is Outcome.CANCELLED
        assert futures[0].result(timeout=60).success
        assert box.up() == set()


class TestLock:
    def test_busy_names_the_holder(self, box: Box) -> None:
        lock = box.host.store.acquire("rag")
        assert lock is not None
        box.clock.advance(7.0)
        result = box.switch("code")
        assert result.outcome is Outcome.BUSY
        assert "switching to rag, since 7 s, at step begin" in str(result.errors[0])
        assert result.exit_code == 75

    def test_blank_asks_then_terms_then_kills(self, box: Box) -> None:
        lock = box.host.store.acquire("rag")
        assert lock is not None
        signals: list[tuple[float, int]] = []

        def hit(number: int) -> None:
            signals.append((round(box.clock.monotonic()), number))
            if number == 9:
                lock.release()

        box.host.store.on_signal = hit
        assert box.switch("blank").success
        assert box.host.store.cancel_id == lock.record.id
        assert signals == [(15, 15), (20, 9)]

    def test_blank_waits_for_a_holder_that_cancels(self, box: Box) -> None:
        lock = box.host.store.acquire("rag")
        assert lock is not None
        box.host.at(2.0, lock.release)
        assert box.switch("blank").success
        assert box.clock.monotonic() < 4.0


class TestService:
    def test_start_beside_a_mode_leaves_the_mode_alone(self, box: Box) -> None:
        box.switch("rag")
        result = box.service("start", "devstral-small-2")
        assert result.success, result.errors
        assert box.up() == {"vllm-embedding", "devstral-small-2"}
        assert box.host.store.read().recorded.mode == "rag"

    def test_start_is_refused_where_it_does_not_fit(self, box: Box) -> None:
        box.switch("code")
        result = box.service("start", "devstral-small-2")
        assert result.outcome is Outcome.REFUSED
        assert box.up() == {"glm-code"}

    def test_stop_stops_this_one_only(self, box: Box) -> None:
        box.switch("rag")
        box.service("start", "devstral-small-2")
        result = box.service("stop", "vllm-embedding")
        assert (result.success, result.stopped) == (True, ("vllm-embedding",))
        assert box.up() == {"devstral-small-2"}

    def test_stop_does_not_repair_bystanders(self, box: Box) -> None:
        box.switch("rag")
        box.service("start", "devstral-small-2")
        box.host.script("vllm-embedding").dead = True
        result = box.service("stop", "devstral-small-2")
        assert result.success, result.errors
        assert box.up() == {"vllm-embedding"}

    def test_restart(self, box: Box) -> None:
        box.switch("rag")
        result = box.service("restart", "vllm-embedding")
        assert (result.success, result.stopped, result.started) == (True, ("vllm-embedding",), ("vllm-embedding",))

    def test_a_unit_without_a_preset_can_be_stopped(self, box: Box) -> None:
        assert box.service("start", "nosuch").outcome is Outcome.UNKNOWN_TARGET


def test_the_thread_ends_when_closed() -> None:
    box = started()
    box.switch("blank")
    box.manager.close()
    assert not any(thread.name == "gpumod-manager" and thread.is_alive() for thread in threading.enumerate())


def test_state_of_a_stopped_unit_is_what_systemd_says(box: Box) -> None:
    box.switch("code")
    box.switch("blank")
    state = box.host.units.states(["glm-code.service"])["glm-code.service"]
    assert state.active_state is ActiveState.INACTIVE
