"""What import-linter cannot see: it counts imports inside functions as if they had happened."""

import json
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

TERMINAL = {"textual", "rich"}
FOR_OTHERS = {"httpx", "aiohttp", "asyncio"}
RENDERING = {"jinja2"}
YAML = {"yaml"}
PLANNING = {
    f"gpumod_tui.core.{name}"
    for name in ("observation", "ports", "status.poller", "switch.manager", "switch.plan", "switch.results")
}

COMMAND = """
import os, sys
os._exit = sys.exit
sys.argv = ["gpumod", *sys.argv[1:]]
from gpumod_tui.cli import main
try:
    main()
except SystemExit:
    pass
"""
EVERY_CORE_MODULE = """
import importlib, pkgutil
import gpumod_tui.core
for module in pkgutil.walk_packages(gpumod_tui.core.__path__, "gpumod_tui.core."):
    importlib.import_module(module.name)
"""
TELL = """
import json, os, sys
with open(os.environ["TOLD"], "w") as told:
    json.dump(sorted(sys.modules), told)
"""


def modules_after(script: str, *arguments: str, folder: Path) -> set[str]:
    """All modules that a fresh interpreter holds after the script, for a user without settings or a session."""
    runtime, told = folder / "runtime", folder / "modules.json"
    runtime.mkdir(mode=0o700, exist_ok=True)
    told.unlink(missing_ok=True)
    environment = {"HOME": str(folder), "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin", "TOLD": str(told)}
    done = subprocess.run(
        [sys.executable, "-c", f"{script}\n{TELL}", *arguments], env=environment, capture_output=True, text=True
    )
    assert told.exists(), done.stderr
    return set(json.loads(told.read_text()))


@pytest.mark.parametrize(
    ("command", "late"),
    [
        ("--help", TERMINAL | FOR_OTHERS | RENDERING | YAML | {"pynvml", "jeepney"}),
        ("--version", TERMINAL | FOR_OTHERS | RENDERING | YAML | {"pynvml", "jeepney"}),
        ("status --json", TERMINAL | FOR_OTHERS | RENDERING | YAML | PLANNING),
        ("mode list", TERMINAL | FOR_OTHERS | RENDERING | YAML | {"pynvml", "jeepney"}),
        ("mode switch code --dry-run", TERMINAL | FOR_OTHERS | RENDERING | YAML),
        ("service list", TERMINAL | FOR_OTHERS | RENDERING | YAML),
        ("preset list", TERMINAL | FOR_OTHERS | RENDERING | YAML | {"pynvml", "jeepney"}),
        ("template list", TERMINAL | FOR_OTHERS),
    ],
)
def test_a_command_imports_only_what_it_needs(command: str, late: set[str], tmp_path: Path) -> None:
    """The first run fills the cache of parsed presets, which spares the second one YAML."""
    modules_after(COMMAND, *command.split(), folder=tmp_path)
    assert not modules_after(COMMAND, *command.split(), folder=tmp_path) & late


def test_the_guard_keeps_nothing_of_the_command_line_in_memory(tmp_path: Path) -> None:
    loaded = modules_after("import gpumod_tui.guard_service, gpumod_tui.guard.server.serve", folder=tmp_path)
    assert not loaded & (TERMINAL | RENDERING | YAML | PLANNING | {"click", "gpumod_tui.cli", "httpx"})


def test_core_reaches_no_system(tmp_path: Path) -> None:
    forbidden = TERMINAL | FOR_OTHERS | RENDERING | YAML
    forbidden |= {"click", "fcntl", "http", "jeepney", "platformdirs", "pynvml", "select", "selectors", "socket"}
    forbidden |= {"ssl", "subprocess", "tempfile", "urllib.request"}
    assert not modules_after(EVERY_CORE_MODULE, folder=tmp_path) & forbidden


@pytest.mark.parametrize("folder", ["core", "cli", "adapters"])
def test_no_circle_of_imports(folder: str) -> None:
    """Imports inside functions and for types count, too. A circle is named by the error."""
    graph = grimp.build_graph("gpumod_tui")
    modules = {name for name in graph.modules if f"{name}.".startswith(f"gpumod_tui.{folder}.")}
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) & modules for name in modules}).prepare()


def test_importing_wiring_builds_and_imports_nothing_of_what_it_wires(tmp_path: Path) -> None:
    loaded = modules_after("import gpumod_tui.wiring", folder=tmp_path)
    houses = tuple(f"gpumod_tui.{house}" for house in ("adapters", "cli", "demo", "guard", "ui"))
    assert not {name for name in loaded if name.startswith(houses)}


def test_importing_the_dashboards_package_imports_no_textual(tmp_path: Path) -> None:
    assert not modules_after("import gpumod_tui.ui", folder=tmp_path) & TERMINAL


def test_the_demo_host_is_built_without_adapters(tmp_path: Path) -> None:
    script = "from gpumod_tui.wiring import demo_host\ndemo_host()[0].close()"
    loaded = modules_after(script, folder=tmp_path)
    assert not {name for name in loaded if name.startswith("gpumod_tui.adapters")}
    assert not loaded & TERMINAL
