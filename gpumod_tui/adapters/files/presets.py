"""Preset files: found, parsed, and kept parsed until one changes."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gpumod_tui.adapters.files.atomic import private_folder, write_whole
from gpumod_tui.adapters.files.config import home_folder, load_config, preset_folders
from gpumod_tui.adapters.files.parse_cache import fingerprint, keep, kept
from gpumod_tui.adapters.files.paths import Places
from gpumod_tui.core.catalog.config import Config
from gpumod_tui.core.catalog.modes import document
from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.errors import ModeRefused, PresetInvalid
from gpumod_tui.core.models import Mode, Service
from gpumod_tui.resources import packaged

if TYPE_CHECKING:
    from gpumod_tui.core.catalog.load import Document


_SUFFIXES: Final = (".yaml", ".yml")


class _Catalog(msgspec.Struct, array_like=True):
    services: list[Service]
    modes: list[Mode]
    problems: list[tuple[str, str, str, str]]
    warnings: list[str]


def load_registry(
    places: Places, environ: Mapping[str, str] | None = None, config: Config | None = None
) -> ServiceRegistry:
    """All services and modes; a router without a folder of its own gets the configured one. Raises: ConfigInvalid."""
    environ = os.environ if environ is None else environ
    config = config or load_config(places, environ)
    home = home_folder(environ)
    found, warnings = _found(places, environ, config)
    store = places.cache / "presets.msgpack"
    every = [file for _, files in found for file in files]
    key = fingerprint(every, (home, [str(folder) for folder, _ in found], warnings))
    catalog = kept(store, key, _Catalog, dec_hook=_decode)
    if catalog is None:
        catalog = _parse(found, home, warnings)
        keep(store, key, catalog, enc_hook=_encode)
    return ServiceRegistry(
        services=MappingProxyType({item.id: _with_models_dir(item, config) for item in catalog.services}),
        modes=MappingProxyType({item.id: item for item in catalog.modes}),
        problems=tuple(PresetInvalid(Path(source), *rest) for source, *rest in catalog.problems),
        warnings=tuple(catalog.warnings),
    )


def check_files(places: Places, paths: Iterable[Path], environ: Mapping[str, str] | None = None) -> ServiceRegistry:
    """The catalog as it would be with these files, or those below these folders, last; only their own problems."""
    from gpumod_tui.core.catalog.load import build_registry

    environ = os.environ if environ is None else environ
    found, _ = _found(places, environ, load_config(places, environ))
    given = [file for path in paths for file in (_files(path) if path.is_dir() else (path,))]
    same = {file.resolve() for file in given}
    others = [(folder, [file for file in files if file.resolve() not in same]) for folder, files in found]
    built = build_registry(read_documents([*others, (Path(), given)]), home_folder(environ))
    return replace(
        built,
        problems=tuple(problem for problem in built.problems if problem.source in given),
        warnings=tuple(text for text in built.warnings if any(str(file) in text for file in given)),
    )


def _found(
    places: Places, environ: Mapping[str, str], config: Config
) -> tuple[list[tuple[Path, list[Path]]], list[str]]:
    """The folders with their files, the weakest first, and a warning for each that is not there."""
    # In the order in which `template install` records them: units must not rank them otherwise than the shell does.
    named = dict.fromkeys((*config.presets, *preset_folders(environ)))
    folders = dict.fromkeys((packaged("presets"), places.config / "presets", *named))
    warnings = [f"no folder of presets {folder}" for folder in named if not folder.is_dir()]
    return [(folder, list(_files(folder))) for folder in folders], warnings


def read_documents(folders: Iterable[tuple[Path, Iterable[Path]]]) -> Iterator["Document"]:
    """The files of folders, in their order."""
    from gpumod_tui.adapters.files.yaml import read_yaml
    from gpumod_tui.core.catalog.load import Document

    for place, (_, files) in enumerate(folders):
        for file in files:
            content, text, fault = read_yaml(file)
            yield Document(file, place, content, fault, text)


def _parse(found: list[tuple[Path, list[Path]]], home: Path, warnings: list[str]) -> _Catalog:
    from gpumod_tui.core.catalog.load import build_registry

    built = build_registry(read_documents(found), home, warnings)
    return _Catalog(
        services=list(built.services.values()),
        modes=list(built.modes.values()),
        problems=[(str(item.source), item.key, item.found, item.expected) for item in built.problems],
        warnings=list(built.warnings),
    )


def _files(folder: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """Its .yaml and .yml files in the order of their names, folders below it in turn; a link in a circle ends.

    A folder that may not be read stands for its files: whoever reads them is told why.
    """
    try:
        real = folder.resolve()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError:
        yield folder
        return
    except (OSError, RuntimeError):
        return
    if real in seen:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), seen | {real})
        elif entry.name.endswith(_SUFFIXES):
            yield Path(entry.path)


def _with_models_dir(service: Service, config: Config) -> Service:
    return replace(service, models_dir=config.models_dir) if service.is_router and not service.models_dir else service


def _encode(value: Any) -> Any:
    return dict(value) if isinstance(value, MappingProxyType) else str(value)


def _decode(kind: type, value: Any) -> Any:
    return Path(value) if kind is Path else value


class ModeFolder:
    """Satisfies the ModeFiles port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def is_own(self, mode: Mode) -> bool:
        """Whether its file lies in the folder or below it."""
        return mode.source is not None and mode.source.is_relative_to(self._folder)

    def write(self, mode: Mode) -> tuple[Path, Callable[[], None]]:
        """Other keys and comments of a file that is there already stay. Raises: ModeRefused."""
        from gpumod_tui.adapters.files.yaml import with_keys

        file = mode.source if mode.source is not None and self.is_own(mode) else self._folder / f"{mode.id}.yaml"
        try:
            if mode.source is None and os.path.lexists(file):
                raise ModeRefused(f"{file} is there already, and is no mode {mode.id}", hint="move it, or choose an id")
            private_folder(file.parent)
            # Where it is a link into somebody's dotfiles, the link stays.
            real = file.resolve()
            if not real.exists():
                write_whole(real, with_keys("", document(mode)))
                return file, lambda: real.unlink(missing_ok=True)
            old, rights = real.read_bytes(), stat.S_IMODE(real.stat().st_mode)
            write_whole(real, with_keys(old.decode(), document(mode)), mode=rights)
        except (OSError, ValueError) as error:
            raise ModeRefused(f"{file} cannot be written: {_why(error)}", hint="nothing was changed") from error
        return file, lambda: write_whole(real, old, mode=rights)

    def remove(self, mode: Mode) -> Path:
        """Raises: ModeRefused."""
        assert mode.source is not None
        try:
            mode.source.unlink()
        except OSError as error:
            raise ModeRefused(f"{mode.source} cannot be deleted: {_why(error)}", hint="nothing was changed") from error
        return mode.source


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
