"""Models on disk (port `ModelFiles`)."""

import itertools
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.errors import ModelFileInvalid
from gpumod_tui.core.models import DriverKind, Service
from gpumod_tui.core.vram.estimate.model_file import ModelFile, ModelHeader

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


_HEADERS_KEPT: Final = 16


class ModelFolder:
    """Finds models and keeps the headers that were read last: an admission asks for the same one again."""

    def __init__(self) -> None:
        self._headers: dict[ModelFile, ModelHeader] = {}

    def find(self, service: Service, model_id: str | None = None, args: Sequence[str] = ()) -> ModelFile | None:
        """The model's files; None: there are none, or not all of them."""
        found = model_paths(service, model_id, args)
        return None if found is None else _looked_at(found.parts, found.projector, found.draft)

    def header(self, file: ModelFile) -> ModelHeader:
        """Merged over all parts, projector and draft as companions. Raises: ModelFileInvalid."""
        found = self._headers.pop(file, None) or _read(file)
        self._headers[file] = found
        while len(self._headers) > _HEADERS_KEPT:
            self._headers.pop(next(iter(self._headers)))
        return found


def model_file(path: Path, projector: Path | None = None) -> ModelFile | None:
    """One file by its path, with all parts where it is one of several; None: not there, or not all of them."""
    return _looked_at(shards(path), projector, None)


def _looked_at(parts: tuple[Path, ...], projector: Path | None, draft: Path | None) -> ModelFile | None:
    beside = tuple(part for one in (projector, draft) if one is not None for part in shards(one))
    try:
        statuses = [path.stat() for path in parts]
        extra = sum(path.stat().st_size for path in beside)
    except OSError:
        return None
    return ModelFile(
        parts,
        sum(status.st_size for status in statuses),
        max(status.st_mtime_ns for status in statuses),
        projector,
        draft,
        extra,
    )


def _read(file: ModelFile) -> ModelHeader:
    from gpumod_tui.adapters.models.gguf import read_header

    first, *rest = (read_header(path) for path in file.paths)
    count = first.values.get("split.count", 1)
    if isinstance(count, int) and count > 1 and count != len(file.paths):
        raise ModelFileInvalid(
            file.paths[0], f"split.count = {count}", f"{len(file.paths)}, as many as there are files"
        )
    companions = tuple(
        replace(_read(looked), path=path)
        for path in (file.projector, file.draft)
        if path is not None and (looked := model_file(path)) is not None
    )
    return ModelHeader(
        first.path,
        MappingProxyType(dict(first.values)),
        tuple(tensor for header in (first, *rest) for tensor in header.tensors),
        first.vocabulary,
        companions,
    )
