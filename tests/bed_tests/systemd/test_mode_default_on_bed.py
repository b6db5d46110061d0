"""The mode at login: systemd starts the unit, the mode is reached, and what cannot be is told where one looks."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.bed.guarded import truth
from tests.bed.host import HOME, gpu, journal, run, systemctl, unit_properties, wait_until

UNIT = "gpumod-mode.service"
PRESETS = HOME / ".config/gpumod/presets"


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> Iterator[None]:
    if os.environ.get("GPUMOD_BED") == "1":
        gpumod("template", "install", "--yes")
        yield
        gpu().assert_never_overcommitted()
    else:
        yield


def gpumod(*arguments: str, expect: int = 0) -> str:
    done = run("gpumod", *arguments)
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    assert done.returncode == expect, f"{arguments}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def state() -> str:
    return unit_properties(UNIT, "ActiveState")["ActiveState"]


def history() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("gpumod", "mode", "history", "--json").stdout)["switches"]
    return found


def said(words: str) -> None:
    """journald writes down what it hears a moment later."""
    wait_until(lambda: any(words in line for line in journal(UNIT) if "systemd" not in line), what=f"“{words}”")


@pytest.mark.bed
def test_a_login_switches_to_it() -> None:
    assert "no mode at login" in gpumod("mode", "default")
    assert "mode at login: rag" in gpumod("mode", "default", "rag")
    assert systemctl("is-enabled", UNIT).strip() == "enabled"
    # What a login does: default.target comes up, and with it what it wants.
    systemctl("stop", "default.target")
    systemctl("start", "default.target")
    wait_until(lambda: truth() == ("rag", "reached"), 60.0)
    assert state() == "inactive", "it is over, and no service of gpumod's"
    gpumod("mode", "default", "code")
    assert "gpumod-mode" not in gpumod("template", "list")
    systemctl("start", UNIT)
    assert history()[0]["outcome"] == "done", "systemctl start waits until the mode is reached"
    wait_until(lambda: truth() == ("code", "reached"), what="it is seen to be reached")
    assert "code is switched to at login" in gpumod("doctor")
    said("code: done in")
    assert [(one["target"], one["command"]) for one in history()] == [
        ("code", "gpumod mode switch code --wait-for-gpus 120"),
        ("rag", "gpumod mode switch rag --wait-for-gpus 120"),
    ]
    assert "no mode at login any more" in gpumod("mode", "default", "--clear")
    assert unit_properties(UNIT, "LoadState")["LoadState"] == "not-found"


@pytest.mark.bed
def test_a_mode_that_is_gone_fails_and_says_so() -> None:
    PRESETS.mkdir(parents=True, exist_ok=True)
    preset = PRESETS / "mine.yaml"
    preset.write_text("id: mine\nname: Mine\nservices: [vllm-embedding]\n")
    gpumod("mode", "default", "mine")
    preset.unlink()
    assert run("systemctl", "--user", "start", UNIT).returncode != 0
    assert state() == "failed"
    said("no mode 'mine'")
    told = gpumod("mode", "default")
    assert "mine is no mode (any more)" in told
    assert "the last time it failed" in told
    assert "is no mode" in gpumod("doctor", expect=1)
    gpumod("mode", "default", "rag")
    assert state() != "failed"


@pytest.mark.bed
def test_a_switch_that_is_refused_leaves_its_reason_in_the_journal() -> None:
    gpu().declare(os.getpid(), {0: 20000})
    gpumod("mode", "default", "code")
    assert run("systemctl", "--user", "start", UNIT).returncode != 0
    assert state() == "failed"
    said("insufficient VRAM on GPU 0")


@pytest.mark.bed
def test_stopping_the_unit_cancels_the_switch_in_good_order() -> None:
    gpu().config(rules=[{"match": r"--model \S*GLM-4\.7-Flash", "mib": 19968, "load_s": 60.0}])
    gpumod("mode", "default", "code")
    systemctl("start", "--no-block", UNIT)
    wait_until(lambda: "load" in run("gpumod", "mode", "status").stdout, 30.0)
    systemctl("stop", UNIT)
    assert history()[0]["outcome"] == "cancelled"
    assert unit_properties("glm-code.service", "ActiveState")["ActiveState"] == "inactive"
