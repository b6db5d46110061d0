"""Snapshots: complete, on time, and truthful when something cannot be read."""

import threading
import time

import pytest

from gpumod_tui.core.admission.commitments import Refusal
from gpumod_tui.core.errors import StateUnavailable
from gpumod_tui.core.models import ActiveState, Health, ModelStatus, ModeTruth, Service, Snapshot
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.poller import Poller, Rates
from gpumod_tui.core.status.snapshot import take_snapshot
from gpumod_tui.core.text import MIB
from gpumod_tui.demo.clock import RunningClock
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.demo.servers import DemoServer


class Collected:
    """A callback that keeps what it was given."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self._more = threading.Condition()

    def __call__(self, snapshot: Snapshot) -> None:
        with self._more:
            self.snapshots.append(snapshot)
            self._more.notify_all()

    def until(self, wanted: object, seconds: float = 30.0) -> Snapshot:
        assert callable(wanted)
        end = time.monotonic() + seconds
        with self._more:
            while not (self.snapshots and wanted(self.snapshots[-1])):
                left = end - time.monotonic()
                assert left > 0, self.snapshots[-1:]
                self._more.wait(left)
            return self.snapshots[-1]


def test_one_look_at_everything() -> None:
    host = DemoHost(running=["glm-code"])
    pid = host.foreign(1200, command="python3")
    snapshot = take_snapshot(host, lambda: Recorded("code", since=5.0))
    assert snapshot.mode.truth is ModeTruth.REACHED
    glm = snapshot.service("glm-code")
    assert glm is not None
    assert glm.is_ready
    assert (glm.vram_bytes or 0) // MIB == 19968
    assert [model.status for model in glm.models] == [ModelStatus.LOADED, ModelStatus.UNLOADED]
    assert [(holder.pid, holder.command, holder.gpu) for holder in snapshot.orphans] == [(pid, "python3", 0)]
    assert (snapshot.gpu_error, snapshot.units_error) == (None, None)
    assert [view.id for view in snapshot.services] == list(host.registry.services)
    assert snapshot.services[1].vram_bytes == 0


def test_a_silent_server_costs_the_limit_once_and_is_not_ready() -> None:
    host = DemoHost(RunningClock(), running=["glm-code", "vllm-embedding"])
    host.script("glm-code").probe_hangs_s = host.script("vllm-embedding").probe_hangs_s = 60.0
    begin = time.monotonic()
    snapshot = take_snapshot(host, Recorded)
    assert time.monotonic() - begin < 30.0, "each hangs for 60 s"
    glm = snapshot.service("glm-code")
    assert glm is not None
    assert glm.probe is not None
    assert (glm.probe.health, glm.probe.detail) == (Health.DOWN, "no answer within 3 s")


def test_servers_are_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpumod_tui.core.status.snapshot.PROBE_LIMIT_S", 120.0)
    host = DemoHost(running=["glm-code", "vllm-embedding"])
    asked, both = host.drivers, threading.Barrier(2)

    def drivers(service: Service) -> DemoServer:
        both.wait(30.0)
        return asked(service)

    host.drivers = drivers  # type: ignore[method-assign]
    snapshot = take_snapshot(host, Recorded)
    probes = [view.probe for view in snapshot.services if view.id in ("glm-code", "vllm-embedding")]
    assert [probe.health for probe in probes if probe is not None] == [Health.READY] * 2


def test_memory_that_nvml_does_not_tell_is_unknown_and_not_zero() -> None:
    host = DemoHost(running=["glm-code"])
    host.gpus.tells_processes = False
    snapshot = take_snapshot(host, Recorded, probe=False)
    glm = snapshot.service("glm-code")
    assert glm is not None
    assert (glm.vram_bytes, glm.probe) == (None, None)
    assert snapshot.services[1].vram_bytes == 0


def test_what_cannot_be_read_is_said() -> None:
    host = DemoHost(running=["glm-code"])
    host.gpus.error, host.units.error = "library mismatch", "no bus"

    def broken() -> Recorded:
        raise StateUnavailable("state folder is not ours")

    snapshot = take_snapshot(host, broken)
    assert snapshot.gpus is None
    assert "library mismatch" in (snapshot.gpu_error or "")
    assert "no bus" in (snapshot.units_error or "")
    assert snapshot.mode.truth is ModeTruth.UNKNOWN


def test_a_hanging_server_delays_no_gpu_sample() -> None:
    host = DemoHost(RunningClock(), running=["glm-code"])
    host.script("glm-code").probe_hangs_s = 60.0
    poller, seen = Poller(host, Recorded, rates=Rates(gpus_s=0.02, units_s=0.05, probes_s=0.02)), Collected()
    before = set(threading.enumerate())
    poller.start(seen)
    try:
        seen.until(lambda _: len({snapshot.gpus.at for snapshot in seen.snapshots if snapshot.gpus}) >= 12)
        glm = seen.snapshots[-1].service("glm-code")
        assert glm is not None
        assert not glm.is_ready
        assert sum(thread.name == "gpumod-probe-glm-code" for thread in set(threading.enumerate()) - before) == 1
    finally:
        begin = time.monotonic()
        poller.stop()
    assert time.monotonic() - begin < 30.0, "the server hangs for 60 s"
    count = len(seen.snapshots)
    time.sleep(0.1)
    assert len(seen.snapshots) == count


def test_a_change_is_seen_long_before_the_next_second_and_ready_only_when_asked() -> None:
    host = DemoHost(RunningClock(), running=["vllm-embedding"])
    host.start()
    poller, seen = Poller(host, Recorded, rates=Rates(units_s=30.0, probes_s=30.0)), Collected()
    poller.start(seen)

    def embedding(snapshot: Snapshot) -> tuple[bool, ActiveState | None]:
        view = snapshot.service("vllm-embedding")
        return (view.is_ready, view.state.active_state) if view else (False, None)

    try:
        seen.until(lambda snapshot: embedding(snapshot) == (True, ActiveState.ACTIVE))
        host.die("vllm-embedding")
        seen.until(lambda snapshot: embedding(snapshot) == (False, ActiveState.FAILED), 20.0)
        host.script("vllm-embedding").never_ready = True
        host.units.start("vllm-embedding.service")
        seen.until(lambda snapshot: embedding(snapshot)[1] is ActiveState.ACTIVE, 20.0)
        again = [embedding(snapshot) for snapshot in seen.snapshots]
        failed_at = again.index((False, ActiveState.FAILED))
        assert (True, ActiveState.ACTIVE) not in again[failed_at:]
    finally:
        poller.stop()
        host.close()


def test_a_fault_of_the_code_is_shown_and_the_poller_goes_on() -> None:
    host = DemoHost(RunningClock())
    poller, seen = Poller(host, Recorded, rates=Rates(gpus_s=0.02, units_s=0.05)), Collected()
    real, host.gpus.read = host.gpus.read, None  # type: ignore[method-assign, assignment]
    poller.start(seen)
    try:
        seen.until(lambda snapshot: "looking failed" in (snapshot.gpu_error or ""))
        host.gpus.read = real  # type: ignore[method-assign]
        seen.until(lambda snapshot: snapshot.gpu_error is None and snapshot.gpus is not None)
    finally:
        poller.stop()


def test_without_systemd_what_is_ours_is_not_taken_for_somebody_elses() -> None:
    host = DemoHost(running=["glm-code"])
    pid = host.foreign(1200, command="python3")
    host.units.error = "no bus"
    snapshot = take_snapshot(host, Recorded)
    assert [holder.pid for holder in snapshot.orphans] == [pid]
    glm = snapshot.service("glm-code")
    assert glm is not None
    assert (glm.state.active_state, (glm.vram_bytes or 0) // MIB) == (ActiveState.UNKNOWN, 19968)
    assert not glm.is_ready
    assert [view.id for view in snapshot.services] == ["glm-code"]


def test_a_refusal_at_the_door_is_in_the_next_snapshots() -> None:
    host = DemoHost(RunningClock(), running=["glm-code"])
    poller, seen = Poller(host, Recorded, rates=Rates(gpus_s=0.02, units_s=0.05, probes_s=0.02)), Collected()
    poller.start(seen)
    try:
        host.ledger.write(host.ledger.state.with_refusal(Refusal("nemotron-3-nano.service", "", "no room", 5.0)))
        snapshot = seen.until(lambda snapshot: snapshot.refusals)
        assert [refusal.message for refusal in snapshot.refusals] == ["no room"]
    finally:
        poller.stop()
