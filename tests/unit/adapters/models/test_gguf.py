"""Headers of GGUF files: what the gguf library writes and reads is the oracle, and no file can do harm."""

import math
import os
import resource
import struct
import time
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpumod_tui.adapters.models.files import ModelFolder, model_file
from gpumod_tui.adapters.models.gguf import BLOCKS, MOST_STRINGS, read_header
from gpumod_tui.core.errors import ModelFileInvalid
from tests.unit._gguf_files import BASE, Q8_0, write_gguf

TENSORS = {
    "token_embd.weight": (64, 8),
    "output.weight": (64, 8),
    "blk.0.attn_q.weight": (64, 64),
    "blk.0.attn_norm.weight": (64,),
    "blk.1.ffn_up_exps.weight": (64, 32, 4),
}


def of_library(path: Path) -> tuple[dict[str, Any], dict[str, tuple[tuple[int, ...], int]]]:
    """Values but for arrays of strings, and tensors with shape and bytes, as the library reads them."""
    reader = gguf.GGUFReader(path)
    values = {}
    for field in reader.fields.values():
        content = field.contents()
        if field.name.startswith("GGUF.") or (isinstance(content, list) and isinstance(content[0], str)):
            continue
        values[field.name] = tuple(content) if isinstance(content, list) else content
    return values, {one.name: (tuple(map(int, one.shape)), int(one.n_bytes)) for one in reader.tensors}


@pytest.mark.parametrize(
    ("arch", "more"),
    [
        ("llama", {}),
        ("deci", {"attention.head_count_kv": [1, 0]}),
        ("gemma3", {"attention.sliding_window": 512, "attention.sliding_window_pattern": [True, False]}),
        (
            "deepseek2",
            {"attention.key_length_mla": 192, "attention.value_length_mla": 128, "expert_weights_scale": 2.5},
        ),
        ("nemotron_h", {"ssm.conv_kernel": 4, "attention.head_count_kv": [0, 2], "general_text": "a – text"}),
    ],
)
@pytest.mark.parametrize("words", [0, 300])
def test_a_header_is_read_as_the_library_reads_it(tmp_path: Path, arch: str, more: dict[str, Any], words: int) -> None:
    vocabulary = [f"token {number} – {'x' * (number % 40)}" for number in range(words)]
    kinds = {"blk.0.attn_q.weight": Q8_0}
    (path,) = write_gguf(tmp_path / "m.gguf", arch, {**BASE, **more}, TENSORS, types=kinds, vocabulary=vocabulary)
    header = read_header(path)
    values, tensors = of_library(path)
    kept = {key: value for key, value in values.items() if not isinstance(value, tuple) or len(value) <= 1024}
    assert set(header.values) == set(kept)
    for key, value in kept.items():
        assert header.values[key] == pytest.approx(value) if isinstance(value, float) else header.values[key] == value
    assert {one.name: (one.shape, one.size_bytes) for one in header.tensors} == tensors
    assert header.architecture == arch
    assert header.vocabulary == (words or None)


def test_every_tensor_type_of_the_library_has_its_size() -> None:
    theirs = {int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: sizes for kind, sizes in BLOCKS.items() if kind in theirs} == theirs
    assert set(BLOCKS) - set(theirs) <= {41, 42}, "newer than the oldest library that the tests take"


def test_a_tensor_of_an_unknown_type_is_as_large_as_the_gap_to_the_next(tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "m.gguf", "llama", None, {"a": (64,), "b": (64,), "c": (32,)})
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<Q1sI", 1, b"b", 1)) + 8 + 1 + 4 + 8
    data[at : at + 4] = struct.pack("<I", 99)
    path.write_bytes(data)
    assert [one.size_bytes for one in read_header(path).tensors] == [256, 256, 128]


def test_all_parts_of_a_split_model_are_one(tmp_path: Path) -> None:
    tensors = {f"blk.{layer}.attn_q.weight": (64, 64) for layer in range(5)}
    parts = write_gguf(tmp_path / "m.gguf", "llama", {**BASE, "block_count": 5}, tensors, shard_tensors=2)
    assert len(parts) == 3
    file = model_file(parts[0])
    assert file is not None
    assert file.paths == tuple(parts)
    header = ModelFolder().header(file)
    assert {one.name for one in header.tensors} == set(tensors)
    assert sum(one.size_bytes for one in header.tensors) == 5 * 64 * 64 * 4
    assert header.number("block_count") == 5
    parts[1].unlink()
    assert model_file(parts[0]) is None


def test_a_part_without_its_others_is_invalid(tmp_path: Path) -> None:
    tensors = {f"blk.{layer}.attn_q.weight": (64, 64) for layer in range(4)}
    parts = write_gguf(tmp_path / "m.gguf", "llama", None, tensors, shard_tensors=2)
    alone = parts[0].rename(tmp_path / "alone.gguf")
    file = model_file(alone)
    assert file is not None
    with pytest.raises(ModelFileInvalid, match=r"split\.count = 2"):
        ModelFolder().header(file)


def test_a_header_that_is_read_again_is_kept_until_the_file_changes(tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "m.gguf", "llama", None, TENSORS)
    folder = ModelFolder()
    before = model_file(path)
    assert before is not None
    assert folder.header(before) is folder.header(before)
    write_gguf(path, "llama", {**BASE, "block_count": 1}, TENSORS)
    os.utime(path, ns=(1, 1))
    after = model_file(path)
    assert after is not None
    assert folder.header(after).number("block_count") == 1


