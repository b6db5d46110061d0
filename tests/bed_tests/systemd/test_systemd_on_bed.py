"""The units adapter against a real user manager: every case is asked of D-Bus and of systemctl."""

import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gpumod_tui.adapters.proc.processes import ProcFs
from gpumod_tui.adapters.systemd import reader as _unit_reader
from gpumod_tui.adapters.systemd.manager import SystemdUnits, connect_units
from gpumod_tui.adapters.systemd.reader import SERVICE, _look, get, value
from gpumod_tui.adapters.systemd.systemctl import SystemctlUnits
from gpumod_tui.core.errors import SystemdUnavailable, UnitMissing, UnitRefused
from gpumod_tui.core.models import ActiveState, UnitState
from tests.bed.host import cgroup_pids, install_unit, remove_unit, systemctl, unit_properties, wait_until

pytestmark = pytest.mark.bed

SLEEPER = "[Service]\nType=exec\nSlice=gpumod.slice\nExecStart=/bin/sleep 1000\n"


@pytest.fixture
def units() -> Iterator[SystemdUnits]:
    units = SystemdUnits()
    yield units
    units.close()


def settled(units: SystemdUnits, unit: str, *wanted: ActiveState) -> UnitState:
    def look() -> UnitState | None:
        state = units.states([unit])[unit]
        return state if state.active_state in wanted and not state.job_pending else None

    state = wait_until(look, what=f"{unit} becomes {wanted}", interval_s=0.005)
    assert state is not None
    return state


def assert_both_agree(units: SystemdUnits, unit: str) -> None:
    ours, theirs = units.states([unit])[unit], SystemctlUnits().states([unit])[unit]
    for name in UnitState.__slots__:
        one, other = getattr(ours, name), getattr(theirs, name)
        if name == "since" and one is not None:
            assert other == pytest.approx(one, abs=0.01)
        elif name != "cpu_usage_ns":
            assert one == other, name


def test_a_unit_runs_and_stops(units: SystemdUnits) -> None:
    install_unit("runs.service", SLEEPER)
    began = time.time()
    units.start("runs.service")
    state = settled(units, "runs.service", ActiveState.ACTIVE)
    assert (state.sub_state, state.result, state.exit_status, state.restarts) == ("running", "success", None, 0)
    assert [state.main_pid] == cgroup_pids("runs.service")
    assert state.control_group.endswith("/gpumod.slice/runs.service")
    assert state.slice == "gpumod.slice"
    assert state.exec_path == "/bin/sleep"
    assert (state.fragment_path or "").endswith("/.config/systemd/user/runs.service")
    assert state.invocation_id == unit_properties("runs.service", "InvocationID")["InvocationID"]
    assert state.since is not None
    assert began - 0.1 <= state.since <= time.time()
    assert (state.cpu_usage_ns or 0) > 0
    assert units.managed() == ("runs.service",) == SystemctlUnits().managed()
    assert_both_agree(units, "runs.service")

    units.stop("runs.service")
    state = settled(units, "runs.service", ActiveState.INACTIVE)
    assert (state.result, state.main_pid, state.control_group, state.is_down) == ("success", None, "", True)
    assert state.exit_status == signal.SIGTERM
    assert_both_agree(units, "runs.service")
    units.stop("runs.service")


def test_a_missing_binary_is_a_failed_start(units: SystemdUnits) -> None:
    install_unit("nobin.service", "[Service]\nType=exec\nExecStart=/nonexistent/server\n")
    units.start("nobin.service")
    state = settled(units, "nobin.service", ActiveState.FAILED)
    assert (state.result, state.exit_status, state.exec_path) == ("exit-code", 203, "/nonexistent/server")
    assert_both_agree(units, "nobin.service")
    units.reset_failed("nobin.service")
    assert settled(units, "nobin.service", ActiveState.INACTIVE).result == "success"


def test_a_server_that_fails_says_its_exit_status(units: SystemdUnits) -> None:
    install_unit("fails.service", '[Service]\nType=exec\nExecStart=/bin/sh -c "sleep 0.1; exit 3"\n')
    units.start("fails.service")
    state = settled(units, "fails.service", ActiveState.FAILED)
    assert (state.result, state.exit_status, state.main_pid) == ("exit-code", 3, None)
    assert_both_agree(units, "fails.service")


