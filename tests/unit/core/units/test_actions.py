"""What is done to units and processes besides switches, and models loaded and unloaded on request."""

import pytest

from gpumod_tui.core.errors import ServerError, UnknownName
from gpumod_tui.core.events import ActEnded, Event, StepEnded, SwitchEnded
from gpumod_tui.core.models import ActiveState, ModelStatus
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.results import ModeResult, Outcome
from gpumod_tui.core.units.actions import EndProcess, UnitAct, Verb, carry_out
from gpumod_tui.demo.host import DemoHost

GLM = "GLM-4.7-Flash-UD-Q4_K_XL"
SMALL = "GLM-Small-Q4_K_M"


def load(host: DemoHost, model: str, service: str = "glm-code") -> ModeResult:
    return _done(host, "submit_load", service, model)


def unload(host: DemoHost, model: str, service: str = "glm-code") -> ModeResult:
    return _done(host, "submit_unload", service, model)


def _done(host: DemoHost, what: str, service: str, model: str) -> ModeResult:
    manager = Manager(host)
    result: ModeResult = getattr(manager, what)(service, model).result(20)
    manager.close()
    return result


def status(host: DemoHost, model: str) -> ModelStatus:
    models = host.drivers(host.registry.service("glm-code")).models(host.registry.service("glm-code"))
    return next(one.status for one in models if one.id == model)


# -- models ----------------------------------------------------------------------------------------------------


def test_a_model_is_unloaded_and_another_one_loaded() -> None:
    host = DemoHost(running=["glm-code"])
    result = unload(host, GLM)
    assert (result.outcome, result.warnings) == (Outcome.DONE, ())
    assert 1.0 <= result.timings["unload"] < 3.0, "the memory is back, and nothing else is waited for"
    assert status(host, GLM) is ModelStatus.UNLOADED
    result = load(host, SMALL)
    assert result.outcome is Outcome.DONE
    assert list(result.timings) == ["load", "verify"]
    assert status(host, SMALL) is ModelStatus.LOADED
    assert host.overcommits == 0
    assert host.store.read().running is None


def test_a_load_goes_through_the_door_and_a_refusal_names_holders() -> None:
    host = DemoHost(running=["glm-code"])
    unload(host, GLM)
    pid = host.foreign(8000)
    result = load(host, GLM)
    assert result.outcome is Outcome.REFUSED
    assert result.exit_code == 3
    assert "short by" in str(result.errors[0])
    assert any(holder.pid == pid for holder in result.errors[0].holders)
    assert status(host, GLM) is ModelStatus.UNLOADED
    assert host.overcommits == 0


def test_no_model_is_put_out_for_another_one() -> None:
    host = DemoHost(running=["glm-code"])
    result = load(host, SMALL)
    assert result.outcome is Outcome.REFUSED
    assert "holds as many models as it may (1)" in str(result.errors[0])
    assert result.errors[0].hint.startswith(f"gpumod service unload glm-code {GLM}; ")
    assert status(host, GLM) is ModelStatus.LOADED


def test_a_router_is_asked_for_no_model_while_another_process_asks_it_for_one() -> None:
    """Past its limit it would end an idle model unasked: who is second counts what the first has loaded."""
    host = DemoHost(running=["glm-code"])
    unload(host, GLM)
    service = host.registry.service("glm-code")
    turn = host.admission.try_turn(service.unit)
    assert turn is not None

    def load_elsewhere() -> None:
        host.drivers(service).load(service, SMALL)
        turn.close()

    host.at(2.0, load_elsewhere)
    result = load(host, GLM)
    assert result.outcome is Outcome.REFUSED
    assert f"none is unloaded for {GLM} unasked: {SMALL}" in str(result.errors[0])
    assert status(host, SMALL) is not ModelStatus.UNLOADED


@pytest.mark.parametrize(
    ("service", "model", "words"),
    [
        ("nemotron-3-nano", "any", "nemotron-3-nano does not run"),
        ("glm-code", "GLM", "glm-code has no model 'GLM'"),
        ("vllm-embedding", "any", "serves the one model it was started with"),
    ],
)
def test_what_cannot_be_loaded_is_refused_before_anything_is_touched(service: str, model: str, words: str) -> None:
    host = DemoHost(running=["glm-code"])
    for act in (load, unload):
        result = act(host, model, service)
        assert result.outcome is Outcome.REFUSED
        assert words in str(result.errors[0])
        assert result.errors[0].hint
    assert not host.store.read().switch.touched  # type: ignore[union-attr]


def test_an_unknown_service_has_no_models() -> None:
    result = load(DemoHost(), "any", "nothing")
    assert result.outcome is Outcome.UNKNOWN_TARGET


