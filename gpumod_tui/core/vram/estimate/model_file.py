"""A model's file, and what its header tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from gpumod_tui.core.errors import ModelFileInvalid

Value = int | float | bool | str | tuple[int, ...] | tuple[float, ...] | tuple[bool, ...]
"""A header's value; arrays of strings and longer arrays than a model has layers are not kept."""

_NOTHING: Final[Mapping[str, Value]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model on disk, as a llama-server takes it."""

    paths: tuple[Path, ...]
    """All its parts, the first one is what the server is told."""
    size_bytes: int
    """Of all parts."""
    mtime_ns: int
    """The newest of its parts'."""
    projector: Path | None = None
    """Its eye or ear, which the server loads beside it."""
    draft: Path | None = None
    """A smaller model that drafts for it, which the server loads beside it."""
    extra_bytes: int = 0
    """Of projector and draft."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor of a header."""

    name: str
    shape: tuple[int, ...]
    """Fastest dimension first, as GGUF has it."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """What the header(s) of a model tell; parts are merged."""

    path: Path
    values: Mapping[str, Value] = field(default_factory=lambda: _NOTHING)
    tensors: tuple[Tensor, ...] = ()
    vocabulary: int | None = None
    """Number of its tokens; None: the file holds no vocabulary."""
    companions: tuple["ModelHeader", ...] = ()
    """Headers of its projector and of its draft model."""

    @property
    def architecture(self) -> str:
        """`general.architecture`; empty where it is missing."""
        found = self.values.get("general.architecture")
        return found if isinstance(found, str) else ""

    def number(self, key: str) -> int | None:
        """A whole number below the architecture's name; None: missing. Raises: ModelFileInvalid for anything else."""
        found = self.values.get(f"{self.architecture}.{key}")
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 1 << 32:
            raise ModelFileInvalid(self.path, f"{self.architecture}.{key} = {str(found)[:80]}", "a number of 32 bits")
        return found

    def by_layer(self, key: str, layers: int) -> tuple[int, ...] | None:
        """A number, or an array with one for each layer; None: missing. Raises: ModelFileInvalid."""
        name = f"{self.architecture}.{key}"
        found = self.values.get(name)
        if found is None:
            return None
        numbers = found if isinstance(found, tuple) else (found,) * layers
        if len(numbers) < layers or not all(isinstance(one, int) and 0 <= one < 1 << 32 for one in numbers):
            raise ModelFileInvalid(self.path, f"{name} = {str(found)[:80]}", f"a whole number or {layers} of them")
        return tuple(int(one) for one in numbers[:layers])

    def by_layer_flags(self, key: str, layers: int) -> tuple[bool, ...] | None:
        """The same for what a layer is or is not."""
        found = self.by_layer(key, layers)
        return None if found is None else tuple(bool(one) for one in found)
