"""The one place where real adapters, or the demo host, are built and handed to core."""

from __future__ import annotations

import os
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from gpumod_tui.core.errors import ConfigInvalid
from gpumod_tui.core.host import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpumod_tui.adapters.files.paths import Places
    from gpumod_tui.adapters.files.presets import ModeFolder
    from gpumod_tui.adapters.files.view import ViewFile
    from gpumod_tui.adapters.systemd.manager import EitherWay
    from gpumod_tui.adapters.systemd.unit_files import InstalledUnits
    from gpumod_tui.core.admission.controller import AdmissionController
    from gpumod_tui.core.catalog.config import Config
    from gpumod_tui.core.catalog.registry import ServiceRegistry
    from gpumod_tui.core.doctor.facts import Facts
    from gpumod_tui.core.engine import Engine
    from gpumod_tui.core.ports import Drivers, Gpus, Journal, LoginModes, Processes, RenderUnit, Units
    from gpumod_tui.core.status.history import History
    from gpumod_tui.core.switch.records import SwitchStore
    from gpumod_tui.core.vram.requirements import VramRequirements
    from gpumod_tui.demo.host import DemoHost

ELSEWHERE_S = 120.0
"""Of the demo: until somebody restarts a service at another terminal."""


T = TypeVar("T")


class built_once(cached_property[T]):  # noqa: N801 - used like the one that it is made of
    """A cached property that several threads may ask for at once: Python's own is built by each of them since 3.12, and
    a second connection to the bus would never be closed."""

    def __init__(self, build: Callable[[Any], T]) -> None:
        super().__init__(build)
        self._building = threading.RLock()

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: object, owner: type[Any] | None = None) -> Any:
        with self._building:
            return super().__get__(instance, owner)


