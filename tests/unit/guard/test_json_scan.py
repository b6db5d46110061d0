"""A large body is read as strictly as a small one, without being made, and without keeping anybody waiting."""

import asyncio
import contextlib
import json
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpumod_tui.guard.http.body import parse_object
from gpumod_tui.guard.http.forward import AT_ONCE_BYTES, read_object
from gpumod_tui.guard.http.head import BadRequest
from gpumod_tui.guard.http.json_scan import DEPTH, VALUES, scan_object
from gpumod_tui.guard.server.body_budget import Body
from tests.unit.guard.test_bodies import OBJECTS, TEXT
from tests.unit.guard.test_bodies import VALUES as ANY

Outcome = dict[str, Any] | int


def scanned(data: bytes, window: int = 64 * 1024) -> Outcome:
    """What it says of the model, or the status it is turned away with."""
    scan = scan_object(data, window)
    try:
        while True:
            try:
                next(scan)
            except StopIteration as end:
                found: dict[str, Any] = end.value
                return found
    except BadRequest as error:
        return error.status


def parsed(data: bytes) -> Outcome:
    """The same by the way of small bodies."""
    try:
        found = parse_object(data)
    except BadRequest as error:
        return error.status
    model = found.get("model")
    return {"model": [] if isinstance(model, dict | list) else model} if "model" in found else {}


@given(OBJECTS, ANY | TEXT, st.booleans(), st.sampled_from([None, 1]), st.integers(16, 40))
def test_what_is_said_of_the_model_is_the_same(
    value: dict[str, Any], model: object, ascii_only: bool, indent: int | None, window: int
) -> None:
    for given_model in ({}, {"model": model}):
        data = json.dumps({**value, **given_model}, ensure_ascii=ascii_only, indent=indent).encode()
        assert scanned(data, window) == parsed(data)


PIECES = [
    *(
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        '"',
        "\\",
        "0",
        "-",
        "1",
        ".",
        "e",
        "+",
        "E5",
        "12.5e-3",
        "1e999",
        "NaN",
    ),
    *('"a"', '"model"', '"mo\\u0064el"', "\\ud83d", "\\ude00", '"\\ud83d\\ude00"', "\\n", "\\x", "\t", "true", "null"),
    *("Infinity", "-Infinity", "01", "-0", "[0,1,", "[[],", '{"a":', "\ufeff", "é", "\x00", "nul", "1e999", "-1E-400"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.integers(16, 24))
@example('{"a":[1,2,]}', 16)
@example('{"a":{"b":1,"b":2}}', 16)
@example('{"model":"x","mo\\u0064el":"y"}', 16)
@example('{"model":"x"}x', 16)
@example('{"a":"' + "x" * 15 + '\\ud83d\\ude00"}', 16)
@example('{"a":"' + "x" * 15 + '\\ud83d"}', 16)
def test_what_is_refused_is_the_same(text: str, window: int) -> None:
    for whole in (text, '{"model":"m","x":' + text + "}"):
        data = whole.encode("utf-8", "surrogatepass")
        assert scanned(data, window) == parsed(data)


@given(st.binary(max_size=60), st.integers(16, 24))
def test_any_bytes_are_refused_alike(data: bytes, window: int) -> None:
    for whole in (data, b'{"x":"' + data + b'"}'):
        assert scanned(whole, window) == parsed(whole)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b'{"x":' + b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1) + b"}", 400),
        (b'{"x":' + b'{"x":' * DEPTH + b"0" + b"}" * (DEPTH + 1), 400),
        (b'{"x":[' + b"[]," * VALUES + b"0]}", 413),
        (b'{"x":[' + b"true," * VALUES + b"0]}", 413),
        (b"{" + b",".join(b'"%d":0' % number for number in range(VALUES)) + b"}", 413),
        (b'{"x":' + b"1" * 5000 + b"}", 400),
        (b'{"model":"' + b"m" * 20000 + b'"}', 400),
    ],
    ids=["deep lists", "deep objects", "many lists", "many words", "many keys", "a long number", "a long model"],
)
def test_what_nobody_needs_is_refused(data: bytes, status: int) -> None:
    assert scanned(data) == status


def test_many_tokens_and_a_long_text_are_nothing_unusual() -> None:
    tokens = b",".join(b"%d" % (number % 150_000) for number in range(1_500_000))
    assert scanned(b'{"prompt":[' + tokens + b'],"model":"m"}') == {"model": "m"}
    text = json.dumps({"model": "m", "prompt": "Zeile\n„ä“ \U0001f600\\" * 100_000})
    assert scanned(text.encode()) == {"model": "m"}


def test_memory_is_bounded() -> None:
    """As few values as leave no doubt: `json.loads` makes 64 bytes of each of these lists, all in all 2 MiB."""
    data = b'{"x":[' + b"[]," * 32_000 + b'0],"model":"m"}'
    window = 4096
    tracemalloc.start()
    try:
        assert scanned(data, window) == {"model": "m"}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 256 * 1024


def test_others_are_served_while_a_large_body_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b'{"model":"m","x":[' + b"[]," * (VALUES - 10) + b"0]}"
    assert len(body) > AT_ONCE_BYTES

    async def read(_request: object) -> Body:
        return Body(body)

    monkeypatch.setattr("gpumod_tui.guard.http.forward.read_body", read)

    async def run() -> None:
        turns = 0

        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(others())
        request: Any = SimpleNamespace()
        both = await asyncio.gather(read_object(request), read_object(request))
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert [found for _, found in both] == [{"model": "m"}, {"model": "m"}]
        assert turns > 1000

    asyncio.run(run())
