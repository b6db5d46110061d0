"""Preset documents of all folders become one ServiceRegistry."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from gpumod_tui.core.catalog.parse import parse_preset
from gpumod_tui.core.catalog.registry import BLANK_MODE, ServiceRegistry
from gpumod_tui.core.catalog.validation import Fault, nearest
from gpumod_tui.core.errors import PresetInvalid
from gpumod_tui.core.models import BLANK, Mode, Service
from gpumod_tui.core.units.guard import may_share_port

_Item = TypeVar("_Item", Service, Mode)


@dataclass(frozen=True, slots=True)
class Document:
    """One file, read. `fault` says why there is no content."""

    source: Path
    folder: int
    """Place of its folder among all: a higher one wins."""
    content: object = None
    fault: Fault | None = None
    text: str = ""
    """What could be read of a file that is no YAML: it may still tell whose definition it was to be."""


class _Collector:
    """Definitions by id, the later over the earlier."""

    def __init__(self) -> None:
        self.services: dict[str, Service] = {}
        self.modes: dict[str, Mode] = {}
        self.folders: dict[tuple[str, str], int] = {}
        self.problems: list[PresetInvalid] = []
        self.warnings: list[str] = []

    def add(self, document: Document, home: Path) -> None:
        """Take one document. A broken one also takes away what it was to replace."""
        if document.fault is not None:
            self._break(document, (document.fault,), _guessed_id(document), ("service", "mode"))
            return
        parsed = parse_preset(document.content, document.source, home)
        self.warnings += parsed.warnings
        if parsed.service is not None:
            self._define("service", parsed.service, self.services, document)
        elif parsed.mode is not None:
            mode = parsed.mode
            if mode.id == BLANK:
                mode = replace(mode, id=f"{BLANK}@{document.source.name}")
                self.warnings.append(f"{document.source}: id: {BLANK} is built in; this mode is loaded as {mode.id}")
            self._define("mode", mode, self.modes, document)
        else:
            content = document.content if isinstance(document.content, Mapping) else {}
            kinds = tuple(kind for kind, key in (("service", "driver"), ("mode", "services")) if key in content)
            given = content.get("id")
            self._break(
                document, parsed.faults, given if isinstance(given, str) else None, kinds or ("service", "mode")
            )

    def _define(self, kind: str, item: _Item, into: dict[str, _Item], document: Document) -> None:
        before = into.get(item.id)
        if before is not None and self.folders.get((kind, item.id)) == document.folder:
            self.warnings.append(f"{document.source}: id: {kind} {item.id} replaces {before.source} of the same folder")
        into[item.id] = item
        self.folders[kind, item.id] = document.folder

    def _break(self, document: Document, faults: Iterable[Fault], item_id: str | None, kinds: tuple[str, ...]) -> None:
        self.problems += [PresetInvalid(document.source, fault.key, fault.found, fault.expected) for fault in faults]
        known: Mapping[str, Mapping[str, Service | Mode]] = {"service": self.services, "mode": self.modes}
        for kind in kinds:
            before = known[kind].get(item_id or "")
            if before is not None:
                self.warnings.append(
                    f"{kind} {before.id} is not there: {document.source} is broken, and what it replaces"
                    f" ({before.source}) is not used in its stead"
                )
        self.services = {key: value for key, value in self.services.items() if key != item_id or "service" not in kinds}
        self.modes = {key: value for key, value in self.modes.items() if key != item_id or "mode" not in kinds}


def _guessed_id(document: Document) -> str:
    """The id of a file that is no YAML: its `id:` line, else its name."""
    for line in document.text.splitlines():
        if line.startswith("id:"):
            return line.removeprefix("id:").split("#")[0].strip().strip("'\"")
    return document.source.stem


def build_registry(documents: Iterable[Document], home: Path, warnings: Iterable[str] = ()) -> ServiceRegistry:
    """The catalog of the documents, in their order. Broken ones are in `problems`, with all that needs them."""
    collector = _Collector()
    collector.warnings += warnings
    for document in documents:
        collector.add(document, home)
    services, problems = _with_sound_dependencies(collector.services)
    collector.problems += problems
    modes = {BLANK: BLANK_MODE}
    for mode in collector.modes.values():
        fault = mode_fault(mode, services, collector.services)
        if fault is None:
            modes[mode.id] = mode
        else:
            collector.problems.append(PresetInvalid(mode.source or Path(mode.id), *fault))
    return ServiceRegistry(
        services=MappingProxyType(dict(sorted(services.items()))),
        modes=MappingProxyType({BLANK: BLANK_MODE, **dict(sorted(modes.items()))}),
        problems=tuple(collector.problems),
        warnings=tuple(collector.warnings),
    )


def _with_sound_dependencies(services: Mapping[str, Service]) -> tuple[dict[str, Service], list[PresetInvalid]]:
    """The services whose dependencies are all there and end somewhere, and a problem for each other one."""
    sound: dict[str, Service] = {}
    left = dict(services)
    while ready := [name for name, item in left.items() if all(other in sound for other in item.depends_on)]:
        sound.update({name: left.pop(name) for name in ready})
    problems = []
    for item in left.values():
        lacking = next(other for other in item.depends_on if other not in sound)
        if lacking not in services:
            found, expected = f"{lacking!r}, which is not there", nearest(lacking, sound)
        else:
            found, expected = " → ".join(_chain(item.id, left, sound)), "services that are sound and need no circle"
        problems.append(PresetInvalid(item.source or Path(item.id), "depends_on", found, expected))
    return sound, problems


def _chain(start: str, left: Mapping[str, Service], sound: Mapping[str, Service]) -> list[str]:
    """The way from a service along dependencies that are not sound, to where it meets itself or ends."""
    chain = [start]
    while chain[-1] in left and chain[-1] not in chain[:-1]:
        chain.append(next(other for other in left[chain[-1]].depends_on if other not in sound))
    return chain


def mode_fault(mode: Mode, sound: Mapping[str, Service], defined: Mapping[str, Service]) -> tuple[str, str, str] | None:
    """Key, found and expected of what is wrong with the mode's services; None: nothing."""
    for name in mode.services:
        if name not in sound:
            state = "which is broken" if name in defined else "which is not there"
            return "services", f"{name!r}, {state}", nearest(name, sound)
    owners: dict[int, Service] = {}
    for name in ServiceRegistry(services=sound).with_dependencies(mode.services):
        service = sound[name]
        if service.port is None:
            continue
        owner = owners.setdefault(service.port, service)
        if owner is not service and not may_share_port(owner, service):
            return "services", f"{owner.id} and {name} both on port {service.port}", "services with ports of their own"
    return None
