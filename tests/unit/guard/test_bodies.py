"""Bodies are read strictly: what two parsers could understand differently is refused."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpumod_tui.guard.http.body import model_in, parse_form, parse_object
from gpumod_tui.guard.http.head import BadRequest

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=5)


def read(data: bytes) -> dict[str, Any] | int:
    """The object, or the status it is turned away with."""
    try:
        return parse_object(data)
    except BadRequest as error:
        return error.status


@given(OBJECTS, st.booleans())
def test_every_json_object_is_read_as_it_is(value: dict[str, Any], ascii_only: bool) -> None:
    assert parse_object(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_anything_else_is_a_400_and_no_fault(data: bytes) -> None:
    found = read(data)
    assert found == 400 or json.loads(data) == found


@given(OBJECTS, TEXT, VALUES, VALUES, st.integers(0, 2))
def test_a_key_that_is_there_twice_is_refused_wherever_it_is(
    value: dict[str, Any], key: str, one: Any, other: Any, depth: int
) -> None:
    pairs = [*((k, v) for k, v in value.items() if k != key), (key, one), (key, other)]
    text = "{" + ",".join(f"{json.dumps(name)}:{json.dumps(item)}" for name, item in pairs) + "}"
    for _ in range(depth):
        text = f'{{"x":[{text}]}}'
    with pytest.raises(BadRequest, match="more than once"):
        parse_object(text.encode())


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"null",
            b"[]",
            b'"x"',
            b"1",
            b"{",
            b"{}x",
            b"{}{}",
            b"model=a",
            b"\xef\xbb\xbf{}",
            b"{'a':1}",
            b"{a:1}",
        ),
        *(b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b'{"a":1e999}', b'{"a":01}', b'{"a":1,}', b'{"a":.5}'),
        *(
            b'{"a":"\xff"}',
            b'{"a":"\\ud800"}',
            b'{"\\udfff":1}',
            b'{"a":"\n"}',
            b'{"a":"\x00"}',
            b"{}\x00",
            b"// x\n{}",
        ),
        *('{"a":1}'.encode("utf-16"), '{"a":1}'.encode("utf-32"), b'{"model":"a","mod\\u0065l":"b"}'),
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"1" * 10_000 + b"}",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_plain_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_object(data)
    assert caught.value.status == 400


@pytest.mark.parametrize("model", [None, 1, True, [], {}, "", "a\n", "a\x00", "x" * 5000])
def test_a_model_is_named_by_a_name(model: object) -> None:
    with pytest.raises(BadRequest):
        model_in({"model": model} if model is not None else {})
    assert model_in({"model": "org/Name v1.0:Q4_K"}) == "org/Name v1.0:Q4_K"


def form(*parts: bytes, boundary: bytes = b"B") -> bytes:
    return b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"


MODEL = b'Content-Disposition: form-data; name="model"\r\n\r\nwhisper'
FILE = b"\r\n".join(
    (
        b'Content-Disposition: form-data; name="file"; filename="a.wav"',
        b"Content-Type: audio/wav",
        b"",
        b"\x00\xff\r\n--C\r\n",
    )
)
KIND = "multipart/form-data; boundary=B"


def test_a_form_is_written_anew() -> None:
    found = parse_form(KIND, form(FILE, MODEL))
    assert found.model == "whisper"
    again = parse_form(found.content_type, found.data)
    assert again.model == "whisper"
    assert b"\x00\xff\r\n--C\r\n" in again.data
    assert b'name="file"; filename="a.wav"' in again.data
    assert parse_form('multipart/form-data; boundary="a b"', form(MODEL, boundary=b"a b")).model == "whisper"


@given(st.binary(max_size=300), st.sampled_from([b"model", b"file", b"language"]))
def test_a_files_bytes_are_kept_whatever_they_are(content: bytes, name: bytes) -> None:
    part = b'Content-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + content
    boundary = b"0123456789abcdef0123456789"
    found = parse_form(f"multipart/form-data; boundary={boundary.decode()}", form(part, MODEL, boundary=boundary))
    assert content in found.data


@pytest.mark.parametrize(
    ("kind", "data", "status"),
    [
        ("", form(MODEL), 415),
        ("application/json", b"{}", 415),
        ("multipart/form-data", form(MODEL), 415),
        ("multipart/form-data; boundary=", form(MODEL), 415),
        ("multipart/form-data; boundary=A; boundary=B", form(MODEL), 415),
        ("multipart/mixed; boundary=B", form(MODEL), 415),
        (KIND, b"", 400),
        (KIND, b"--B\r\n" + MODEL, 400),
        (KIND, b"x\r\n" + form(MODEL), 400),
        (KIND, form(MODEL, MODEL), 400),
        (KIND, form(FILE), 400),
        (KIND, form(b'Content-Disposition: form-data; name="model"; filename="x"\r\n\r\nwhisper'), 400),
        (KIND, form(b"Content-Disposition: form-data; name=model\r\n\r\nwhisper"), 400),
        (KIND, form(b'Content-Disposition: form-data; name="model"; name="x"\r\n\r\nwhisper'), 400),
        (KIND, form(b'Content-Disposition: attachment; name="model"\r\n\r\nwhisper'), 400),
        (KIND, form(b'Content-Disposition: form-data; name="mo\\"del"\r\n\r\nwhisper'), 400),
        (KIND, form(b"\r\nwhisper"), 400),
        (KIND, form(b'Content-Disposition: form-data; name="model"\r\n\r\n\xff'), 400),
        (KIND, form(b'Content-Disposition: form-data; name="model"\r\n\r\n'), 400),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(kind: str, data: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_form(kind, data)
    assert caught.value.status == status


@given(st.binary(max_size=200))
def test_no_form_is_a_fault(data: bytes) -> None:
    for body in (data, form(data), form(data, MODEL)):
        with contextlib.suppress(BadRequest):
            assert parse_form(KIND, body).model