def test_what_is_there_already_is_done() -> None:
    host = DemoHost(running=["glm-code"])
    assert load(host, GLM).success
    unload(host, GLM)
    assert unload(host, GLM).success


def test_a_load_that_fails_leaves_nothing_and_shows_the_journal() -> None:
    host = DemoHost(running=["glm-code"])
    unload(host, GLM)
    host.script("glm-code").load_fails = 1
    result = load(host, GLM)
    assert result.outcome is Outcome.FAILED
    assert result.errors[0].journal
    assert status(host, GLM) is ModelStatus.UNLOADED


def test_a_cancelled_load_is_taken_back() -> None:
    host = DemoHost(running=["glm-code"])
    unload(host, GLM)
    host.script("glm-code").load_never_ends = True
    manager = Manager(host)
    host.at(2.0, manager.cancel)
    result = manager.submit_load("glm-code", GLM).result(20)
    manager.close()
    assert result.outcome is Outcome.CANCELLED
    assert status(host, GLM) is ModelStatus.UNLOADED


def test_a_model_that_stays_is_a_failure() -> None:
    host = DemoHost(running=["glm-code"])
    server = host.drivers(host.registry.service("glm-code"))

    def refuse(_service: object, model: str) -> None:
        raise ServerError(f"glm-code: HTTP 500 for {model}")

    server.unload = refuse  # type: ignore[assignment, method-assign]
    result = unload(host, GLM)
    assert result.outcome is Outcome.FAILED
    assert "could not be unloaded" in str(result.errors[0])


def test_a_model_waits_for_its_turn_behind_a_switch() -> None:
    host, events = DemoHost(), list[Event]()
    manager = Manager(host, events.append)
    first = manager.submit_mode("code")
    second = manager.submit_unload("glm-code", GLM)
    assert (first.result(20).success, second.result(20).success) == (True, True)
    manager.close()
    ends = [event.result.mode for event in events if isinstance(event, SwitchEnded)]
    assert ends == ["code", f"service unload glm-code {GLM}"]
    assert [event.step for event in events if isinstance(event, StepEnded)][-1] == "unload"


# -- units -----------------------------------------------------------------------------------------------------


def test_enabled_and_disabled_again() -> None:
    host = DemoHost()
    ended = carry_out(host, UnitAct(Verb.ENABLE, "glm-code"))
    assert (ended.ok, host.script("glm-code").enabled) == (True, True)
    assert host.units.file_states(["glm-code.service", "other.service"]) == {"glm-code.service": "enabled"}
    assert "at login" in ended.message
    ended = carry_out(host, UnitAct(Verb.DISABLE, "glm-code"))
    assert (ended.ok, host.script("glm-code").enabled) == (True, False)


def test_a_unit_that_is_not_installed_cannot_be_enabled() -> None:
    host = DemoHost()
    host.script("glm-code").installed = False
    ended = carry_out(host, UnitAct(Verb.ENABLE, "glm-code"))
    assert not ended.ok
    assert ended.hint == "gpumod template install glm-code"


def test_what_systemd_does_not_take_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    host = DemoHost()
    monkeypatch.setattr(host.units, "enable", lambda _unit: False)
    ended = carry_out(host, UnitAct(Verb.ENABLE, "glm-code"))
    assert not ended.ok
    assert "cannot be enabled: it is static" in ended.message


def test_a_failed_unit_does_not_count_as_failed_any_more() -> None:
    host = DemoHost(running=["glm-code"])
    host.die("glm-code")
    assert host.units.states(["glm-code.service"])["glm-code.service"].active_state is ActiveState.FAILED
    assert carry_out(host, UnitAct(Verb.RESET_FAILED, "glm-code")).ok
    assert host.units.states(["glm-code.service"])["glm-code.service"].active_state is ActiveState.INACTIVE


def test_faults_come_back_as_words() -> None:
    host = DemoHost()
    ended = carry_out(host, UnitAct(Verb.ENABLE, "glm-kode"))
    assert (ended.ok, ended.unknown) == (False, True)
    assert "glm-code" in ended.hint
    host.units.error = "no user bus"
    ended = carry_out(host, UnitAct(Verb.ENABLE, "glm-code"))
    assert (ended.ok, ended.message) == (False, "no user bus")
    host.units.error = None
    host.units.enable = None  # type: ignore[assignment, method-assign]
    assert "internal error" in carry_out(host, UnitAct(Verb.ENABLE, "glm-code")).message


