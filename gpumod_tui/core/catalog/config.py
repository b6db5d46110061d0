"""The settings of config.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from gpumod_tui.core.text import MIB
from gpumod_tui.core.units.guard import GuardAction

if TYPE_CHECKING:
    from gpumod_tui.core.catalog.validation import Fault


class Confirm(StrEnum):
    """When the dashboard asks before it acts."""

    ALWAYS = "always"
    WHEN_STOPS = "when-stops"
    NEVER = "never"


class Theme(StrEnum):
    """The dashboard's colours."""

    DARK = "dark"
    LIGHT = "light"
    CONTRAST = "contrast"
    ANSI = "ansi"
    """The terminal's own 16."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings, with what the file does not say filled in."""

    models_dir: Path
    presets: tuple[Path, ...] = ()
    """Folders beside the packaged ones and the user's own."""
    vram_margin_bytes: int = 512 * MIB
    """Left free on each GPU."""
    release_timeout_s: float = 30.0
    confirm: Confirm = Confirm.ALWAYS
    guard_allow: frozenset[GuardAction] = frozenset()
    """What clients of the guard may do beside using models."""
    theme: Theme | None = None
    """None: the one that was on last, else dark."""
    ascii: bool = False
    """The dashboard draws without box, block and braille characters."""
    mouse: bool = True
    read_only: bool = False
    """The dashboard only looks."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Other keys of the dashboard, comma-separated, by the id of what they do."""
    bell_after_s: float = 10.0
    """A switch that took longer rings when it ends; 0: never."""


class ConfigFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What config.yaml may hold."""

    models_dir: Annotated[str, Meta(description="an absolute path, or one that begins with ~ or $HOME")] | None = None
    presets: Annotated[list[str], Meta(description="a list of folders")] | None = None
    vram_margin_mb: Annotated[int, Meta(ge=0, le=1_048_576, description="MiB, 0 or more")] | None = None
    release_timeout_s: (
        Annotated[float, Meta(gt=0, le=3600, description="seconds, more than 0 and at most 3600")] | None
    ) = None
    guard_allow: Annotated[list[GuardAction], Meta(description="a list of download, delete, reload")] | None = None
    confirm: Confirm | None = None
    theme: Theme | None = None
    ascii: Annotated[bool, Meta(description="true or false")] | None = None
    mouse: Annotated[bool, Meta(description="true or false")] | None = None
    read_only: Annotated[bool, Meta(description="true or false")] | None = None
    keys: Annotated[dict[str, str], Meta(description="a mapping of ids to keys, as in `unit.stop: X`")] | None = None
    bell_after_s: Annotated[float, Meta(ge=0, le=86_400, description="seconds, 0 for never")] | None = None


_AS_THEY_ARE: Final = (
    "release_timeout_s",
    "confirm",
    "theme",
    "ascii",
    "mouse",
    "read_only",
    "keys",
    "bell_after_s",
)


def parse_config(document: object, home: Path) -> tuple[Config | None, list[Fault]]:
    """The settings, or what is wrong with them. An empty file is right."""
    from gpumod_tui.core.catalog.parse import expand
    from gpumod_tui.core.catalog.validation import Fault, check, shown

    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        return None, [Fault("", shown(document), "a mapping of settings")]
    values, faults = check(ConfigFile, document)
    models_dir: Path = home / "models"
    folders: list[Path] = []
    for key, text in (
        *(("models_dir", text) for text in ([values["models_dir"]] if "models_dir" in values else [])),
        *(("presets", text) for text in values.get("presets", ())),
    ):
        try:
            path = expand(text, home)
        except ValueError as error:
            faults.append(Fault(key, shown(text), str(error)))
            continue
        if key == "presets":
            folders.append(path)
        else:
            models_dir = path
    if faults:
        return None, faults
    given: dict[str, Any] = {key: values[key] for key in _AS_THEY_ARE if key in values}
    if "vram_margin_mb" in values:
        given["vram_margin_bytes"] = values["vram_margin_mb"] * MIB
    given["guard_allow"] = frozenset(values.get("guard_allow", ()))
    return Config(models_dir=models_dir, presets=tuple(dict.fromkeys(folders)), **given), []
