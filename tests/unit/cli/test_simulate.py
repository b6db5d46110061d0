"""`gpumod simulate`: figures for people and for programs, and the exit code."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from gpumod_tui import wiring
from gpumod_tui.cli.simulate import simulate
from gpumod_tui.core.errors import UnknownName
from gpumod_tui.demo.host import DemoHost

Call = Callable[..., Result]


@pytest.fixture
def host() -> DemoHost:
    return DemoHost(running=["vllm-embedding"])


@pytest.fixture
def call(host: DemoHost, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.setattr(wiring, "real_host", lambda **_: host)
    return lambda *arguments: CliRunner().invoke(simulate, arguments)


def test_a_mode_that_fits(call: Call, host: DemoHost) -> None:
    pid = host.foreign(1228)
    done = call("mode", "code")
    assert (done.exit_code, done.stderr) == (0, "")
    for line in (
        "  stop     vllm-embedding",
        "    - need       20480 MiB  glm-code (GLM-4.7-Flash-UD-Q4_K_XL): declared",
        f"      stays       1228 MiB  python3 pid {pid}: not managed by gpumod",
        "  fits",
    ):
        assert line in done.stdout.splitlines()


def test_services_that_do_not_fit(call: Call) -> None:
    done = call("services", "glm-code", "--beside")
    assert done.exit_code == 3
    assert "does not fit" in done.stdout
    assert "keep     vllm-embedding" in done.stdout
    assert "= short by" in done.stdout
    assert call("services", "glm-code").exit_code == 0, "alone it does"


def test_whose_promises_are_left_to_them_is_named(call: Call, host: DemoHost) -> None:
    host.admission.admit("devstral-small-2.service")
    (row,) = json.loads(call("services", "glm-code", "--json").stdout)["gpus"]
    (promise,) = row["kept_growth"]
    assert (promise["unit"], promise["bytes"]) == ("devstral-small-2.service", row["kept_growth_bytes"])
    assert "that what stays may still take (devstral-small-2 " in call("services", "glm-code").stdout


def test_json_is_the_same_in_bytes(call: Call) -> None:
    done = call("mode", "nemotron", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["fits"], told["verdict"], told["stop"]) == (0, True, "fits", ["vllm-embedding"])
    (row,) = told["gpus"]
    assert row["left_bytes"] == row["available_bytes"] - row["need_bytes"] - row["margin_bytes"]
    assert row["starts"][0]["service"] == "nemotron-3-nano"
    assert {one["mode"] for one in told["beside"]} == {"rag", "code"}
    assert not any(one["fits"] for one in told["beside"])


def test_gpus_that_are_not_there(call: Call, host: DemoHost) -> None:
    host.gpus.error, host.units.error = "no NVIDIA driver", "no user bus"
    assert call("mode", "code", "--gpu-gib", "24").exit_code == 0
    done = call("mode", "code", "--gpu-gib", "16", "--gpu-gib", "80", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["simulated_gpus"], [row["gpu"] for row in told["gpus"]]) == (3, True, [0, 1])


def test_what_does_not_exist_is_no_no(call: Call) -> None:
    assert isinstance(call("mode", "cod").exception, UnknownName)
    assert isinstance(call("services", "glm").exception, UnknownName)


@pytest.mark.parametrize("size", ["0", "-1", "nan", "inf", "much", "5000"])
def test_a_gpus_size_is_a_number_of_gib(call: Call, size: str) -> None:
    assert call("mode", "code", "--gpu-gib", size).exit_code == 2


def test_usage(call: Call) -> None:
    assert call("services").exit_code == 2
    assert call("services", "glm-code", "--beside", "--gpu-gib", "24").exit_code == 2
    assert call("mode", "code", *["--gpu-gib", "24"] * 17).exit_code == 2