def test_restarts_are_counted_and_a_stop_ends_the_loop(units: SystemdUnits) -> None:
    text = (
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=exec\nExecStart=/bin/false\nRestart=always\nRestartSec=50ms\n"
    )
    install_unit("loops.service", text)
    units.start("loops.service")
    seen: list[int] = []
    deadline = time.monotonic() + 30
    while len(set(seen)) < 4 and time.monotonic() < deadline:
        seen.append(units.states(["loops.service"])["loops.service"].restarts)
        time.sleep(0.005)
    assert len(set(seen)) >= 4
    assert seen == sorted(seen)

    def waits_to_restart() -> bool:
        state = units.states(["loops.service"])["loops.service"]
        return (state.active_state, state.sub_state) == (ActiveState.ACTIVATING, "auto-restart")

    wait_until(waits_to_restart, interval_s=0.002)
    units.stop("loops.service")
    assert settled(units, "loops.service", ActiveState.INACTIVE, ActiveState.FAILED).is_down
    assert_both_agree(units, "loops.service")


def test_a_stop_that_needs_sigkill_ends_as_a_timeout(units: SystemdUnits) -> None:
    stubborn = (
        "[Service]\nType=exec\nTimeoutStopSec=3\n"
        "ExecStart=/bin/sh -c 'trap \"\" TERM; touch %h/deaf; while :; do sleep 0.1; done'\n"
    )
    install_unit("stubborn.service", stubborn)
    units.start("stubborn.service")
    settled(units, "stubborn.service", ActiveState.ACTIVE)
    wait_until((Path.home() / "deaf").exists, what="it ignores SIGTERM")
    units.stop("stubborn.service")
    assert units.states(["stubborn.service"])["stubborn.service"].job_pending
    state = settled(units, "stubborn.service", ActiveState.FAILED)
    assert (state.result, state.exit_status) == ("timeout", signal.SIGKILL)
    assert_both_agree(units, "stubborn.service")


def test_kill_reaches_the_whole_cgroup(units: SystemdUnits) -> None:
    install_unit("family.service", "[Service]\nType=exec\nExecStart=/bin/sh -c 'sleep 1000 & sleep 1000'\n")
    units.start("family.service")
    settled(units, "family.service", ActiveState.ACTIVE)
    wait_until(lambda: len(cgroup_pids("family.service")) >= 3)
    units.kill("family.service", signal.SIGKILL)
    state = settled(units, "family.service", ActiveState.FAILED)
    assert (state.result, state.exit_status, state.control_group) == ("signal", signal.SIGKILL, "")
    units.kill("family.service", signal.SIGKILL)
    units.kill("nowhere.service", signal.SIGKILL)


def test_the_start_limit_holds_until_reset(units: SystemdUnits) -> None:
    """Result keeps what the last run died of (start-limit-hit is seen after runs without a fault only)."""
    limit = "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=2\n"
    install_unit("limited.service", f"{limit}[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=10ms\n")
    install_unit("eager.service", f"{limit}[Service]\nExecStart=/bin/true\nRestart=always\nRestartSec=10ms\n")
    for unit, result in (("limited.service", "exit-code"), ("eager.service", "start-limit-hit")):
        units.start(unit)
        wait_until(lambda unit=unit: units.states([unit])[unit].active_state is ActiveState.FAILED)  # type: ignore[misc]
        before = units.states([unit])[unit]
        assert (before.result, before.restarts) == (result, 2)
        units.start(unit)
        after = settled(units, unit, ActiveState.FAILED)
        assert after.invocation_id == before.invocation_id
        assert_both_agree(units, unit)
        units.reset_failed(unit)
        state = units.states([unit])[unit]
        assert (state.active_state, state.result, state.restarts) == (ActiveState.INACTIVE, "success", 0)
        units.reset_failed(unit)
    units.reset_failed("nowhere.service")
    units.start("limited.service")
    wait_until(
        lambda: units.states(["limited.service"])["limited.service"].invocation_id not in ("", before.invocation_id)
    )


@pytest.mark.parametrize("adapter", [SystemdUnits, SystemctlUnits])
def test_what_cannot_be_started_says_why(adapter: type[SystemdUnits] | type[SystemctlUnits]) -> None:
    units = adapter()
    install_unit("masked.service", SLEEPER)
    remove_unit("masked.service")
    systemctl("mask", "masked.service")
    install_unit("bad.service", "[Service]\nType=exec\n")
    states = units.states(["nowhere.service", "masked.service", "bad.service", "not a name"])
    assert [state.load_state for state in states.values()] == ["not-found", "masked", "bad-setting", "not-found"]
    with pytest.raises(UnitMissing, match=r"nowhere\.service"):
        units.start("nowhere.service")
    with pytest.raises(UnitMissing):
        units.start("not a name")
    with pytest.raises(UnitRefused, match="masked"):
        units.start("masked.service")
    with pytest.raises(UnitRefused, match="bad"):
        units.start("bad.service")
    units.stop("nowhere.service")
    units.stop("not a name")
    units.close()