class SystemClock:
    """The machine's own time."""

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def time(self) -> float:
        """Unix time, seconds."""
        return time.time()

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Sleep until the event is set (True) or the time is up (False)."""
        return event.wait(timeout_s)


class RealHost:
    """This machine; each adapter is imported and built when it is first asked for."""

    def __init__(self, *, lenient: bool = False) -> None:
        """`lenient`: a configuration that cannot be used counts as none, and `faults` says so."""
        self.clock = SystemClock()
        self._lenient = lenient
        self._faults: list[str] = []

    def faults(self) -> tuple[str, ...]:
        """What a lenient host passed over. Raises: StateUnavailable."""
        _ = self.config, self.registry
        return tuple(self._faults)

    def _pass_over(self, error: Exception) -> None:
        if not self._lenient:
            raise error
        self._faults.append(f"{error}; going on without it")

    @built_once
    def places(self) -> Places:
        """Raises: StateUnavailable."""
        from gpumod_tui.adapters.files.paths import find_places

        return find_places()

    @built_once
    def config(self) -> Config:
        """Raises: ConfigInvalid."""
        from gpumod_tui.adapters.files.config import default_config, load_config

        try:
            return load_config(self.places)
        except (ConfigInvalid, OSError) as error:
            self._pass_over(error)
        return default_config()

    @built_once
    def settings(self) -> Settings:
        """The part of the configuration that switches need. Raises: ConfigInvalid."""
        return _settings(self.config)

    @built_once
    def registry(self) -> ServiceRegistry:
        """Raises: ConfigInvalid."""
        from gpumod_tui.adapters.files.presets import load_registry

        config = self.config
        try:
            return load_registry(self.places, config=config)
        except ConfigInvalid as error:
            self._pass_over(error)
        environ = {name: value for name, value in os.environ.items() if name != "GPUMOD_PRESETS"}
        return load_registry(self.places, environ, config)

    def reload(self) -> ServiceRegistry:
        """The settings, too; well under a millisecond where no file has changed. Raises: ConfigInvalid."""
        from gpumod_tui.adapters.files.config import load_config
        from gpumod_tui.adapters.files.presets import load_registry

        config = load_config(self.places)
        registry = load_registry(self.places, config=config)
        self.config, self.settings, self.registry = config, _settings(config), registry
        return registry

    @built_once
    def mode_files(self) -> ModeFolder:
        """The user's own modes."""
        from gpumod_tui.adapters.files.presets import ModeFolder

        return ModeFolder(self.places.config / "presets")

    @built_once
    def gpus(self) -> Gpus:
        """NVML."""
        from gpumod_tui.adapters.nvml.gpus import VRAMTracker

        return VRAMTracker()

    @built_once
    def _systemd(self) -> EitherWay:
        """Raises: SystemdUnavailable."""
        from gpumod_tui.adapters.systemd.manager import connect_units

        return connect_units()

    @built_once
    def units(self) -> Units:
        """Raises: SystemdUnavailable."""
        return self._systemd

    @built_once
    def processes(self) -> Processes:
        """/proc."""
        from gpumod_tui.adapters.proc.processes import ProcFs

        return ProcFs(manager=lambda: self._systemd.control_group())

    @built_once
    def journal(self) -> Journal:
        """journald."""
        from gpumod_tui.adapters.journal.follow import JournalctlJournal

        return JournalctlJournal()

    @built_once
    def drivers(self) -> Drivers:
        """Servers."""
        from gpumod_tui.adapters.servers import drivers_over

        return drivers_over(lambda service_id: self.places.socket(service_id))

    @built_once
    def unit_files(self) -> InstalledUnits:
        """Installed units."""
        from gpumod_tui.adapters.systemd.unit_files import InstalledUnits

        return InstalledUnits(self.places.units)

    @built_once
    def render_unit(self) -> RenderUnit:
        """Templates."""
        from gpumod_tui.adapters.systemd.render import render_unit

        return render_unit

    @built_once
    def facts(self) -> Facts:
        """What only the doctor asks."""
        from gpumod_tui.adapters.facts import BoxFacts

        return BoxFacts(lambda: self.places)

    @built_once
    def needs(self) -> VramRequirements:
        """How much VRAM things take."""
        from gpumod_tui.adapters.files.peaks import PeaksFile
        from gpumod_tui.adapters.models.files import ModelFolder
        from gpumod_tui.core.vram.requirements import VramRequirements

        return VramRequirements(ModelFolder(), PeaksFile(self.places.state, self.places.runtime), self.unit_files)

    @built_once
    def admission(self) -> AdmissionController:
        """Admission, shared with all processes of the user. Raises: StateUnavailable."""
        from gpumod_tui.adapters.files.ledger import FileLedger
        from gpumod_tui.core.admission.commitments import Asker
        from gpumod_tui.core.admission.controller import AdmissionController

        pid = os.getpid()
        return AdmissionController(
            self, self.needs, FileLedger(self.places.runtime), Asker(pid, self.processes.start_time(pid) or 0)
        )

    @built_once
    def views(self) -> ViewFile:
        """How the dashboard was left."""
        from gpumod_tui.adapters.files.view import ViewFile

        return ViewFile(self.places.state)

    @built_once
    def login_mode(self) -> LoginModes:
        """The unit that switches to a mode at login."""
        from gpumod_tui.adapters.files.config import record_folders
        from gpumod_tui.adapters.systemd.login import LoginModeUnit

        return LoginModeUnit(
            self.units,
            self.unit_files,
            record=lambda: record_folders(self.places, os.environ),
            lingers=lambda: self.facts.lingers(),
            user=lambda: self.facts.user(),
        )

    @built_once
    def store(self) -> SwitchStore:
        """State on disk."""
        from gpumod_tui.adapters.files.state import StateDir

        return StateDir(self.places.state, self.places.runtime)


def _settings(config: Config) -> Settings:
    return Settings(
        vram_margin_bytes=config.vram_margin_bytes,
        release_timeout_s=config.release_timeout_s,
        guard_allow=config.guard_allow,
    )


def real_host(*, lenient: bool = False) -> RealHost:
    """This machine. mypy proves here that the adapters fit the ports."""
    host = RealHost(lenient=lenient)
    _fits(host)
    return host


def demo_host(speed: float = 1.0) -> tuple[DemoHost, History]:
    """A played machine that runs in real time, and what was seen of its last minutes."""
    from gpumod_tui.demo.catalog import demo_registry
    from gpumod_tui.demo.clock import RunningClock
    from gpumod_tui.demo.host import DemoHost
    from gpumod_tui.demo.lived import LIVED_S, live
    from gpumod_tui.demo.others import begin_elsewhere

    registry = demo_registry(sleeps="vllm-embedding")
    clock = RunningClock(speed, ago_s=LIVED_S)
    host = DemoHost(clock, registry=registry, activity=True, running=("glm-code",))
    _fits(host)
    # The first start of this one fails, so that there is a failure to look at.
    host.script("devstral-small-2").start_fails = 1
    # Somebody's notebook, which a load of everything just fits beside.
    host.foreign(380, command="python3 -m ipykernel_launcher", user="op", ignores_term=True)
    history = live(host, clock)
    begin_elsewhere(host, "vllm-embedding", ELSEWHERE_S)
    host.start()
    return host, history


def _fits(host: Engine) -> None:
    del host
