"""The played host behaves as the real one does where gpumod depends on it."""

import os
import signal
import threading

import pytest

from gpumod_tui.core.errors import GpuUnavailable, ServerError, SystemdUnavailable, UnitMissing
from gpumod_tui.core.events import Event, SwitchSeen
from gpumod_tui.core.models import ActiveState, Health, LogLine, LogPage, LogPlace, ModelState, ModelStatus
from gpumod_tui.core.ports import Clock, Drivers, Gpus, Journal, Processes, UnitFiles, Units
from gpumod_tui.core.switch.watch import SwitchWatch
from gpumod_tui.core.text import MIB
from gpumod_tui.demo.clock import PlayedClock, RunningClock
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.demo.others import PID, past, restart_elsewhere


def fits(host: DemoHost) -> tuple[Gpus, Units, Processes, Journal, Drivers, UnitFiles, Clock]:
    """mypy proves here that the host satisfies the ports."""
    return host.gpus, host.units, host.processes, host.journal, host.drivers, host.unit_files, host.clock


def advance(host: DemoHost, seconds: float) -> None:
    assert isinstance(host.clock, PlayedClock)
    host.clock.advance(seconds)


def free_mib(host: DemoHost) -> int:
    free = host.gpus.read(processes=False).gpus[0].free_bytes
    assert free is not None
    return free // MIB


def active(host: DemoHost, service: str) -> ActiveState:
    return host.units.states([f"{service}.service"])[f"{service}.service"].active_state


def test_a_router_takes_its_memory_with_the_load_and_gives_it_back_a_second_after_the_stop() -> None:
    host = DemoHost()
    glm = host.registry.service("glm-code")
    idle = free_mib(host)
    host.units.start(glm.unit)
    advance(host, 0.5)
    assert host.drivers(glm).probe(glm).health is Health.READY
    assert free_mib(host) == idle
    seen: list[ModelState] = []
    host.drivers(glm).follow_models(glm, seen.append)
    host.drivers(glm).load(glm, "GLM-4.7-Flash-UD-Q4_K_XL")
    advance(host, 3.0)
    assert 0 < idle - free_mib(host) < 19968
    advance(host, 4.0)
    assert idle - free_mib(host) == 19968
    progress = [state.progress for state in seen if state.progress is not None]
    assert progress == sorted(progress)
    assert seen[-1].status is ModelStatus.LOADED
    host.units.stop(glm.unit)
    assert active(host, "glm-code") is ActiveState.DEACTIVATING
    advance(host, 0.41)
    assert active(host, "glm-code") is ActiveState.INACTIVE
    assert host.gpus.read(processes=True).gpus[0].processes == ()
    assert idle - free_mib(host) == 19968
    advance(host, 1.0)
    assert free_mib(host) == idle
    assert host.overcommits == 0


def test_a_second_router_on_the_port_runs_beside_the_first_behind_the_guard() -> None:
    host = DemoHost(running=["glm-code"])
    nemotron = host.registry.service("nemotron-3-nano")
    host.units.start(nemotron.unit)
    advance(host, 5.0)
    assert host.drivers(nemotron).probe(nemotron).health is Health.READY
    assert active(host, "glm-code") is active(host, "nemotron-3-nano") is ActiveState.ACTIVE
    assert [one.unit for one in host.processes.listeners(7070)] == ["init.scope"]


def test_a_server_whose_port_is_taken_dies_while_another_answers_for_it() -> None:
    host = DemoHost()
    host.take_port(8000)
    host.units.start("devstral-small-2.service")
    advance(host, 1.0)
    assert active(host, "devstral-small-2") is ActiveState.FAILED
    assert "bind" in " ".join(line.message for line in host.journal.tail("devstral-small-2.service", 10))


def test_memory_held_for_ever_until_let_go() -> None:
    host = DemoHost(running=["glm-code"])
    host.hold_release()
    host.units.stop("glm-code.service")
    advance(host, 600.0)
    assert free_mib(host) < 5000
    host.let_go()
    assert free_mib(host) > 24000


def test_a_unit_that_ignores_stop_ends_by_sigkill_only() -> None:
    host = DemoHost(running=["glm-code"])
    host.script("glm-code").ignores_stop = True
    host.units.stop("glm-code.service")
    advance(host, 100.0)
    state = host.units.states(["glm-code.service"])["glm-code.service"]
    assert state.active_state is ActiveState.DEACTIVATING
    assert host.processes.in_cgroup(state.control_group)
    host.units.kill("glm-code.service", signal.SIGKILL)
    state = host.units.states(["glm-code.service"])["glm-code.service"]
    assert (state.active_state, state.result, state.control_group) == (ActiveState.FAILED, "timeout", "")


def test_a_process_stuck_in_the_kernel_survives_sigkill_in_state_d() -> None:
    host = DemoHost(running=["glm-code"])
    host.script("glm-code").ignores_kill = True
    host.units.stop("glm-code.service")
    host.units.kill("glm-code.service", signal.SIGKILL)
    pids = [process.pid for process in host.gpus.read(processes=True).gpus[0].processes or ()]
    assert [info.state for pid in pids if (info := host.processes.describe(pid))] == ["D"]


