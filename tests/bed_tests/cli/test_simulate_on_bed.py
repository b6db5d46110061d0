"""`gpumod simulate` in real life: the same verdict and the same figures as the plan of a switch."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bed.host import gpu, run, wait_until
from tests.bed.terminal import dashboard

MODES = ("blank", "code", "nemotron", "rag")


def gpumod(*arguments: str) -> tuple[int, Any]:
    """(exit code, what it printed as JSON)"""
    done = run("gpumod", *arguments, "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def agree(mode: str) -> bool:
    """Whether the mode fits, told alike by simulation and plan."""
    code, told = gpumod("simulate", "mode", mode)
    planned, plan = gpumod("mode", "switch", mode, "--dry-run")
    assert (code, told["fits"]) == (planned, planned == 0), (mode, told, plan)
    assert [one["reason"] for one in told["blockers"]] == [one["reason"] for one in plan["blockers"]]
    for row, sums in zip(told["gpus"], plan["arithmetic"], strict=True):
        assert {key: row[key] for key in ("free_bytes", "stopping_bytes", "need_bytes", "margin_bytes")} == {
            key: sums[key] for key in ("free_bytes", "stopping_bytes", "need_bytes", "margin_bytes")
        }
    return code == 0


@pytest.mark.bed
def test_simulation_and_plan_say_the_same_whatever_runs() -> None:
    assert run("gpumod", "template", "install", "--yes").returncode == 0
    assert all(agree(mode) for mode in MODES)
    assert run("gpumod", "mode", "switch", "rag", timeout_s=60.0).returncode == 0
    assert all(agree(mode) for mode in MODES)
    code, told = gpumod("simulate", "services", "nemotron-3-nano", "--beside")
    assert (code, told["verdict"], told["keep"]) == (3, "does not fit", ["vllm-embedding"])
    # A mode of just these two gets the same answer from the switch itself.
    assert run("gpumod", "mode", "save", "both", "--services", "nemotron-3-nano,vllm-embedding").returncode == 0
    assert not agree("both")
    assert gpumod("mode", "switch", "both")[0] == 3
    assert run("gpumod", "mode", "save", "now", "--from-running").returncode == 0
    assert json.loads((run("gpumod", "mode", "list", "--json")).stdout)["modes"][-2]["services"] == ["vllm-embedding"]
    assert agree("now")
    assert (Path.home() / ".config/gpumod/presets/now.yaml").exists()
    gpu().assert_never_overcommitted()


@pytest.mark.bed
def test_a_running_dashboard_and_the_command_line_show_each_others_modes_at_once() -> None:
    assert run("gpumod", "template", "install", "--yes").returncode == 0
    with dashboard() as terminal:
        terminal.press("m")
        terminal.wait("Modes", "new mode of what runs now")
        terminal.press("n")
        terminal.wait("Services of the new mode", "fits")
        terminal.press(*"both", "Tab", "Tab", "Tab", "Space", "Down", "Down", "Space")
        terminal.wait("short by")
        terminal.press("C-s")
        terminal.wait("mode both saved", ".config/gpumod/presets/both.yaml")
        modes = json.loads(run("gpumod", "mode", "list", "--json").stdout)["modes"]
        (both,) = (mode for mode in modes if mode["id"] == "both")
        assert set(both["services"]) == {"devstral-small-2", "nemotron-3-nano"}
        terminal.press("Escape")
        terminal.wait("2 code", "5 both")
        assert run("gpumod", "mode", "save", "also", "--services", "glm-code").returncode == 0
        terminal.wait("5 both", "6 also")
        assert run("gpumod", "mode", "delete", "also", "--yes").returncode == 0
        wait_until(lambda: "also" not in terminal.text(), what="it is gone from the bar")
        terminal.wait("5 both")


@pytest.mark.bed
def test_gpus_that_are_not_there_are_simulated_where_a_real_one_is() -> None:
    code, told = gpumod("simulate", "services", "nemotron-3-nano", "vllm-embedding", "--gpu-gib", "48")
    assert (code, told["fits"], told["simulated_gpus"], len(told["gpus"])) == (0, True, True, 1)
    assert gpumod("simulate", "mode", "nemotron", "--gpu-gib", "16")[0] == 3
