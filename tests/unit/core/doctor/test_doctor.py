"""What the doctor says, in which order, and that nothing keeps it from saying it."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.doctor.checks import units
from gpumod_tui.core.doctor.facts import (
    Condition,
    Facts,
    Finding,
    Folder,
    LedgerLook,
    LoadedUnit,
    OpenSockets,
    Severity,
)
from gpumod_tui.core.doctor.run import Doctor
from gpumod_tui.core.errors import ConfigInvalid, PresetInvalid, SystemdUnavailable
from gpumod_tui.core.units.guard import GUARD_SERVICE, GUARD_SOCKET
from gpumod_tui.demo.host import DemoHost
from tests.unit._findings import errors, installed, loaded, only


class PlayedFacts:
    """A clean box; `broken` raises from every method named."""

    def __init__(self) -> None:
        self.broken: dict[str, Exception] = {}
        self.program = True
        self.version: str | None = "1.0"
        self.asked: list[Sequence[str]] = []

    def _maybe(self, name: str) -> None:
        if name in self.broken:
            raise self.broken[name]

    def open_sockets(self, pids: Iterable[int]) -> OpenSockets:
        self._maybe("open_sockets")
        return OpenSockets()

    def loaded_units(self, units: Sequence[str]) -> dict[str, LoadedUnit]:
        self._maybe("loaded_units")
        socket = LoadedUnit(GUARD_SOCKET, "loaded", listens=("127.0.0.1:7070",))
        return {unit: loaded(unit) if unit.endswith(".service") else socket for unit in units}

    def manager_environment(self) -> Mapping[str, str]:
        self._maybe("manager_environment")
        return {}

    def nvidia_module_version(self) -> str | None:
        self._maybe("nvidia_module_version")
        return None

    def lingers(self) -> bool | None:
        self._maybe("lingers")
        return True

    def user(self) -> str:
        return "sam"

    def has_persistent_journal(self) -> bool:
        self._maybe("has_persistent_journal")
        return True

    def runtime_folder(self) -> Folder:
        self._maybe("runtime_folder")
        return Folder(Path("/run/x"), exists=True)

    def state_folder(self) -> Folder:
        return Folder(Path("/state"))

    def ledger(self) -> LedgerLook:
        self._maybe("ledger")
        return LedgerLook()

    def command_of(self, pid: int) -> str:
        return "x"

    def is_program(self, path: str) -> bool:
        return self.program

    def own_version(self) -> str | None:
        return "1.0"

    def version_told_by(self, command: Sequence[str]) -> str | None:
        self.asked.append(command)
        return self.version


@pytest.fixture
def host() -> Iterator[DemoHost]:
    played = DemoHost()
    yield played
    played.close()


def examine(host: DemoHost, facts: Facts) -> tuple[Finding, ...]:
    return Doctor(host, facts, lambda services: [installed(service.id) for service in services]).examine()


def test_a_clean_box_has_no_errors(host: DemoHost) -> None:
    found = examine(host, PlayedFacts())
    assert errors(found) == []
    assert {one.check for one in found} >= {"sockets", "door", "presets", "ports", "nvidia", "memory", "state"}


def test_the_guard_is_no_service_without_a_preset(host: DemoHost) -> None:
    class Files:
        def stamped(self) -> tuple[str, ...]:
            return (GUARD_SERVICE,)

    class Facts(PlayedFacts):
        def loaded_units(self, units: Sequence[str]) -> dict[str, LoadedUnit]:
            found = super().loaded_units(units)
            return {unit: replace(one, conditions=()) if unit == GUARD_SERVICE else one for unit, one in found.items()}

    host.unit_files = Files()  # type: ignore[assignment]
    found = examine(host, Facts())
    assert not [one for one in found if one.check in ("units", "door") and one.severity is not Severity.OK]
    assert not errors(found)


METHODS = (
    "open_sockets",
    "loaded_units",
    "manager_environment",
    "nvidia_module_version",
    "lingers",
    "has_persistent_journal",
    "runtime_folder",
    "ledger",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", [ZeroDivisionError("by zero"), SystemdUnavailable("no bus", hint="log in")])
def test_a_check_that_breaks_is_a_finding_and_the_others_are_made(
    host: DemoHost, method: str, fault: Exception
) -> None:
    facts = PlayedFacts()
    facts.broken[method] = fault
    found = examine(host, facts)
    bad = [one for one in errors(found) if str(fault) in one.what]
    assert len(bad) == 1
    assert bad[0].todo
    assert "could not be checked" in bad[0].why
    assert len(only(found, Severity.OK)) >= 4


def test_one_cause_is_one_finding_that_names_what_was_not_checked() -> None:
    class Broken(DemoHost):
        @property
        def registry(self) -> ServiceRegistry:
            raise ConfigInvalid("config.yaml: nonsense", hint="correct it")

        @registry.setter
        def registry(self, value: ServiceRegistry) -> None:
            """Asked for only once it is built."""

    host = DemoHost()
    host.__class__ = Broken
    (bad,) = errors(examine(host, PlayedFacts()))
    assert (bad.what, bad.todo) == ("config.yaml: nonsense", "correct it")
    for name in ("units", "ports", "presets", "door", "sockets"):
        assert name in bad.why


def test_the_worst_comes_first(host: DemoHost) -> None:
    facts = PlayedFacts()
    facts.broken["lingers"] = ZeroDivisionError()
    host.registry = replace(
        host.registry, problems=(PresetInvalid(Path("/p.yaml"), "port", "x", "y"),), warnings=("odd",)
    )
    order = [one.severity for one in examine(host, facts)]
    assert order == sorted(order, key=list(Severity).index)
    assert order.count(Severity.ERROR) == 2


@pytest.mark.parametrize(
    ("program", "version", "severity"),
    [
        (False, "1.0", Severity.ERROR),
        (True, None, Severity.ERROR),
        (True, "0.9", Severity.WARNING),
        (True, "1.0", Severity.OK),
    ],
)
def test_the_gpumod_that_units_ask(program: bool, version: str | None, severity: Severity) -> None:
    facts = PlayedFacts()
    facts.program, facts.version = program, version
    path = "/v env/bin/python"
    command = Condition(path, f"{path} -E -m gpumod_tui preflight --unit a.service")
    (found,) = units.check_condition_programs([loaded("a.service", conditions=(command,))], facts)
    assert found.severity is severity
    assert facts.asked == ([(path, "-E", "-m", "gpumod_tui")] if program else [])


def test_importing_the_command_imports_nothing_heavy() -> None:
    script = "import sys, gpumod_tui.cli.doctor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"jinja2", "pynvml", "jeepney", "yaml", "textual", "rich", "asyncio", "gpumod_tui.core.doctor.run"}
    assert not set(done.stdout.split()) & heavy


def test_every_finding_but_a_fine_one_says_what_to_do() -> None:
    folder = Path(units.__file__).parent
    for file in folder.glob("*.py"):
        for call in re.findall(r"\b(?:error|warning)\((?:[^()]|\([^()]*\))*\)", file.read_text()):
            assert not call.rstrip(") \n,").endswith('""'), call
