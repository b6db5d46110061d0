"""What the doctor finds on the NVIDIA driver and on VRAM."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from gpumod_tui.adapters.proc.processes import ProcFs
from gpumod_tui.core.doctor.checks import nvidia
from gpumod_tui.core.doctor.facts import Finding, Severity
from gpumod_tui.core.models import GpuReading, GpuSample, Holder
from gpumod_tui.core.vram.need import Need, UnknownNeed
from tests.unit._findings import UNIFIED, errors, facts_below, loaded, only

READING = GpuReading(0.0, "560.35.03", (GpuSample(0, free_bytes=1),))


@pytest.mark.parametrize(("module", "bad"), [("560.35.03", False), (None, False), ("560.28.03", True)])
def test_the_module_and_the_library_are_of_one_version(module: str | None, bad: bool) -> None:
    found = list(nvidia.check_driver(READING, module))
    assert bool(errors(found)) is bad
    assert bool(only(found, Severity.OK)) is not bad


@pytest.mark.parametrize(
    "gpus", [(), (GpuSample(0, error="GPU is lost"),), (GpuSample(0),)], ids=["none", "lost", "no free memory"]
)
def test_a_gpu_that_nothing_can_be_admitted_to_is_an_error(gpus: tuple[GpuSample, ...]) -> None:
    assert len(errors(nvidia.check_driver(replace(READING, gpus=gpus), None))) == 1


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03  Fri Aug 16 21:39:15 UTC 2024\n", "560.35.03"),
        (
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release\nGCC version:  12.3.0 (x)\n",
            "570.86.15",
        ),
        ("NVRM version: something else\n", None),
    ],
)
def test_the_version_of_the_running_module(text: str, version: str | None, tmp_path: Path) -> None:
    facts = facts_below(tmp_path)
    assert facts.nvidia_module_version() is None
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(text)
    assert facts.nvidia_module_version() == version


@pytest.mark.parametrize("value", ["1", "0", ""])
def test_unified_memory_is_an_error_whatever_its_value(value: str) -> None:
    def check(
        manager: Mapping[str, str], unit: Mapping[str, str], running: Callable[[int, str], str | None]
    ) -> list[Finding]:
        one = loaded("a.service", environment=unit)
        return list(nvidia.check_unified_memory(manager, [one], {"a.service": (4, 5)}, running))

    def unset(_pid: int, _name: str) -> None:
        return None

    assert len(errors(check({UNIFIED: value}, {}, unset))) == 1
    assert len(errors(check({}, {UNIFIED: value}, unset))) == 1
    assert len(errors(check({}, {}, lambda pid, _: value if pid == 5 else None))) == 1
    assert not errors(check({}, {"OTHER": value}, unset))


def test_a_variable_of_a_process_is_read_by_its_whole_name() -> None:
    environment = {"A_B": "1", "B": "", "C": "x=y"}
    script = "print(flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdout.readline()
        found = {name: ProcFs().variable(process.pid, name) for name in ("A", "A_B", "B", "C")}
        assert found == {"A": None, "A_B": "1", "B": "", "C": "x=y"}
    finally:
        process.kill()
        process.communicate()


def test_strangers_on_the_gpu_are_warnings_and_the_dead_are_none() -> None:
    holders = [
        Holder(1, 0, 5, "llama-server", "S", "a.service"),
        Holder(2, 0, 5, "python", "R", "session-1.scope"),
        Holder(3, 0, 5),
    ]
    (found,) = nvidia.check_holders(holders, {"a.service"})
    assert (found.severity, found.todo) == (Severity.WARNING, "end it if it is not meant: ps -fp 2")


def test_a_declaration_below_the_measured_is_a_warning_with_the_figure_to_set() -> None:
    said = "/p/a: b.yaml declares 5 MiB, and 9 MiB were measured: set vram_mb to 9 or more"
    found = list(
        nvidia.check_needs([("a", Need({0: 9}, "x", warning=said)), ("b", UnknownNeed("b: unknown", "declare it"))])
    )
    assert [(one.severity, one.todo) for one in found] == [
        (Severity.WARNING, "set vram_mb to 9 or more"),
        (Severity.WARNING, "declare it"),
    ]
    assert found[0].what == "/p/a: b.yaml declares 5 MiB, and 9 MiB were measured"
    assert not list(nvidia.check_needs([("a", Need({0: 9}, "declared"))]))


# -- session
