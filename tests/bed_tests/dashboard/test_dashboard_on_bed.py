"""The dashboard as an operator drives it: real keys at a real terminal, real units, and switches of other processes."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpumod_tui.core.events import SwitchSeen
from gpumod_tui.core.switch.watch import SwitchWatch
from tests.bed.guarded import truth
from tests.bed.host import gpu, run, systemctl, wait_until
from tests.bed.terminal import Tmux, dashboard

ENDLESS: list[dict[str, Any]] = [{"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968, "load_s": 60.0}]
"""A load that goes on for as long as a test needs it."""


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> Iterator[None]:
    if os.environ.get("GPUMOD_BED") == "1":
        assert run("gpumod", "template", "install", "--yes").returncode == 0
        yield
        gpu().assert_never_overcommitted()
    else:
        yield


def switch(terminal: Tmux, mode: str) -> None:
    """Press the mode's number, see the plan, agree."""
    number = re.search(rf"(\d) {mode}\b", terminal.text())
    assert number is not None, terminal.text()
    terminal.press(number[1])
    terminal.wait(f"Switch to {mode}", "enter do it")
    terminal.agree()


@pytest.mark.bed
def test_a_switch_and_a_stop_by_hand_that_is_seen_untold() -> None:
    with dashboard() as terminal:
        switch(terminal, "rag")
        terminal.wait("Switch to rag: reached", "✔ preflight", "✔ verify", timeout_s=60.0)
        terminal.wait("rag]", "● reached")
        assert truth() == ("rag", "reached")
        systemctl("stop", "vllm-embedding.service")
        terminal.wait("rag: partial]", timeout_s=10.0)
        terminal.press("h")
        terminal.wait("Switches", "✔ rag", "done")
        terminal.press("Escape")
        terminal.wait("Units", "? help")
        terminal.press("q")
        wait_until(lambda: not terminal.text().strip(), what="the view ends")


@pytest.mark.bed(gpu={"vllm": {"fail": "memory"}})
def test_a_failing_switch_stays_with_its_reason_and_leads_back() -> None:
    with dashboard() as terminal:
        switch(terminal, "rag")
        terminal.wait("Switch to rag: failed", "r retry", "b blank", "g logs", "y copy", timeout_s=60.0)
        # The journal's last words are part of it.
        terminal.wait("vllm-embedding.service died", "is less than desired GPU memory utilization")
        time.sleep(9.0)
        terminal.wait("Switch to rag: failed")
        terminal.press("r")
        terminal.wait("Switch to rag", "enter do it")
        terminal.press("Escape", "b")
        terminal.wait("Switch to blank", "enter do it")
        terminal.press("Enter")
        terminal.wait("Switch to blank: reached", timeout_s=60.0)
        assert truth() == ("blank", "reached")


@pytest.mark.bed(gpu={"release_s": 8.0})
def test_a_switch_goes_on_to_its_end_when_the_terminal_hangs_up() -> None:
    assert run("gpumod", "mode", "switch", "rag").returncode == 0
    with dashboard() as terminal:
        switch(terminal, "code")
        terminal.wait("▸ release", timeout_s=60.0)
        terminal.hang_up()
        lost_at = time.time()
        wait_until(lambda: truth() == ("code", "reached"), 120.0, what="the switch ends")
    newest = json.loads(run("gpumod", "mode", "history", "--json").stdout)["switches"][0]
    assert (newest["target"], newest["outcome"], newest["command"]) == ("code", "done", "gpumod")
    steps = {step["step"]: step for step in newest["steps"]}
    assert list(steps)[-4:] == ["release", "start", "load", "verify"]
    assert all(step["ok"] for step in steps.values())
    assert lost_at < steps["start"]["at"] < newest["ended_at"]
    wait_until(lambda: not Path(f"/proc/{newest['pid']}").exists(), 60.0, what="the dashboard's process ends")


@pytest.mark.bed(gpu={"rules": ENDLESS})
def test_a_switch_that_is_cancelled_is_rolled_back() -> None:
    with dashboard(80, 24) as terminal:
        switch(terminal, "code")
        terminal.wait("▸ load", timeout_s=60.0)
        number = re.search(r"(\d) rag\b", terminal.text())
        assert number is not None, terminal.text()
        terminal.press(number[1])
        terminal.wait("Switch to code, then rag", "rag next", "esc drops it")
        terminal.press("Escape")
        terminal.wait("esc cancels")
        terminal.press("Escape")
        terminal.wait("Switch to code: cancelled", timeout_s=60.0)
        history = json.loads(run("gpumod", "mode", "history", "--json").stdout)["switches"]
        assert [step["step"] for step in history[0]["steps"]][-1] == "rollback"
        assert systemctl("is-active", "glm-code.service", check=False).strip() == "inactive"


@pytest.mark.bed(gpu={"rules": ENDLESS})
def test_a_switch_of_the_command_line_is_shown_live_and_can_be_cancelled() -> None:
    from gpumod_tui.wiring import real_host

    told: list[SwitchSeen] = []
    host = real_host()
    watch = SwitchWatch(host.store, host.clock, os.getpid(), lambda seen: told.append(seen))  # type: ignore[arg-type]
    watch.start()
    with dashboard() as terminal:
        command = ["gpumod", "mode", "switch", "code"]
        other = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        terminal.wait(f"by pid {other.pid} (gpumod mode switch code)", "✔ preflight", "▸ load", timeout_s=60.0)
        terminal.wait("GLM-4.7-Flash", "▸2 code")
        terminal.press("4")
        terminal.wait(f"runs in pid {other.pid}")
        terminal.press("Escape", "Escape")
        terminal.wait("was not begun here")
        terminal.press("Escape")
        terminal.wait_gone("was not begun here")
        assert other.poll() is None
        terminal.press("Escape")
        terminal.wait("was not begun here")
        terminal.press("Enter")
        terminal.wait("Switch to code: cancelled", timeout_s=60.0)
        assert other.wait(60) == 130
    wait_until(lambda: bool(told) and told[-1].record.outcome == "cancelled", what="the watch tells the end")
    watch.stop()
    steps = [step.step for step in told[-1].record.steps]
    assert steps[-3:] == ["start", "load", "rollback"]
    # A step can be over between two looks, but none is told out of its turn.
    seen_steps = dict.fromkeys(seen.record.step for seen in told if seen.record.steps)
    assert list(seen_steps) == [step for step in steps if step in seen_steps]
    assert any(seen.moment is not None and seen.moment.step == "load" for seen in told)
    assert all(step.at is not None and step.seconds is not None for step in told[-1].record.steps)
