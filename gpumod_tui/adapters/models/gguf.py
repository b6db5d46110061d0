"""GGUF headers: metadata and the tensor table, without reading a weight and without the gguf library.

A header is read into memory and walked there, not mapped: a mapped file that shrinks (a download that starts anew) ends
the process with SIGBUS. Everything is checked against the bytes that are there, and nothing a file claims decides how
much time or memory is spent.
"""

import io
import itertools
import os
import stat
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from gpumod_tui.core.errors import ModelFileInvalid
from gpumod_tui.core.vram.estimate.model_file import ModelHeader, Tensor, Value

_READS: Final = tuple(size << 20 for size in (1, 8, 16, 32, 64, 128, 256))
"""How much is read at first, and when the header turns out to be longer."""
MOST_KEYS: Final = 1 << 16
MOST_TENSORS: Final = 1 << 17
MOST_STRINGS: Final = 1 << 23
"""Over all arrays: the largest vocabularies have a million tokens and as many merges."""
_LONGEST_NAME: Final = 1 << 16
_KEPT_STRING: Final = 1 << 12
_KEPT_ARRAY: Final = 1 << 10
"""Longer than any array with an entry for each layer (llama.cpp allows 512)."""

_STRING: Final = 8
_ARRAY: Final = 9
_SCALARS: Final[Mapping[int, struct.Struct]] = MappingProxyType(
    {
        number: struct.Struct(f"<{code}")
        for number, code in {
            0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
        }.items()
    }
)  # fmt: skip

BLOCKS: Final[Mapping[int, tuple[int, int]]] = MappingProxyType(
    {
        0: (1, 4),  # F32
        1: (1, 2),  # F16
        2: (32, 18),  # Q4_0
        3: (32, 20),  # Q4_1
        6: (32, 22),  # Q5_0
        7: (32, 24),  # Q5_1
        8: (32, 34),  # Q8_0
        9: (32, 40),  # Q8_1
        10: (256, 84),  # Q2_K
        11: (256, 110),  # Q3_K
        12: (256, 144),  # Q4_K
        13: (256, 176),  # Q5_K
        14: (256, 210),  # Q6_K
        15: (256, 292),  # Q8_K
        16: (256, 66),  # IQ2_XXS
        17: (256, 74),  # IQ2_XS
        18: (256, 98),  # IQ3_XXS
        19: (256, 50),  # IQ1_S
        20: (32, 18),  # IQ4_NL
        21: (256, 110),  # IQ3_S
        22: (256, 82),  # IQ2_S
        23: (256, 136),  # IQ4_XS
        24: (1, 1),  # I8
        25: (1, 2),  # I16
        26: (1, 4),  # I32
        27: (1, 8),  # I64
        28: (1, 8),  # F64
        29: (256, 56),  # IQ1_M
        30: (1, 2),  # BF16
        34: (256, 54),  # TQ1_0
        35: (256, 66),  # TQ2_0
        39: (32, 17),  # MXFP4
        40: (64, 36),  # NVFP4
        41: (128, 18),  # Q1_0
        42: (64, 18),  # Q2_0
    }
)
"""Elements and bytes of a block, by tensor type. A type that is not here is measured by the gap to the next tensor."""