def test_a_refusing_condition_can_be_read(units: SystemdUnits) -> None:
    install_unit("refuses.service", "[Service]\nType=exec\nExecCondition=/bin/false\nExecStart=/bin/sleep 1000\n")
    units.start("refuses.service")
    wait_until(
        lambda: units.states(["refuses.service"])["refuses.service"].result == "exec-condition", interval_s=0.005
    )
    time.sleep(0.5)
    state = units.states(["refuses.service"])["refuses.service"]
    assert (state.active_state, state.result) == (ActiveState.INACTIVE, "exec-condition")
    assert_both_agree(units, "refuses.service")


def test_a_unit_whose_file_is_gone_stays_managed_while_it_runs(units: SystemdUnits) -> None:
    install_unit("ghost.service", SLEEPER)
    units.start("ghost.service")
    settled(units, "ghost.service", ActiveState.ACTIVE)
    remove_unit("ghost.service")
    state = units.states(["ghost.service"])["ghost.service"]
    assert (state.load_state, state.active_state) == ("not-found", ActiveState.ACTIVE)
    assert units.managed() == ("ghost.service",) == SystemctlUnits().managed()
    units.stop("ghost.service")
    wait_until(lambda: units.managed() == ())
    assert SystemctlUnits().managed() == ()


def test_failed_and_restarting_units_are_managed(units: SystemdUnits) -> None:
    install_unit("down.service", "[Service]\nType=exec\nSlice=gpumod.slice\nExecStart=/bin/false\n")
    restarts = "[Service]\nType=exec\nSlice=gpumod.slice\nExecStart=/bin/false\nRestart=always\nRestartSec=60\n"
    install_unit("again.service", restarts)
    install_unit("elsewhere.service", SLEEPER.replace("Slice=gpumod.slice\n", ""))
    for unit in ("down.service", "again.service", "elsewhere.service"):
        units.start(unit)
    settled(units, "down.service", ActiveState.FAILED)
    settled(units, "elsewhere.service", ActiveState.ACTIVE)
    settled(units, "again.service", ActiveState.ACTIVATING)
    assert units.managed() == ("again.service", "down.service") == SystemctlUnits().managed()


def test_a_unit_that_changes_faster_than_it_is_read_is_read_in_one_answer(
    units: SystemdUnits, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"runs": "/bin/sleep 60", "fails": '/bin/sh -c "exit 3"', "missing": "/nonexistent"}
    for name, command in kinds.items():
        install_unit(f"{name}.service", f"[Service]\nType=exec\nExecStart={command}\n")
        units.start(f"{name}.service")
    names = [f"{name}.service" for name in kinds]
    for unit in ("fails.service", "missing.service"):
        settled(units, unit, ActiveState.FAILED)
    in_parts = units.states(names)
    monkeypatch.setattr(_unit_reader, "_TRIES", 0)
    another = SystemdUnits()
    at_once = another.states(names)
    another.close()
    assert in_parts["runs.service"].main_pid is not None
    for unit, state in in_parts.items():
        memory_bytes, cpu_usage_ns = state.memory_bytes, state.cpu_usage_ns
        found = replace(at_once[unit], memory_bytes=memory_bytes, cpu_usage_ns=cpu_usage_ns, since=state.since)
        assert found == state
        assert at_once[unit].since == pytest.approx(state.since, abs=0.01)


def test_states_are_never_of_two_moments(units: SystemdUnits) -> None:
    """While a unit loops, no reading may pair `running` with a result, or a main pid with a unit that is down.

    Unless it went all the way round during the reading: that is repeated a few times only.
    """
    service = "Type=exec\nExecStart=/bin/sleep 0.02\nRestart=always\nRestartSec=20ms\n"
    text = f"[Unit]\nStartLimitIntervalSec=0\n[Service]\n{service}"
    install_unit("flickers.service", text)
    units.start("flickers.service")

    def restarts() -> int:
        count: int = value(*units._ask_all([get("flickers.service", SERVICE, "NRestarts")]))
        return count

    seen: Counter[str] = Counter()
    deadline = time.monotonic() + 120
    # Until both have been looked at often, however slowly it loops.
    while min(seen["running"], seen["auto-restart"]) < 10 or seen.total() < 300:
        assert time.monotonic() < deadline, seen
        before = restarts()
        state = units.states(["flickers.service"])["flickers.service"]
        if restarts() != before:
            continue
        running = (state.active_state, state.sub_state) == (ActiveState.ACTIVE, "running")
        if running:
            assert state.main_pid is not None
            assert state.exit_status is None
        elif state.sub_state == "auto-restart":
            assert state.main_pid is None
        seen[state.sub_state] += 1
    units.stop("flickers.service")