def test_a_failed_vllm_start_names_its_memory_line_once_and_works_the_second_time() -> None:
    host = DemoHost()
    host.script("devstral-small-2").start_fails = 1
    host.units.start("devstral-small-2.service")
    advance(host, 20.0)
    assert active(host, "devstral-small-2") is ActiveState.FAILED
    lines = host.journal.tail("devstral-small-2.service", 20)
    assert any("Free memory on device" in line.message for line in lines)
    assert any("Failed with result 'exit-code'" in line.message for line in lines)
    host.units.start("devstral-small-2.service")
    advance(host, 20.0)
    devstral = host.registry.service("devstral-small-2")
    assert host.drivers(devstral).probe(devstral).health is Health.READY


def test_a_failed_load_leaves_the_model_unloaded_with_an_exit_code() -> None:
    host = DemoHost(running=["glm-code"])
    glm = host.registry.service("glm-code")
    host.drivers(glm).unload(glm, "GLM-4.7-Flash-UD-Q4_K_XL")
    advance(host, 2.0)
    host.script("glm-code").load_fails = 1
    host.drivers(glm).load(glm, "GLM-4.7-Flash-UD-Q4_K_XL")
    advance(host, 10.0)
    model = host.drivers(glm).models(glm)[0]
    assert (model.status, model.exit_code) == (ModelStatus.UNLOADED, 1)
    advance(host, 2.0)
    assert free_mib(host) > 24000


def test_moments_of_more_than_there_is_are_counted() -> None:
    host = DemoHost(running=["glm-code"])
    host.foreign(6000)
    assert host.overcommits == 1
    assert free_mib(host) == 0


def test_a_death_is_told_and_logged_in_order() -> None:
    host = DemoHost(running=["vllm-embedding"])
    lines: list[LogLine] = []
    changed = threading.Event()
    host.journal.follow(["vllm-embedding.service"], lines.append)
    host.units.on_change(changed.set)
    host.at(3.0, lambda: host.die("vllm-embedding", 137))
    host.clock.wait(changed, 10.0)
    assert host.clock.monotonic() == pytest.approx(3.0)
    assert [line.message.split(": ")[-1] for line in lines] == [
        "Main process exited, code=exited, status=137/FAILURE",
        "Failed with result 'exit-code'.",
    ]


def test_a_crash_loop_runs_into_the_start_limit() -> None:
    host = DemoHost()
    script = host.script("glm-code")
    script.auto_restart, script.start_fails = True, -1
    host.units.start("glm-code.service")
    advance(host, 0.5)
    assert host.units.states(["glm-code.service"])["glm-code.service"].sub_state == "auto-restart"
    advance(host, 60.0)
    state = host.units.states(["glm-code.service"])["glm-code.service"]
    assert (state.result, state.restarts) == ("start-limit-hit", 5)


def test_faults_of_the_host_are_faults_of_the_ports() -> None:
    host = DemoHost()
    host.gpus.error = "driver/library version mismatch"
    with pytest.raises(GpuUnavailable, match="mismatch"):
        host.gpus.read(processes=False)
    host.units.error = "no bus"
    with pytest.raises(SystemdUnavailable):
        host.units.states([])
    host.units.error = None
    host.script("glm-code").installed = False
    with pytest.raises(UnitMissing):
        host.units.start("glm-code.service")
    glm = host.registry.service("glm-code")
    with pytest.raises(ServerError):
        host.drivers(glm).load(glm, "x")


def test_it_happens_by_itself_on_a_clock_that_runs() -> None:
    host = DemoHost(RunningClock(speed=50.0))
    changed = threading.Event()
    host.units.start("glm-code.service")
    host.units.on_change(changed.set)
    host.start()
    try:
        assert changed.wait(5.0)
    finally:
        host.close()


def test_the_journal_goes_back_for_days_and_has_a_beginning() -> None:
    host = DemoHost(running=("vllm-embedding",))
    units = [service.unit for service in host.registry.services.values()]
    place: LogPlace | None = LogPlace(host.clock.time())
    pages: list[LogPage] = []
    while place is not None:
        pages.append(host.journal.page(units, place, 500))
        place = pages[-1].edge
    lines = [line for page in reversed(pages) for line in page.lines]
    assert len(lines) > 1000
    assert lines[0].at < host.clock.time() - 86400
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert len({line.cursor for line in lines}) == len(lines)
    errors = host.journal.page(units, LogPlace(host.clock.time()), 10_000, priority=3)
    assert errors.lines == tuple(line for line in lines if line.priority <= 3)
    middle = lines[500]
    after = host.journal.page(units, LogPlace(middle.at, middle.cursor), 10, later=True)
    assert list(after.lines) == lines[501:511]
    assert list(host.journal.page(units, LogPlace(middle.at, middle.cursor), 10).lines) == lines[490:500]


def test_somebody_else_restarts_a_service_at_another_terminal() -> None:
    host = DemoHost(running=("vllm-embedding",))
    told: list[Event] = []
    watch = SwitchWatch(host.store, host.clock, os.getpid(), told.append)
    watch.look()
    result = restart_elsewhere(host, "vllm-embedding")
    assert result is not None
    assert result.success
    watch.look()
    seen = told[-1]
    assert isinstance(seen, SwitchSeen)
    assert (seen.record.pid, seen.record.command) == (PID, "gpumod service restart vllm-embedding")
    assert restart_elsewhere(host, "glm-code") is None, "it does not run"
    lock = host.store.acquire("code")
    assert lock is not None
    assert restart_elsewhere(host, "vllm-embedding") is None, "nor beside another switch"


def test_the_demo_has_a_past() -> None:
    ended = past(1e9)
    assert [one.outcome for one in ended] == ["done", "failed", "done", "done"]
    assert [one.started_at for one in ended] == sorted((one.started_at for one in ended), reverse=True)
    assert all(one.seconds for one in ended)
