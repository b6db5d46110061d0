"""Where a model's files lie, as llama-server finds them."""

import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gpumod_tui.core.models import DriverKind, Service

_SHARD: Final = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")
_DRAFTS: Final = ("mtp-", "dspark-", "dflash-")
_MODEL: Final = ("-m", "--model")
_PROJECTOR: Final = ("-mm", "--mmproj")
_DRAFT: Final = ("-md", "--model-draft", "--spec-draft-model")


@dataclass(frozen=True, slots=True)
class ModelPaths:
    """A model's parts, and what is loaded beside it. Whether all of it is there is not looked at."""

    parts: tuple[Path, ...]
    projector: Path | None = None
    draft: Path | None = None


def shards(path: Path) -> tuple[Path, ...]:
    """The file, or all parts of a model that is split over several."""
    match = _SHARD.fullmatch(path.name)
    if match is None:
        return (path,)
    count = int(match["count"])
    return tuple(path.with_name(f"{match['stem']}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1))


def model_paths(service: Service, model_id: str | None = None, words: Sequence[str] = ()) -> ModelPaths | None:
    """Of one model of a router, or of the model that the service starts with; None: it is named nowhere or not there.

    `words`: the command line of the model's process, which says more than a folder does.
    """
    if service.driver is not DriverKind.LLAMACPP:
        return None
    extra = service.unit_vars.get("extra_args") or ()
    given = [*(shlex.split(extra) if isinstance(extra, str) else map(str, extra)), *words]
    named = _after(given, _MODEL) or (service.model_path if model_id is None else None)
    found = ModelPaths(shards(named)) if named else _in_folder(service, model_id or service.default_model)
    if found is None:
        return None
    return ModelPaths(found.parts, _after(given, _PROJECTOR) or found.projector, _after(given, _DRAFT) or found.draft)


def _in_folder(service: Service, model_id: str | None) -> ModelPaths | None:
    """A router's rules: a file is a model, and so is a folder, whose name it then has."""
    folder = service.models_dir
    # The name of a model of a downloaded repository holds a slash, and is none of the folder's.
    if folder is None or not model_id or "/" in model_id or model_id in (".", ".."):
        return None
    file = folder / f"{model_id}.gguf"
    if file.is_file():
        return ModelPaths(shards(file))
    projector = draft = first = None
    others = []
    for path in sorted((folder / model_id).glob("*.gguf")):
        if not path.is_file():
            continue
        if "mmproj" in path.name:
            projector = _larger(projector, path)
        elif path.name.startswith(_DRAFTS):
            draft = _larger(draft, path)
        elif "-00001-of-" in path.name:
            first = first or path
        else:
            others.append(path)
    if first is not None:
        return ModelPaths(shards(first), projector, draft)
    if not others:
        return None
    # Of several the server takes whichever the file system lists last.
    return ModelPaths((max(others, key=_size),), projector, draft)


def _after(words: Sequence[str], flags: tuple[str, ...]) -> Path | None:
    """The value of the last of these flags."""
    values = [value for flag, value in itertools.pairwise(words) if flag in flags]
    return Path(values[-1]) if values else None


def _larger(one: Path | None, other: Path) -> Path:
    return other if one is None or _size(other) > _size(one) else one


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