def test_changes_are_told_and_looking_is_no_change(units: SystemdUnits) -> None:
    install_unit("told.service", SLEEPER)
    told = threading.Event()
    subscription = units.on_change(told.set)
    wait_until(lambda: is_silent(told), what="what the installing changed has been told")
    for _ in range(10):
        units.states(["told.service", "nowhere.service"])
        units.managed()
    time.sleep(0.3)
    assert not told.is_set()
    systemctl("start", "told.service")
    assert told.wait(60)
    wait_until(lambda: units.states(["told.service"])["told.service"].active_state is ActiveState.ACTIVE)
    subscription.close()
    subscription.close()
    time.sleep(0.1)
    told.clear()
    systemctl("stop", "told.service")
    assert not told.wait(0.3)


def is_silent(told: threading.Event) -> bool:
    told.clear()
    return not told.wait(1.0)


@pytest.mark.parametrize("signals", [True, False])
def test_a_change_by_others_is_seen_at_once(signals: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A remembered reading must not outlive what somebody else did, also before the signal of it has come."""
    if not signals:
        monkeypatch.setattr(SystemdUnits, "_on_signal", lambda self, message: True)
    units = SystemdUnits()
    install_unit("shared.service", SLEEPER)
    for _ in range(5):
        assert units.states(["shared.service"])["shared.service"].main_pid is None
        systemctl("start", "shared.service")
        first = units.states(["shared.service"])["shared.service"]
        assert [first.main_pid] == cgroup_pids("shared.service")
        systemctl("restart", "shared.service")
        second = units.states(["shared.service"])["shared.service"]
        assert [second.main_pid] == cgroup_pids("shared.service")
        assert second.invocation_id != first.invocation_id
        systemctl("stop", "shared.service")
    units.close()


def test_twenty_units_that_did_not_change_are_read_as_fast_as_the_bus_answers_one_question_for_all(
    units: SystemdUnits,
) -> None:
    names = [f"many{number}.service" for number in range(20)]
    for name in names:
        install_unit(name, SLEEPER, reload=False)
    units.reload()
    for name in names:
        units.start(name)
    wait_until(lambda: all(state.main_pid for state in units.states(names).values()))

    def ms(ask: Callable[[], object]) -> float:
        began = time.perf_counter()
        ask()
        return (time.perf_counter() - began) * 1000

    # In turns and the best of each, so that a busy machine slows all of them alike.
    ways = (
        lambda: units.states(names),
        lambda: units._ask_all(_look(names)),
        lambda: units.states(names[:2]),
        lambda: units._ask_all(_look(names[:2])),
    )
    rounds = [[ms(way) for way in ways] for _ in range(100)]
    twenty, bare_twenty, two, bare_two = (min(column) for column in zip(*rounds, strict=True))
    print(f"states of 20 units {twenty:.2f} ms, of 2 units {two:.2f} ms; bare {bare_twenty:.2f} ms, {bare_two:.2f} ms")
    assert twenty < 3 * bare_twenty
    assert two < 3 * bare_two


def test_a_manager_that_vanishes_is_said_so_and_found_again(units: SystemdUnits) -> None:
    told = threading.Event()
    units.on_change(told.set)
    install_unit("other.service", SLEEPER)
    units.start("other.service")
    bus = int(systemctl("show", "dbus.service", "--property=MainPID", "--value").strip())
    wait_until(lambda: is_silent(told), what="its start has been told")
    os.kill(bus, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(SystemdUnavailable, match="no answer"):
            units.states(["other.service"])
        assert time.monotonic() - began < 30
    finally:
        os.kill(bus, signal.SIGCONT)
    wait_until(lambda: answers(units))
    told.clear()
    os.kill(bus, signal.SIGKILL)
    assert told.wait(30)
    wait_until(lambda: answers(units))


def answers(units: SystemdUnits) -> bool:
    try:
        return units.states(["other.service"])["other.service"].active_state is ActiveState.ACTIVE
    except SystemdUnavailable:
        return False


@pytest.mark.parametrize("way", [SystemdUnits, SystemctlUnits])
def test_the_managers_own_cgroup_tells_whose_a_process_is(way: type[SystemdUnits] | type[SystemctlUnits]) -> None:
    install_unit("plain.service", SLEEPER)
    units = way()
    units.start("plain.service")
    wait_until(lambda: units.states(["plain.service"])["plain.service"].active_state is ActiveState.ACTIVE)
    state = units.states(["plain.service"])["plain.service"]
    manager = units.control_group()
    assert manager.endswith(f"/user@{os.getuid()}.service")
    assert state.control_group.startswith(f"{manager}/")
    assert state.main_pid is not None
    assert ProcFs(manager=units.control_group).unit_of(state.main_pid) == "plain.service"
    other = manager.replace(f"@{os.getuid()}.", f"@{os.getuid() + 1}.")
    assert ProcFs(manager=lambda: other).unit_of(state.main_pid) is None
    units.close()


def test_a_bus_that_goes_while_we_work_ends_nothing() -> None:
    install_unit("plain.service", SLEEPER)
    units = connect_units()
    units.start("plain.service")
    wait_until(lambda: units.states(["plain.service"])["plain.service"].active_state is ActiveState.ACTIVE)
    systemctl("stop", "dbus.socket", "dbus.service")
    units.stop("plain.service")
    wait_until(lambda: units.states(["plain.service"])["plain.service"].is_down)


def test_without_a_bus_systemctl_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    install_unit("plain.service", SLEEPER)
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    systemctl("stop", "dbus.socket", "dbus.service")
    with pytest.raises(SystemdUnavailable) as caught:
        SystemdUnits().managed()
    assert "enable-linger" in caught.value.hint
    units = connect_units()
    units.start("plain.service")
    wait_until(lambda: units.states(["plain.service"])["plain.service"].active_state is ActiveState.ACTIVE)
    units.stop("plain.service")
    wait_until(lambda: units.states(["plain.service"])["plain.service"].is_down)


def test_without_a_manager_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(SystemdUnavailable) as caught:
        connect_units()
    assert time.monotonic() - began < 30
    assert "enable-linger" in caught.value.hint


def test_the_fallback_hangs_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, timeout: float, **_others: object) -> None:
        raise subprocess.TimeoutExpired("systemctl", timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(SystemdUnavailable, match="no answer within"):
        SystemctlUnits().states(["a.service"])


@pytest.mark.parametrize("adapter", [SystemdUnits, SystemctlUnits])
def test_a_socket_is_enabled_started_and_disabled(adapter: type[SystemdUnits] | type[SystemctlUnits]) -> None:
    text = "[Socket]\nListenStream=127.0.0.1:7999\n[Install]\nWantedBy=sockets.target\n"
    units = adapter()
    with pytest.raises(UnitMissing):
        units.enable("held.socket")
    assert not units.disable("held.socket")
    install_unit("held.socket", text)
    install_unit("held.service", SLEEPER)
    assert units.enable("held.socket")
    assert not units.enable("held.socket")
    units.reload()
    units.start("held.socket")
    wait_until(lambda: units.states(["held.socket"])["held.socket"].active_state is ActiveState.ACTIVE)
    assert unit_properties("held.socket", "UnitFileState")["UnitFileState"] == "enabled"
    assert units.disable("held.socket")
    assert not units.disable("held.socket")
    units.stop("held.socket")
    wait_until(lambda: units.states(["held.socket"])["held.socket"].is_down)
    units.close()


@pytest.mark.parametrize("adapter", [SystemdUnits, SystemctlUnits])
def test_a_unit_that_does_not_say_where_is_enabled_at_login(adapter: type[SystemdUnits] | type[SystemctlUnits]) -> None:
    install_unit("plain.service", SLEEPER)
    units = adapter()
    assert units.file_states(["plain.service", "none.service"]) == {"plain.service": "static"}
    assert units.enable("plain.service")
    assert not units.enable("plain.service")
    units.reload()
    assert units.file_states(["plain.service", "none.service"]) == {"plain.service": "enabled"}
    assert "plain.service" in unit_properties("default.target", "Wants")["Wants"]
    assert units.disable("plain.service")
    assert not units.disable("plain.service")
    units.reload()
    assert units.file_states(["plain.service", "none.service"]) == {"plain.service": "static"}
    assert "plain.service" not in unit_properties("default.target", "Wants")["Wants"]
    units.close()
