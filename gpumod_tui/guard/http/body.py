"""Bodies, read more strictly than any server behind reads them: what is checked is what they will see. Pure."""

import json
import math
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from gpumod_tui.guard.http.head import BadRequest

LIMIT_BYTES: Final = 64 * 1024 * 1024
"""llama-server's own limit is 100 MB."""
_NAME_CHARS: Final = 1024
_BOUNDARY: Final = re.compile(
    r"""multipart/form-data\s*;\s*boundary=(?:"([\w'()+,./:=? -]{1,70})"|([\w'+.-]{1,70}))\s*\Z""", re.I | re.A
)
_DISPOSITION: Final = re.compile(
    r'form-data;\s*name="([^"\\\x00-\x1f]{1,128})"(?:;\s*filename="([^"\\\x00-\x1f]{0,255})")?\s*\Z', re.I
)
_PARTS: Final = 1000
_HEAD_BYTES: Final = 16 * 1024
"""Of one part."""
_TEXT_BYTES: Final = 1024 * 1024
"""Of a field that is no file."""
_MEDIA: Final = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;\s*[\w-]+=[\w.-]+)*\Z")


def parse_object(data: bytes) -> dict[str, Any]:
    """One JSON object. Raises: BadRequest for anything that two parsers could understand differently."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8 (byte {error.start})") from error
    try:
        found = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
        if "\\u" in text:
            # Half a surrogate pair has no UTF-8.
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise BadRequest("the body is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise BadRequest("the body holds half a surrogate pair") from error
    except ValueError as error:
        raise BadRequest(f"the body is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRequest("the body is no JSON object")
    return found


def model_in(body: dict[str, Any]) -> str:
    """The model that a body names. Raises: BadRequest."""
    name = body.get("model")
    if name is None:
        raise BadRequest("model name is missing from the request")
    if not isinstance(name, str):
        raise BadRequest("model is no string")
    return checked_name(name)


def checked_name(name: str) -> str:
    """Raises: BadRequest."""
    if not name:
        raise BadRequest("model name is missing from the request")
    if len(name) > _NAME_CHARS or not name.isprintable():
        raise BadRequest("model is no name")
    return name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given more than once")
    return found


def _refuse_constant(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")


def _finite(word: str) -> float:
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word[:20]} is too large")
    return value


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form, written anew: a server cannot read it in another way than it was checked."""

    model: str
    content_type: str
    data: bytes


def parse_form(content_type: str, data: bytes) -> Form:
    """Raises: BadRequest, status 415 where it is no multipart form, 413 where it has more than anybody needs.

    What it holds is copied once, however large it is.
    """
    match = _BOUNDARY.match(content_type)
    if match is None:
        raise BadRequest("a multipart form is expected", 415)
    boundary = f"gpumod-{secrets.token_hex(16)}"
    out: list[bytes | memoryview] = []
    models: list[str] = []
    for start, end in _parts(data, b"--" + (match[1] or match[2]).encode()):
        name, filename, media, content = _part(data, start, end)
        head_line = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        if filename is None:
            value = _text(name, content)
            if name == "model":
                models.append(value)
        elif name == "model":
            raise BadRequest("model is no file")
        else:
            head_line += f'; filename="{filename}"\r\nContent-Type: {media or "application/octet-stream"}'
        out += [head_line.encode(), b"\r\n\r\n", content, b"\r\n"]
    if len(models) > 1:
        raise BadRequest("model is given more than once")
    out.append(f"--{boundary}--\r\n".encode())
    model = checked_name(models[0] if models else "")
    return Form(model, f"multipart/form-data; boundary={boundary}", b"".join(out))


def _parts(data: bytes, mark: bytes) -> list[tuple[int, int]]:
    """Where each begins and ends."""
    between = b"\r\n" + mark
    start = len(mark)
    if not data.startswith(mark):
        first = data.find(between)
        if first < 0 or data[:first].strip():
            raise BadRequest("the multipart form is damaged")
        start = first + len(between)
    found: list[tuple[int, int]] = []
    while (end := data.find(between, start)) >= 0:
        found.append((start, end))
        if len(found) > _PARTS:
            raise BadRequest(f"the multipart form has more than {_PARTS} parts", 413)
        start = end + len(between)
    if not data.startswith(b"--", start):
        raise BadRequest("the multipart form is damaged")
    return found


def _text(name: str, content: memoryview) -> str:
    if len(content) > _TEXT_BYTES:
        raise BadRequest(f"the field {name} is larger than {_TEXT_BYTES // 1024} KiB", 413)
    try:
        return str(content, "utf-8")
    except UnicodeDecodeError as error:
        raise BadRequest(f"the field {name} is not UTF-8") from error


def _part(data: bytes, start: int, end: int) -> tuple[str, str | None, str, memoryview]:
    """Name, file name, media type, content."""
    head_end = data.find(b"\r\n\r\n", start, min(end, start + _HEAD_BYTES))
    if head_end <= start or not data.startswith(b"\r\n", start):
        raise BadRequest("a part of the multipart form is damaged")
    disposition = media = ""
    try:
        lines = data[start + 2 : head_end].decode("utf-8").split("\r\n")
    except UnicodeDecodeError as error:
        raise BadRequest("a part's head is not UTF-8") from error
    for line in lines:
        key, colon, value = line.partition(":")
        if not colon:
            raise BadRequest("a part of the multipart form is damaged")
        if key.strip().lower() == "content-disposition":
            if disposition:
                raise BadRequest("a part has two dispositions")
            disposition = value.strip()
        elif key.strip().lower() == "content-type":
            media = value.strip()
    match = _DISPOSITION.match(disposition)
    if match is None or (media and _MEDIA.match(media) is None):
        raise BadRequest("a part of the multipart form has no plain name or type")
    return match[1], match[2], media, memoryview(data)[head_end + 4 : end]
