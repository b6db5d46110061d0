"""The doctor: every check is made, also when another one breaks, and what breaks is itself a finding."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, Generic, TypeVar

from gpumod_tui.core.doctor.checks import network, nvidia, session, units
from gpumod_tui.core.doctor.facts import Facts, Finding, InstalledUnit, Severity, error, fine, warning
from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import GpumodError, GpuUnavailable
from gpumod_tui.core.models import ActiveState, GpuReading, Service
from gpumod_tui.core.status.attribution import find_holders
from gpumod_tui.core.units.guard import GUARD_SERVICE, GUARD_SOCKET
from gpumod_tui.core.units.managed import managed_units
from gpumod_tui.core.vram.need import Need, UnknownNeed

_ORDER: Final = tuple(Severity)


T = TypeVar("T")


class _Once(Generic[T]):
    """Looks when it is first called, and gives the same answer, or fault, ever after: a manager that hangs is waited
    for once and not by every check."""

    def __init__(self, look: Callable[[], T]) -> None:
        self._look = look
        self._value: list[T] = []
        self._fault: Exception | None = None

    def __call__(self) -> T:
        if self._fault is not None:
            raise self._fault
        if not self._value:
            try:
                self._value.append(self._look())
            except Exception as fault:
                self._fault = fault
                raise
        return self._value[0]


class Doctor:
    """Looks at the box and changes nothing."""

    def __init__(
        self,
        host: Engine,
        facts: Facts,
        installed: Callable[[Sequence[Service]], Sequence[InstalledUnit]],
    ) -> None:
        """`installed`: how each service's unit file stands to its preset."""
        self._host = host
        self._facts = facts
        self._services = _Once(lambda: tuple(host.registry.services.values()))
        self._installed = _Once(lambda: installed(self._services()))
        # The guard carries our stamp too, and is neither a service nor behind itself.
        self._managed = _Once(lambda: tuple(unit for unit in managed_units(host) if unit != GUARD_SERVICE))
        self._loaded = _Once(lambda: facts.loaded_units(self._managed()))
        self._guard = _Once(lambda: facts.loaded_units([GUARD_SOCKET])[GUARD_SOCKET])
        self._pids = _Once(self._find_pids)
        self._reading = _Once(lambda: host.gpus.read(processes=True))

    def examine(self) -> tuple[Finding, ...]:
        """All findings, the worst first, each kind in the order of the checks."""
        checks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
            ("sockets", self._sockets),
            ("door", self._door),
            ("units", self._unit_files),
            ("presets", self._presets),
            ("ports", self._ports),
            ("nvidia", self._nvidia),
            ("memory", self._unified_memory),
            ("memory", self._holders),
            ("memory", self._needs),
            ("session", self._journal),
            ("session", self._linger),
            ("session", self._login_mode),
            ("state", self._folders),
            ("state", self._ledger),
            ("state", self._switch),
        )
        found: list[Finding] = []
        broken: dict[str, tuple[str, str, list[str]]] = {}
        for name, check in checks:
            try:
                found += check()
            except GpumodError as fault:
                broken.setdefault(str(fault), (name, fault.hint, []))[2].append(name)
            except Exception as fault:  # noqa: BLE001 a check that breaks must not hide what the others find
                text = f"a check broke: {type(fault).__name__}: {fault}"
                broken.setdefault(text, (name, "gpumod --version, and report it", []))[2].append(name)
        # One cause may keep many checks from being made: it is one finding.
        for text, (name, hint, names) in broken.items():
            lost = ", ".join(dict.fromkeys(names))
            found.append(error(name, text, f"could not be checked: {lost}", hint or "gpumod status"))
        return tuple(sorted(found, key=lambda one: _ORDER.index(one.severity)))

    def _find_pids(self) -> Mapping[str, tuple[int, ...]]:
        """Of the managed units and the guard."""
        states = self._host.units.states((*self._managed(), GUARD_SERVICE))
        return {unit: self._host.processes.in_cgroup(state.control_group) for unit, state in states.items()}

    # -- the checks ----------------------------------------------------------------------------------------------

    def _sockets(self) -> Iterator[Finding]:
        yield from network.check_sockets(self._pids(), self._facts.open_sockets, self._facts.command_of)
        guard = self._host.units.states([GUARD_SOCKET])[GUARD_SOCKET]
        yield from network.check_guard(self._guard(), is_up=guard.active_state is ActiveState.ACTIVE)

    def _door(self) -> Iterator[Finding]:
        yield from units.check_door(self._installed(), self._loaded())
        yield from units.check_condition_programs(self._loaded().values(), self._facts)

    def _unit_files(self) -> Iterator[Finding]:
        known = {GUARD_SERVICE, *(service.unit for service in self._services())}
        orphans = [unit for unit in self._host.unit_files.stamped() if unit not in known]
        return units.check_unit_files(self._installed(), orphans)

    def _presets(self) -> Iterator[Finding]:
        registry = self._host.registry
        for problem in registry.problems:
            yield error("presets", str(problem), "what it defines cannot be used", f"correct {problem.source}")
        for text in registry.warnings:
            yield warning("presets", text, "", "gpumod preset list")
        if not registry.problems:
            yield fine("presets", f"{len(registry.services)} services and {len(registry.modes)} modes are defined")

    def _ports(self) -> Iterator[Finding]:
        installed = {one.service_id for one in self._installed() if one.is_there}
        guarded = network.ports_of(self._guard())
        return network.check_ports(self._services(), installed, guarded, self._host.processes.listeners)

    def _nvidia(self) -> Iterator[Finding]:
        return nvidia.check_driver(self._reading(), self._facts.nvidia_module_version())

    def _unified_memory(self) -> Iterator[Finding]:
        environment = self._facts.manager_environment()
        variable = self._host.processes.variable
        return nvidia.check_unified_memory(environment, self._loaded().values(), self._pids(), variable)

    def _holders(self) -> Iterator[Finding]:
        holders = find_holders(self._host.processes, self._reading())
        return nvidia.check_holders(holders, frozenset((*self._managed(), GUARD_SERVICE)))

    def _needs(self) -> Iterator[Finding]:
        installed = {one.service_id for one in self._installed() if one.is_there}
        return nvidia.check_needs(self._each_need(installed))

    def _each_need(self, installed: set[str]) -> Iterator[tuple[str, Need | UnknownNeed]]:
        try:
            reading: GpuReading | None = self._reading()
        except GpuUnavailable:
            # Told by the check of the driver; a need that is unknown for that reason says nothing new.
            return
        for service in self._services():
            if service.id not in installed:
                continue
            yield service.id, self._host.needs.unit_need(service, reading)
            if service.is_router and service.default_model is not None:
                yield service.id, self._host.needs.model_need(service, service.default_model, reading)

    def _journal(self) -> Iterator[Finding]:
        lines = len(self._host.journal.tail(session.MANAGERS_UNIT, 1))
        return session.check_journal(lines, is_persistent=self._facts.has_persistent_journal())

    def _linger(self) -> Iterator[Finding]:
        yield session.check_linger(self._facts.lingers(), self._facts.user())

    def _login_mode(self) -> Iterator[Finding]:
        yield session.check_login_mode(self._host.login_mode.read(), self._host.registry.modes)

    def _folders(self) -> Iterator[Finding]:
        return session.check_folders(self._facts.runtime_folder(), self._facts.state_folder())

    def _ledger(self) -> Iterator[Finding]:
        look = self._facts.ledger()
        holder = "" if look.held_by is None else f"{self._facts.command_of(look.held_by)} pid {look.held_by}"
        yield session.check_ledger(look, holder)
        yield from session.check_set_aside(look)

    def _switch(self) -> Iterator[Finding]:
        yield session.check_switch(self._host.store.read())