def read_header(path: Path) -> ModelHeader:
    """The header of one file. Raises: ModelFileInvalid."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ModelFileInvalid(path, "no regular file", "a GGUF file")
            return _Walk(path, file, status.st_size).header()
    except OSError as error:
        raise ModelFileInvalid(path, error.strerror or "an error", "a GGUF file that can be read") from error


class _Walk:
    """One pass over the bytes of a header."""

    def __init__(self, path: Path, file: io.FileIO, file_bytes: int) -> None:
        self._path = path
        self._file = file
        self._file_bytes = file_bytes
        self._data = b""
        self._at = 0
        self._strings_left = MOST_STRINGS
        self._vocabulary: int | None = None

    def header(self) -> ModelHeader:
        tensor_count, key_count = self._start()
        values: dict[str, Value] = {}
        seen: set[str] = set()
        for _ in range(key_count):
            key = self._text(_LONGEST_NAME, "a key")
            if key in seen:
                raise self._invalid(f"the key {key[:80]!r} twice", "each key once")
            seen.add(key)
            value = self._value(key, self._number(4))
            if value is not None:
                values[key] = value
        return ModelHeader(self._path, MappingProxyType(values), self._tensors(tensor_count, values), self._vocabulary)

    def _start(self) -> tuple[int, int]:
        magic = self._bytes(4)
        if magic != b"GGUF":
            raise self._invalid(f"{magic.decode('latin-1')!r} at its start", "'GGUF'")
        version = self._number(4)
        if version not in (2, 3):
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            found = f"version {swapped}, big endian" if 0 < swapped < 100 else f"version {version}"
            raise self._invalid(found, "version 2 or 3, little endian")
        tensors, keys = self._number(8), self._number(8)
        if tensors > MOST_TENSORS or keys > MOST_KEYS:
            raise self._invalid(f"{tensors} tensors and {keys} keys", f"at most {MOST_TENSORS} and {MOST_KEYS}")
        return tensors, keys

    def _tensors(self, count: int, values: Mapping[str, Value]) -> tuple[Tensor, ...]:
        found: list[tuple[str, tuple[int, ...], int, int]] = []
        for _ in range(count):
            name = self._text(_LONGEST_NAME, "a tensor's name")
            dimensions = self._number(4)
            if not 0 <= dimensions <= 4:
                raise self._invalid(f"{dimensions} dimensions of tensor {name[:80]!r}", "at most 4")
            shape = tuple(self._number(8) for _ in range(dimensions))
            found.append((name, shape, self._number(4), self._number(8)))
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise self._invalid(f"general.alignment = {alignment!r}", "1 to 1048576")
        begin = -(-self._at // alignment) * alignment
        starts = sorted({offset for *_, offset in found})
        ends = dict(itertools.pairwise([*starts, max(0, self._file_bytes - begin)]))
        tensors = []
        for name, shape, kind, offset in found:
            size = self._size(name, shape, kind)
            size = max(0, ends[offset] - offset) if size is None else size
            if begin + offset + size > self._file_bytes:
                raise self._invalid(
                    f"{self._file_bytes} bytes", f"{begin + offset + size} or more: tensor {name[:80]!r} ends there"
                )
            tensors.append(Tensor(name, shape, size))
        return tuple(tensors)

    def _size(self, name: str, shape: tuple[int, ...], kind: int) -> int | None:
        """None: a type that is newer than this table."""
        elements = 1
        for length in shape:
            elements *= length
        if elements >= 1 << 63:
            raise self._invalid(f"tensor {name[:80]!r} of {elements} elements", "fewer than 2^63")
        if kind not in BLOCKS:
            return None
        block, size = BLOCKS[kind]
        if shape and shape[0] % block:
            raise self._invalid(f"rows of {shape[0]} elements in tensor {name[:80]!r}", f"a multiple of {block}")
        return elements // block * size

    def _value(self, key: str, kind: int) -> Value | None:
        """None: it is not kept."""
        if kind in _SCALARS:
            number: int | float | bool = _SCALARS[kind].unpack(self._bytes(_SCALARS[kind].size))[0]
            return number
        if kind == _STRING:
            length = self._number(8)
            text = self._bytes(length)
            return text.decode(errors="replace") if length <= _KEPT_STRING else None
        if kind != _ARRAY:
            raise self._invalid(f"type {kind} of key {key[:80]!r}", "a type of GGUF, 0 to 12")
        kind, count = self._number(4), self._number(8)
        if key == "tokenizer.ggml.tokens":
            self._vocabulary = count
        if kind == _STRING:
            self._pass_strings(key, count)
            return None
        if kind not in _SCALARS:
            raise self._invalid(f"an array of type {kind} in key {key[:80]!r}", "an array of numbers or of strings")
        code = _SCALARS[kind]
        data = self._bytes(count * code.size)
        return tuple(one for (one,) in code.iter_unpack(data)) if count <= _KEPT_ARRAY else None

    def _pass_strings(self, key: str, count: int) -> None:
        """Walk over the lengths alone: a vocabulary is most of a header."""
        if count > self._strings_left:
            raise self._invalid(f"{count} strings in key {key[:80]!r}", f"at most {MOST_STRINGS} in all")
        self._strings_left -= count
        length_at = struct.Struct("<Q").unpack_from
        done = 0
        while done < count:
            data, at = self._data, self._at
            try:
                # A string that ends beyond the data is met when the next one's length is looked at, or at the end.
                for done in range(done, count):  # noqa: B007, B020 - where it stops is where it goes on
                    at += 8 + length_at(data, at)[0]
                done = count
            except (struct.error, OverflowError):
                self._grow(at + 8)
            self._at = at
        if self._at > len(self._data):
            self._grow(self._at)

    def _text(self, longest: int, what: str) -> str:
        length = self._number(8)
        if length > longest:
            raise self._invalid(f"{what} of {length} bytes", f"at most {longest}")
        return self._bytes(length).decode(errors="replace")

    def _number(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), "little")

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            self._grow(end)
        found = self._data[self._at : end]
        self._at = end
        return found

    def _grow(self, end: int) -> None:
        """Have the bytes up to `end`, and more: the next size that holds them."""
        most = next((size for size in _READS if size >= end), None)
        if end <= self._file_bytes and most is None:
            raise self._invalid(f"a header of more than {_READS[-1] >> 20} MiB", "a smaller one")
        if end <= self._file_bytes and most is not None:
            self._data += self._file.read(most - len(self._data)) or b""
        if end > len(self._data):
            raise self._invalid(f"the end of the file at {self._file_bytes} bytes", f"a header to byte {end} at least")

    def _invalid(self, found: str, expected: str) -> ModelFileInvalid:
        return ModelFileInvalid(self._path, f"{found} (byte {self._at})", expected)
