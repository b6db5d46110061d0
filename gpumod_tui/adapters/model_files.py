"""Models on disk (port `ModelFiles`)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gpumod_tui.adapters._model_paths import model_paths, shards
from gpumod_tui.core.errors import ModelFileInvalid
from gpumod_tui.core.model_file import ModelFile, ModelHeader
from gpumod_tui.core.models import Service

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
    from gpumod_tui.adapters.gguf import read_header

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
