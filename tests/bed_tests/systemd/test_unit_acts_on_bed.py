"""What is done to units and processes besides switches, with a real user manager, router and kernel."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.core.events import ActEnded
from gpumod_tui.core.models import ModelState, ModelStatus, Snapshot
from gpumod_tui.core.status.load_progress import EVERY_S
from gpumod_tui.core.status.poller import Poller
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import recorded_truth
from gpumod_tui.core.units.actions import EndProcess
from gpumod_tui.resources import packaged
from gpumod_tui.wiring import real_host
from tests.bed.guarded import GLM, NEMOTRON, ask, chat, children, statuses
from tests.bed.host import cgroup_pids, gpu, journal, kill_cgroup, run, systemctl, unit_properties, wait_until
from tests.bed.terminal import dashboard

pytestmark = pytest.mark.bed

MIB = 1 << 20


@pytest.fixture(autouse=True)
def installed() -> Any:
    run("gpumod", "template", "install", "--yes", check=True)
    yield
    gpu().assert_never_overcommitted()


def gpumod(*words: str, expect: int = 0) -> dict[str, Any]:
    done = run("gpumod", *words, "--json")
    assert done.returncode == expect, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def occupy(*command: str, mib: float = 3000.0) -> "subprocess.Popen[bytes]":
    """A process outside all units that holds VRAM."""
    process = subprocess.Popen(command or ("sleep", "1000"))
    gpu().declare(process.pid, {0: mib})
    wait_until(lambda: gpu().used_mib() >= mib, what="the card shows it")
    return process


def ignores(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = [int(line.split()[1], 16) for line in lines if line.startswith("SigIgn:")]
    return bool(mask >> (number - 1) & 1)


def act(what: EndProcess) -> ActEnded:
    manager = Manager(real_host())
    ended = manager.submit_act(what).result(60)
    manager.close()
    return ended


# --- units


def test_a_service_is_enabled_at_login_and_not_any_more() -> None:
    assert "at login" in gpumod("service", "enable", "vllm-embedding")["message"]
    assert gpumod("service", "status", "vllm-embedding")["state"]["file_state"] == "enabled"
    assert real_host().units.file_states(["vllm-embedding.service", "none.service"]) == {
        "vllm-embedding.service": "enabled"
    }
    assert "vllm-embedding.service" in unit_properties("default.target", "Wants")["Wants"]
    link = Path.home() / ".config/systemd/user/default.target.wants/vllm-embedding.service"
    assert link.is_symlink()
    gpumod("service", "enable", "vllm-embedding")
    gpumod("service", "disable", "vllm-embedding")
    assert not link.is_symlink()
    assert "vllm-embedding.service" not in unit_properties("default.target", "Wants")["Wants"]
    text = (Path.home() / ".config/systemd/user/vllm-embedding.service").read_text()
    assert "[Install]" not in text, "nothing but gpumod's own wish starts it"


def test_what_is_enabled_starts_with_the_session_and_asks_at_the_door() -> None:
    gpumod("service", "enable", "vllm-embedding")
    systemctl("start", "default.target")
    systemctl("start", "vllm-embedding.service")
    wait_until(lambda: unit_properties("vllm-embedding.service", "ActiveState")["ActiveState"] == "active")
    assert any("admitted" in line or "Started" in line for line in journal("vllm-embedding.service"))


@pytest.mark.parametrize("verb", ["enable", "disable", "reset-failed"])
def test_unknown_services_are_usage(verb: str) -> None:
    done = run("gpumod", "service", verb, "vllm-embeding")
    assert done.returncode == 2
    assert "vllm-embedding" in done.stderr


def test_what_is_not_installed_or_masked_cannot_be_enabled() -> None:
    systemctl("mask", "--runtime", "devstral-small-2.service", check=False)
    (Path.home() / ".config/systemd/user/vllm-embedding.service").unlink()
    systemctl("daemon-reload")
    said = gpumod("service", "enable", "vllm-embedding", expect=1)
    assert said["hint"] == "gpumod template install vllm-embedding"


def test_a_failed_unit_is_clear_again_and_its_details_tell_how_it_ended() -> None:
    folder = Path.home() / ".config/systemd/user/vllm-embedding.service.d"
    folder.mkdir()
    (folder / "once.conf").write_text("[Service]\nRestart=no\n")
    systemctl("daemon-reload")
    gpumod("service", "start", "vllm-embedding")
    kill_cgroup("vllm-embedding.service")
    wait_until(lambda: unit_properties("vllm-embedding.service", "ActiveState")["ActiveState"] == "failed")
    manager = Manager(real_host())
    details = manager.details("vllm-embedding")
    assert details.properties["Description"].endswith("(gpumod)")
    assert details.journal
    assert details.faults == ()
    assert (details.state.result, details.state.exit_status) == ("signal", 9)
    assert details.properties["ExecMainCode"] == "2"
    assert "once.conf" in details.properties["DropInPaths"]
    gpumod("service", "reset-failed", "vllm-embedding")
    assert unit_properties("vllm-embedding.service", "ActiveState")["ActiveState"] == "inactive"


def test_the_diff_shows_what_a_changed_preset_would_write() -> None:
    folder = Path.home() / ".config/gpumod/presets"
    folder.mkdir(parents=True, exist_ok=True)
    text = (packaged("presets") / "services/vllm-embedding.yaml").read_text()
    (folder / "embedding.yaml").write_text(text.replace("port: 8200", "port: 8299"))
    details = Manager(real_host()).details("vllm-embedding")
    assert any(line.startswith("-") and "8200" in line for line in details.diff), details.diff
    assert any(line.startswith("+") and "8299" in line for line in details.diff)


def test_details_of_what_runs() -> None:
    gpumod("service", "start", "vllm-embedding")
    details = Manager(real_host()).details("vllm-embedding")
    held = [process for process in details.processes if process.used_bytes]
    assert held
    assert sum(process.used_bytes or 0 for process in held) // MIB >= 4700
    assert {process.pid for process in details.processes} == set(cgroup_pids("vllm-embedding.service"))
    assert all(process.started_at and abs(process.started_at - time.time()) < 120 for process in details.processes)
    assert "gpumod.slice" in details.properties["Slice"]
    assert details.state.memory_bytes is None or details.state.memory_bytes > 0


# --- models


def test_models_are_unloaded_and_loaded_and_one_more_is_refused() -> None:
    gpumod("service", "start", "glm-code")
    assert statuses("glm-code")[GLM] == "loaded"
    refused = gpumod("service", "load", "glm-code", NEMOTRON, expect=3)
    assert "holds as many models as it may (1)" in refused["errors"][0]["message"]
    assert gpumod("service", "unload", "glm-code", GLM)["success"]
    assert gpu().used_mib() == 15
    assert statuses("glm-code")[GLM] == "unloaded"
    assert gpumod("service", "load", "glm-code", NEMOTRON)["success"]
    assert statuses("glm-code")[NEMOTRON] == "loaded"
    wait_until(lambda: gpu().used_mib() == 15 + 22528)
    for words in (("mode", "switch", "code"), ("service", "wake", "glm-code"), ("service", "start", "glm-code")):
        refused = gpumod(*words, expect=3)
        assert f"for {GLM} unasked: {NEMOTRON}" in refused["errors"][0]["message"]
        assert statuses("glm-code")[NEMOTRON] == "loaded"
    assert gpumod("service", "restart", "glm-code")["success"]
    assert statuses("glm-code")[GLM] == "loaded"


def test_where_the_preset_evicts_a_request_does_and_a_switch_or_a_load_by_hand_says_that_it_does_not() -> None:
    folder = Path.home() / ".config/gpumod/presets"
    folder.mkdir(parents=True, exist_ok=True)
    text = (packaged("presets") / "services/glm-code.yaml").read_text()
    (folder / "glm-code.yaml").write_text(text.replace("  models_max: 1\n", "  models_max: 1\n  evict: true\n"))
    run("gpumod", "template", "install", "--yes", "--force", check=True)
    gpumod("service", "start", "glm-code")
    refused = gpumod("service", "load", "glm-code", NEMOTRON, expect=3)
    assert "evict: true holds for requests" in refused["errors"][0]["message"]
    assert statuses("glm-code")[GLM] == "loaded"
    assert ask("POST", "/v1/chat/completions", chat(NEMOTRON)).status == 200
    assert (statuses("glm-code")[GLM], statuses("glm-code")[NEMOTRON]) == ("unloaded", "loaded")
    refused = gpumod("mode", "switch", "code", expect=3)
    assert "evict: true holds for requests" in refused["errors"][0]["message"]
    assert statuses("glm-code")[NEMOTRON] == "loaded"
    gpu().assert_never_overcommitted()


def test_a_load_that_does_not_fit_is_refused_with_who_holds_the_room() -> None:
    gpumod("service", "start", "glm-code")
    gpumod("service", "unload", "glm-code", GLM)
    holder = occupy(mib=8000)
    said = gpumod("service", "load", "glm-code", GLM, expect=3)
    assert f"pid {holder.pid}" in said["errors"][0]["message"] or said["errors"][0]["holders"]
    assert statuses("glm-code")[GLM] == "unloaded"
    holder.kill()
    holder.wait()


# --- processes


def test_an_orphan_is_seen_whole_and_ends() -> None:
    holder = occupy("sleep", "12345")
    manager = Manager(real_host())
    found = manager.process(holder.pid)
    assert found is not None
    assert (found.arguments, found.is_ours) == ("sleep 12345", True)
    assert (found.used_bytes or 0) // MIB == 3000
    assert found.start_time is not None
    reused = act(EndProcess(holder.pid, found.start_time + 1, found.command))
    assert reused.ok
    assert holder.poll() is None, "the pid of another process is not hit"
    ended: list[ActEnded] = []
    manager = Manager(real_host(), lambda event: ended.append(event) if isinstance(event, ActEnded) else None)
    future = manager.submit_act(EndProcess(holder.pid, found.start_time, found.command))
    assert holder.wait(60) == -signal.SIGTERM
    assert future.result(60).ok
    manager.close()
    assert [event.ok for event in ended] == [True]


def test_an_orphan_that_ignores_sigterm_is_named_and_sigkill_ends_it() -> None:
    holder = occupy("python3", "-c", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(1000)")
    wait_until(lambda: ignores(holder.pid, signal.SIGTERM), what="it ignores SIGTERM")
    start = real_host().processes.start_time(holder.pid)
    assert start is not None
    ended = act(EndProcess(holder.pid, start, "python3"))
    assert (ended.ok, ended.survivor) == (False, (holder.pid, start))
    assert holder.poll() is None
    assert act(EndProcess(holder.pid, start, "python3", force=True)).ok
    assert holder.wait(60) == -signal.SIGKILL


def test_a_process_of_a_unit_is_no_orphan() -> None:
    gpumod("service", "start", "vllm-embedding")
    pid = cgroup_pids("vllm-embedding.service")[0]
    start = real_host().processes.start_time(pid)
    assert start is not None
    ended = act(EndProcess(pid, start, "vllm"))
    assert (ended.ok, ended.message) == (False, f"pid {pid} belongs to vllm-embedding.service")
    assert pid in cgroup_pids("vllm-embedding.service")


def test_another_users_process_cannot_be_ended() -> None:
    found = Manager(real_host()).process(1)
    assert found is not None
    if os.getuid() != 0:
        assert not found.is_ours
        assert found.start_time is not None
        ended = act(EndProcess(1, found.start_time, found.command))
        assert (ended.ok, "another user" in ended.message) == (False, True)


# --- as an operator drives it


HELD = [{"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968, "load_s": 120.0}]
"""A load that the player stops at its beginning, for the test to let it go on."""


def test_a_load_that_a_client_began_is_shown_with_what_its_router_tells() -> None:
    gpumod("service", "start", "glm-code")
    gpumod("service", "unload", "glm-code", GLM)
    seen: list[Snapshot] = []
    host = real_host()
    poller = Poller(host, lambda: recorded_truth(host.store.read()))
    poller.start(seen.append)
    try:
        wait_until(lambda: seen and (view := seen[-1].service("glm-code")) is not None and view.models)

        def glm() -> list[ModelState]:
            views = [snapshot.service("glm-code") for snapshot in list(seen)]
            return [model for view in views if view is not None for model in view.models if model.id == GLM]

        def tells_progress() -> bool:
            return any(model.progress is not None and model.stage for model in glm())

        def told() -> ModelState | None:
            return poller._loads._told.get("glm-code.service", {}).get(GLM)

        gpu().config(rules=HELD)
        # A tiny model's progress is told within milliseconds: it goes on for one at a time, until some was heard.
        for _ in range(5):
            assert ask("POST", "/models/load", {"model": GLM}).status == 200
            child = wait_until(lambda: children("glm-code").get(GLM, 0), what="its process begins")
            wait_until(lambda: glm()[-1].status is ModelStatus.LOADING, what="its load is seen")
            wait_until(told, what="its router is listened to")
            while (heard := told()) is not None and heard.progress is None:
                time.sleep(2 * EVERY_S)
                os.kill(child, signal.SIGCONT)
                time.sleep(0.001)
                os.kill(child, signal.SIGSTOP)
            if statuses("glm-code")[GLM] == "loading":
                break
            os.kill(child, signal.SIGCONT)
            wait_until(lambda: glm()[-1].status is ModelStatus.LOADED, what="it is loaded")
            gpumod("service", "unload", "glm-code", GLM)
            wait_until(lambda: glm()[-1].status is ModelStatus.UNLOADED, what="it can be loaded again")
        wait_until(tells_progress, what="its progress is shown")
        os.kill(child, signal.SIGCONT)
        wait_until(lambda: glm()[-1].status is ModelStatus.LOADED, what="it is loaded")
        assert not poller._loads._followers or wait_until(lambda: not poller._loads._followers)
        views = [snapshot.service("glm-code") for snapshot in seen]
        assert any(view is not None and view.cpu_percent is not None for view in views)
    finally:
        poller.stop()


def test_keys_do_what_they_say_at_a_real_terminal() -> None:
    gpumod("service", "start", "glm-code")
    holder = occupy("sleep", "12345", mib=900)
    with dashboard(width=160, height=40) as terminal:
        terminal.wait(f"pid {holder.pid} sleep", "● ")
        terminal.press("Home", "/", *"glm", "Enter")
        terminal.wait("Units, /glm", "glm-code")
        terminal.press("e")
        terminal.wait("glm-code is started at login from now on")
        assert real_host().units.file_states(["glm-code.service"])["glm-code.service"] == "enabled"
        terminal.wait("e disable")
        terminal.press("e")
        terminal.wait("e enable")
        terminal.press("u")
        terminal.wait("Unload a model from glm-code", "loaded", "enter take it")
        terminal.press("Enter")
        terminal.wait(f"Unload {GLM} (glm-code): unloaded", "no model loaded")
        assert statuses("glm-code")[GLM] == "unloaded"
        terminal.press("l")
        terminal.wait("Load a model into glm-code", "need: declared")
        terminal.press_bare_escape()
        terminal.wait_gone("Load a model into glm-code")
        terminal.press("Enter")
        terminal.wait("1 State", "active running", "gpumod.slice", "close")
        terminal.press("5")
        terminal.wait("5 Unit file", "ExecStart=")
        terminal.press_bare_escape()
        terminal.wait_gone("5 Unit file")
        # What the unload said may still be there to be closed, before the filter is cleared.
        terminal.press("Escape", "Escape", "Escape")
        terminal.wait(f"pid {holder.pid} sleep")
        terminal.press("End", "K")
        terminal.wait(f"End pid {holder.pid}", "sleep 12345", "0.9 GiB on GPU 0", "y end it")
        terminal.press("y")
        assert holder.wait(60) == -signal.SIGTERM
        terminal.wait("has ended")
        wait_until(lambda: f"pid {holder.pid} sleep" not in terminal.text(), what="its row is gone")
        terminal.press("q")
