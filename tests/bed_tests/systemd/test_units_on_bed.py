"""Generated units under a real user manager: arguments arrive unchanged, and a key stays secret."""

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from gpumod_tui.adapters.files.paths import find_places
from gpumod_tui.adapters.files.presets import load_registry
from gpumod_tui.adapters.nvml.gpus import VRAMTracker
from gpumod_tui.adapters.systemd.render import render_unit
from gpumod_tui.adapters.systemd.unit_files import InstalledUnits
from gpumod_tui.core.models import DriverKind, Service, UnitState
from gpumod_tui.core.units.guard import GUARD_UNITS
from tests.bed.host import external_ip, http, run, systemctl, unit_properties, wait_until

DUMP = """#!/usr/bin/env python3
import json, os, pathlib, sys, time
target = pathlib.Path(__file__).with_suffix(".json")
environ = {key: os.environ[key] for key in sorted(os.environ) if key.startswith("V_")}
target.with_suffix(".new").write_text(json.dumps([sys.argv[1:], environ, os.getcwd()]))
target.with_suffix(".new").rename(target)
time.sleep(60)
"""
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0"), max_size=30)
NASTY = st.sampled_from(
    [
        "",
        ";",
        "%h",
        "%%",
        "$HOME",
        "${HOME}",
        "$$",
        "\\",
        "\\\\n",
        '"',
        "'",
        "-x",
        "@a",
        "a b",
        "# c",
        "a\nb",
        "|",
        "!",
        "\x01",
    ]
)
VALUE = st.one_of(
    NASTY, TEXT.map(lambda text: "".join(c for c in text if c in "\t\n" or (ord(c) > 31 and ord(c) != 127)))
)


def units() -> InstalledUnits:
    return InstalledUnits(find_places().units)


def install(service: Service) -> Path:
    """Installs a service's unit as `template install` does; one without a preset would be refused by its condition."""
    text = render_unit(service, VRAMTracker().read(processes=False))
    if service.id not in load_registry(find_places()).services:
        text = "".join(line for line in text.splitlines(True) if not line.startswith("ExecCondition="))
    units().write(service, text)
    systemctl("daemon-reload")
    return units().path(service)


@pytest.mark.bed
def test_arguments_and_variables_reach_the_program_unchanged() -> None:
    folder = Path(tempfile.mkdtemp(dir=Path.home())) / "with space %h"
    folder.mkdir()
    program = folder / "dump me.py"
    program.write_text(DUMP)
    program.chmod(0o755)
    seen = program.with_suffix(".json")

    # Without shrinking: an example that fails costs seconds, and says enough.
    @hypothesis_settings(
        max_examples=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(st.one_of(NASTY, TEXT), max_size=8), st.lists(VALUE, max_size=4))
    def unchanged(arguments: list[str], values: list[str]) -> None:
        env = {f"V_{index}": value for index, value in enumerate(values)}
        seen.unlink(missing_ok=True)
        service = Service(
            "dump",
            "100% dump",
            DriverKind.COMMAND,
            vram_bytes=0,
            unit_vars={"command": [str(program), *arguments], "working_dir": str(folder)},
            env=env,
        )
        install(service)
        systemctl("start", service.unit)
        wait_until(seen.exists, what="the program tells its arguments")
        assert json.loads(seen.read_text()) == [arguments, env, str(folder)]
        assert unit_properties(service.unit, "Description")["Description"] == "100% dump (gpumod)"
        systemctl("kill", "--signal=KILL", service.unit)
        systemctl("stop", service.unit)
        systemctl("reset-failed", check=False)

    unchanged()


@pytest.mark.bed
def test_packaged_units_verify_and_run_in_the_slice() -> None:
    registry = load_registry(find_places())
    for service in registry.services.values():
        path = install(service)
        verified = run("systemd-analyze", "--user", "verify", path)
        assert (verified.returncode, verified.stderr) == (0, "")
        assert units().missing_files(service, _state(service)) == ()
    run("gpumod", "template", "install", "--yes", check=True)
    for unit in GUARD_UNITS:
        verified = run("systemd-analyze", "--user", "verify", units().path(unit))
        assert (verified.returncode, verified.stderr) == (0, "")
    router = registry.service("glm-code")
    systemctl("start", router.unit)
    wait_until(lambda: http("http://127.0.0.1:7070/models")[1]["data"], what="the router answers through the guard")
    properties = unit_properties(
        router.unit, "Slice", "KillMode", "Type", "OOMPolicy", "NoNewPrivileges", "ControlGroup"
    )
    assert properties["Slice"] == "gpumod.slice"
    assert "/gpumod.slice/" in properties["ControlGroup"]
    assert (properties["KillMode"], properties["Type"]) == ("control-group", "exec")
    assert (properties["OOMPolicy"], properties["NoNewPrivileges"]) == ("stop", "yes")
    assert {model["status"]["value"] for model in http("http://127.0.0.1:7070/models")[1]["data"]} == {"unloaded"}
    assert http(f"http://{external_ip()}:7070/health", timeout_s=2)[0] == 0


@pytest.mark.bed
def test_a_vllm_key_is_needed_and_is_not_on_the_bus() -> None:
    registry = load_registry(find_places())
    key = Path.home() / "key"
    key.write_text("# a comment\nhunter2\n")
    key.chmod(0o600)
    service = replace(registry.service("vllm-embedding"), api_key_file=key)
    install(service)
    systemctl("start", service.unit)
    wait_until(lambda: http("http://127.0.0.1:8200/health")[0] in (200, 401), what="the server answers")
    pid = unit_properties(service.unit, "MainPID")["MainPID"]
    assert "VLLM_API_KEY=hunter2" in Path(f"/proc/{pid}/environ").read_text().split("\0")
    assert "hunter2" not in systemctl("show", service.unit) + systemctl("cat", service.unit)
    assert "hunter2" not in Path(f"/proc/{pid}/cmdline").read_text()
    systemctl("stop", service.unit)
    key.write_text("# nothing but a comment\n")
    systemctl("start", service.unit, check=False)
    wait_until(lambda: unit_properties(service.unit, "Result")["Result"] == "exit-code", what="no server without a key")


def _state(service: Service) -> UnitState:
    program = unit_properties(service.unit, "ExecStart")["ExecStart"].split(" ; ")[0].removeprefix("{ path=")
    assert os.access(program, os.X_OK)
    return UnitState(service.unit, exec_path=program)


@pytest.mark.bed
def test_the_command_installs_what_systemd_then_knows() -> None:
    gpumod = (sys.executable, "-c", "from gpumod_tui.cli import main; main()")
    shown = run(*gpumod, "template", "install")
    assert shown.returncode == 0
    assert not find_places().units.exists()
    done = run(*gpumod, "template", "install", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert unit_properties("glm-code.service", "LoadState")["LoadState"] == "loaded"
    states = {unit["state"] for unit in json.loads(run(*gpumod, "template", "list", "--json").stdout)["units"]}
    assert states == {"current"}
    assert units().stamped() == tuple(f"{name}.service" for name in sorted(load_registry(find_places()).services))