# --- damaged and hostile files


def head(version: int = 3, tensors: int = 0, keys: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, keys)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "the end of the file at 0 bytes"),
        (b"GG", "the end of the file"),
        (b"GGML" + bytes(20), "'GGML' at its start"),
        (head(1), "version 1"),
        (head(2 << 24), "version 2, big endian"),
        (head(3 << 24), "version 3, big endian"),
        (head(77), "version 77"),
        (head(tensors=1 << 60), "tensors"),
        (head(keys=1 << 60), "keys"),
        (head(keys=1), "the end of the file"),
        (head(keys=1) + struct.pack("<Q", 1 << 62), "a key of"),
        (head(keys=1) + text(b"k") + struct.pack("<I", 13), "type 13"),
        (head(keys=1) + text(b"k") + struct.pack("<IQ", 8, 1 << 63), "the end of the file"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 9, 1), "an array of type 9"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 1 << 62), "strings in key"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 8, 1000), "the end of the file"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQQ", 9, 8, 1, (1 << 64) - 1), "the end of the file"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQQ", 9, 8, 2, (1 << 64) - 1), "the end of the file"),
        (head(keys=1) + text(b"k") + struct.pack("<IIQ", 9, 4, 1 << 62), "the end of the file"),
        (head(keys=2) + (text(b"k") + struct.pack("<II", 4, 1)) * 2, "the key 'k' twice"),
        (head(tensors=1) + text(b"t") + struct.pack("<I", 9), "9 dimensions"),
        (head(tensors=1) + text(b"t") + struct.pack("<IQQIQ", 2, 1 << 62, 1 << 62, 0, 0), "elements"),
        (head(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 33, 8, 0), "rows of 33 elements"),
        (head(tensors=1) + text(b"t") + struct.pack("<IQIQ", 1, 32, 0, 1 << 40), "bytes"),
        (head(keys=1) + text(b"general.alignment") + struct.pack("<II", 4, 0), "general.alignment = 0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(ModelFileInvalid) as caught:
        read_header(path)
    assert found in caught.value.found
    assert str(path) in str(caught.value)
    assert caught.value.expected


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "gone", Path("/dev/zero")):
        with pytest.raises(ModelFileInvalid):
            read_header(path)


def test_weights_that_are_cut_off_are_invalid(tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "m.gguf", "llama", None, TENSORS)
    os.truncate(path, path.stat().st_size - 4096)
    with pytest.raises(ModelFileInvalid, match="ends there"):
        read_header(path)


def test_a_vocabulary_longer_than_the_first_read_is_walked_on(tmp_path: Path) -> None:
    """Strings that end on, before and behind the edges of what is read at once."""
    for length in (4088, 4089, 4090, 1 << 21):
        words = [chr(97 + number % 26) * length for number in range(2 if length > 1 << 20 else 300)]
        (path,) = write_gguf(tmp_path / f"{length}.gguf", "llama", None, TENSORS, vocabulary=words)
        header = read_header(path)
        assert header.vocabulary == len(words)
        assert {one.name for one in header.tensors} == set(TENSORS)


@pytest.mark.parametrize("numbers", [{"block_count": 1 << 31}, {"context_length": 1 << 31}, {"embedding_length": 0}])
def test_absurd_numbers_cost_nothing(tmp_path: Path, numbers: dict[str, int]) -> None:
    from gpumod_tui.core.vram.estimate import estimate
    from gpumod_tui.core.vram.estimate.options import LoadSettings

    (path,) = write_gguf(tmp_path / "m.gguf", "llama", {**BASE, "attention.key_length": 1 << 31, **numbers}, TENSORS)
    begun = time.monotonic()
    estimate(read_header(path), LoadSettings(context=0, parallel=256))
    assert time.monotonic() - begun < 30, "2^31 steps take minutes"


def test_a_file_of_nothing_but_lengths_ends_in_bounded_time_and_memory(tmp_path: Path) -> None:
    """A sparse file of a terabyte that claims as many empty strings as there may be, and one that claims more."""
    path = tmp_path / "sparse.gguf"
    for count, expected in ((MOST_STRINGS, "the end of the file|more than"), (MOST_STRINGS + 1, "strings in key")):
        path.write_bytes(head(keys=1 << 16) + text(b"k") + struct.pack("<IIQ", 9, 8, count))
        os.truncate(path, 1 << 40)
        before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        with pytest.raises(ModelFileInvalid):
            read_header(path)
        assert time.monotonic() - begun < 60, expected
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600 << 10


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_gguf(path, "llama", {**BASE, "attention.head_count_kv": [1, 2]}, TENSORS, vocabulary=["a", "bc", "def"])
    return path


@given(data=st.data())
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_file_does_harm(good: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cut, overwritten and mixed up: it is read, or ModelFileInvalid says why not; so is what is reckoned from it."""
    from gpumod_tui.core.vram.estimate import estimate
    from gpumod_tui.core.vram.estimate.options import LoadSettings

    content = bytearray(good.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, 2000))
        bits = data.draw(
            st.sampled_from([b"\xff", b"\x00", b"\x80", b"\x01", b"\xff" * 8, bytes(8), b"\x7f" + bytes(7)])
        )
        content[at : at + len(bits)] = bits
    path = tmp_path / "mutated.gguf"
    path.write_bytes(content)
    try:
        header = read_header(path)
        found = estimate(header, LoadSettings(context=4096), 2)
    except ModelFileInvalid:
        return
    assert found.total_bytes is None or (0 < found.total_bytes < math.inf)