def test_acts_run_beside_a_switch_and_end_with_the_manager() -> None:
    host, events = DemoHost(), list[Event]()
    manager = Manager(host, events.append)
    ended = manager.submit_act(UnitAct(Verb.ENABLE, "glm-code"))
    assert not manager.busy
    manager.close()
    assert ended.done()
    assert [event.label for event in events if isinstance(event, ActEnded)] == ["enable glm-code"]


# -- processes -------------------------------------------------------------------------------------------------


def test_a_process_ends_and_that_is_said_once_it_is_true() -> None:
    host = DemoHost()
    pid = host.foreign(1000, user="op")
    ended = carry_out(host, EndProcess(pid, pid, "python3"))
    assert ended.ok
    assert host.processes.describe(pid) is None


def test_who_does_not_go_is_named_for_sigkill() -> None:
    host = DemoHost()
    pid = host.foreign(1000, user="op", ignores_term=True)
    ended = carry_out(host, EndProcess(pid, pid, "python3"))
    assert (ended.ok, ended.survivor) == (False, (pid, pid))
    assert "goes on 5 s after SIGTERM" in ended.message
    assert carry_out(host, EndProcess(pid, pid, "python3", force=True)).ok
    assert host.processes.describe(pid) is None


def test_a_process_in_the_kernel_says_so() -> None:
    host = DemoHost()
    pid = host.foreign(1000, user="op", ignores_term=True)
    host.world.processes[pid].state = "D"
    ended = carry_out(host, EndProcess(pid, pid, "python3"))
    assert "waits in the kernel" in ended.message


def test_another_process_of_the_same_pid_is_not_hit() -> None:
    host = DemoHost()
    pid = host.foreign(1000, user="op")
    ended = carry_out(host, EndProcess(pid, pid + 1, "python3"))
    assert ended.ok, "the one that was meant is gone"
    assert host.processes.describe(pid) is not None


def test_another_users_process_and_a_units_are_left_alone() -> None:
    host = DemoHost(running=["vllm-embedding"])
    pid = host.foreign(1000, user="sam")
    ended = carry_out(host, EndProcess(pid, pid, "python3"))
    assert (ended.ok, ended.message) == (False, f"pid {pid} belongs to another user")
    main = host.units.states(["vllm-embedding.service"])["vllm-embedding.service"].main_pid
    assert main is not None
    ended = carry_out(host, EndProcess(main, main, "vllm"))
    assert (ended.ok, ended.message) == (False, f"pid {main} belongs to vllm-embedding.service")
    assert host.processes.describe(main) is not None


# -- closer looks ----------------------------------------------------------------------------------------------


def test_a_routers_models_with_their_needs_those_in_memory_first() -> None:
    host = DemoHost(running=["glm-code"])
    first, second = Manager(host).models("glm-code")
    assert (first.id, first.status, first.need_bytes, first.basis) == (
        GLM,
        ModelStatus.LOADED,
        20480 * 1024**2,
        "declared",
    )
    assert (second.id, second.status) == (SMALL, ModelStatus.UNLOADED)
    assert "file size" in second.basis


def test_everything_about_one_unit() -> None:
    host = DemoHost(running=["glm-code"])
    details = Manager(host).details("glm-code")
    assert details.properties["Description"] == "GLM-4.7 Flash (code) (gpumod)"
    assert details.text is not None
    assert "-TimeoutStopSec=20" in details.diff
    assert "+TimeoutStopSec=30" in details.diff
    assert not any("stamp" in line for line in details.diff)
    assert [process.used_bytes // 1024**2 for process in details.processes if process.used_bytes] == [19968]
    assert any("declared" in text and "never measured" in text for text in details.needs)
    assert details.faults == ()


def test_a_learned_peak_is_told() -> None:
    host = DemoHost(running=["vllm-embedding"])
    host.admission.take_stock()
    assert any("4875 MiB were measured" in text for text in Manager(host).details("vllm-embedding").needs)


def test_what_cannot_be_found_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    host = DemoHost()

    def fail(_service: object, _reading: object) -> str:
        raise UnknownName("no template")

    monkeypatch.setattr(host, "render_unit", fail)
    details = Manager(host).details("glm-code")
    assert details.diff == ()
    assert details.diff_note == "what its preset gives cannot be said: no template"
    host.script("glm-code").installed = False
    assert "template install" in Manager(host).details("glm-code").diff_note
    with pytest.raises(UnknownName):
        Manager(host).details("nothing")


def test_one_process_whole_and_none_that_has_ended() -> None:
    host = DemoHost()
    pid = host.foreign(1000, command="python3 train.py")
    found = Manager(host).process(pid)
    assert found is not None
    assert (found.user, found.arguments, found.gpus, found.is_ours) == ("sam", "python3 train.py", (0,), False)
    host.end_foreign(pid)
    assert Manager(host).process(pid) is None
