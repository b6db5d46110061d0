"""config.yaml: read, and written where `template install` records folders."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpumod_tui.adapters.files.atomic import private_folder, write_whole
from gpumod_tui.adapters.files.parse_cache import fingerprint, keep, kept
from gpumod_tui.adapters.files.paths import Places
from gpumod_tui.core.catalog.config import Config, parse_config
from gpumod_tui.core.errors import ConfigInvalid

if TYPE_CHECKING:
    from gpumod_tui.core.catalog.validation import Fault

MODELS_DIR: Final = "GPUMOD_MODELS_DIR"
PRESETS: Final = "GPUMOD_PRESETS"


def home_folder(environ: Mapping[str, str]) -> Path:
    """The user's home."""
    return Path(environ.get("HOME") or Path.home())


def load_config(places: Places, environ: Mapping[str, str] | None = None) -> Config:
    """The settings; GPUMOD_MODELS_DIR goes before the file's models_dir. Raises: ConfigInvalid."""
    environ = os.environ if environ is None else environ
    home = home_folder(environ)
    config = _from_file(places, home)
    named = environ.get(MODELS_DIR)
    if named:
        config = replace(config, models_dir=_folder(MODELS_DIR, named, home))
    return config


def default_config(environ: Mapping[str, str] | None = None) -> Config:
    """The settings of somebody who has set nothing."""
    return Config(models_dir=home_folder(os.environ if environ is None else environ) / "models")


def preset_folders(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The folders of GPUMOD_PRESETS. Raises: ConfigInvalid."""
    home = home_folder(environ)
    return tuple(_folder(PRESETS, text, home) for text in environ.get(PRESETS, "").split(":") if text)


def _folder(variable: str, text: str, home: Path) -> Path:
    from gpumod_tui.core.catalog.parse import expand

    try:
        return expand(str(Path(text).absolute()) if text[0] not in "~$" else text, home)
    except ValueError as error:
        raise ConfigInvalid(f"{variable}: found {text!r}, expected {error}") from error


def _from_file(places: Places, home: Path) -> Config:
    file = places.config / "config.yaml"
    if not _is_there(file):
        return default_config({"HOME": str(home)})
    store = places.cache / "config.msgpack"
    key = fingerprint((file,), (home,))
    config = kept(store, key, Config, dec_hook=lambda kind, value: kind(value))
    if config is None:
        from gpumod_tui.adapters.files.yaml import read_yaml

        content, _, fault = read_yaml(file)
        config, faults = parse_config(content, home) if fault is None else (None, [fault])
        if config is None:
            raise _invalid(file, faults)
        keep(store, key, config, enc_hook=str)
    return config


def _is_there(file: Path) -> bool:
    """Also where its folder may not be entered: settings that cannot be read are not the settings of nobody."""
    try:
        return file.exists()
    except PermissionError:
        return True


def _invalid(file: Path, faults: Sequence[Fault]) -> ConfigInvalid:
    lines = [f"{file}: {fault.key or 'file'}: found {fault.found}, expected {fault.expected}" for fault in faults]
    return ConfigInvalid("\n".join(lines), hint=f"correct {file}, or move it away")


def record_folders(places: Places, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Put what GPUMOD_PRESETS and GPUMOD_MODELS_DIR add into config.yaml, where units see it too.

    The user's other keys stay, and their comments where the file's form allows. Returns the keys that changed.
    Raises: ConfigInvalid, OSError.
    """
    home = home_folder(environ)
    before = _from_file(places, home)
    changes: dict[str, object] = {}
    folders = dict.fromkeys((*before.presets, *preset_folders(environ)))
    if tuple(folders) != before.presets:
        changes["presets"] = [str(folder) for folder in folders]
    models_dir = load_config(places, environ).models_dir
    if models_dir != before.models_dir:
        changes["models_dir"] = str(models_dir)
    if changes:
        from gpumod_tui.adapters.files.yaml import with_keys

        private_folder(places.config)
        # Where it is a link into somebody's dotfiles, the link stays.
        file = (places.config / "config.yaml").resolve()
        if file.exists():
            write_whole(file, with_keys(file.read_text(), changes), mode=stat.S_IMODE(file.stat().st_mode))
        else:
            write_whole(file, with_keys("", changes))
    return tuple(changes)
