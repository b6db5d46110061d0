"""The catalog: validated services and modes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gpumod_tui.core.errors import PresetInvalid, UnknownName
from gpumod_tui.core.models import BLANK, Mode, Service

BLANK_MODE = Mode(id=BLANK, name="Blank", services=(), description="Nothing runs; all VRAM is free.")


@dataclass(frozen=True, slots=True)
class ServiceRegistry:
    """Services and modes by id. `blank` is always there. What was broken is in `problems`, and not in the rest."""

    services: Mapping[str, Service] = field(default_factory=lambda: MappingProxyType({}))
    modes: Mapping[str, Mode] = field(default_factory=lambda: MappingProxyType({BLANK: BLANK_MODE}))
    problems: tuple[PresetInvalid, ...] = ()
    warnings: tuple[str, ...] = ()

    def service(self, service_id: str) -> Service:
        """Raises: UnknownName, with the nearest names."""
        try:
            return self.services[service_id]
        except KeyError:
            raise self._unknown("service", service_id, self.services) from None

    def mode(self, mode_id: str) -> Mode:
        """Raises: UnknownName, with the nearest names."""
        try:
            return self.modes[mode_id]
        except KeyError:
            raise self._unknown("mode", mode_id, self.modes) from None

    def with_dependencies(self, service_ids: Iterable[str]) -> tuple[str, ...]:
        """The services and all they depend on, dependencies first, each once. Raises: UnknownName.

        A preset's cycle is refused when it is loaded, so that this ends.
        """
        ordered: dict[str, None] = {}
        pending: set[str] = set()

        def visit(service_id: str) -> None:
            if service_id in ordered or service_id in pending:
                return
            pending.add(service_id)
            for dependency in self.service(service_id).depends_on:
                visit(dependency)
            ordered[service_id] = None

        for service_id in service_ids:
            visit(service_id)
        return tuple(ordered)

    def _unknown(self, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        import difflib

        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3)
        hint = (
            f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names) or 'none'} (gpumod {kind} list)"
        )
        if self.problems:
            count = len({problem.source for problem in self.problems})
            hint += f"; presets with faults: {count}, see gpumod preset check"
        return UnknownName(f"no {kind} {name!r}", hint=hint)
