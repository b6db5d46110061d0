"""A large JSON object, read without making it: as strictly as a small one, piece by piece, in bounded memory. Pure."""

import codecs
import json
import math
import re
from collections.abc import Generator
from typing import Any, Final

from gpumod_tui.guard.http.head import BadRequest

VALUES: Final = 500_000
"""Of all kinds and keys, together; plain numbers in a list are not counted."""
DEPTH: Final = 500
_STEPS: Final = 250
"""Between two pauses; each takes about a microsecond, and a window less than a millisecond."""
_WINDOW: Final = 64 * 1024
_NUMBER_CHARS: Final = 4300
"""Python's own limit for integers."""
_FINITE_CHARS: Final = 300
"""A number with so many, and without an exponent, is finite."""
_MODEL_BYTES: Final = 16 * 1024

_GROUPS: Final = 500
"""Repetitions of a group in one match. Not possessive: up to Python 3.11.4 a possessive group matches wrongly
(python/cpython issue 106052); a greedy one remembers each repetition."""

_SPACE: Final = re.compile(rb"[ \t\n\r]*+")
_PLAIN: Final = rb'[^"\\\x00-\x1f]*+'
_ESCAPE: Final = (
    rb'\\(?:["\\/bfnrt]|u(?:[0-9A-CEFa-cef][0-9A-Fa-f]{3}|[Dd][0-7][0-9A-Fa-f]{2}'
    rb"|[Dd][89ABab][0-9A-Fa-f]{2}\\u[Dd][C-Fc-f][0-9A-Fa-f]{2}))"
)
_PIECE: Final = re.compile(_PLAIN + rb"(?:" + _ESCAPE + _PLAIN + rb"){0,%d}" % _GROUPS)
_HALF: Final = re.compile(rb"\\u[Dd][89A-Fa-f][0-9A-Fa-f]{2}")
_NUMBER: Final = re.compile(
    rb"-?(?:0|[1-9][0-9]{0,%d}+)(?:\.[0-9]{1,%d}+)?(?:[eE][-+]?[0-9]{1,%d}+)?" % ((_NUMBER_CHARS,) * 3)
)
_NUMBERS: Final = re.compile(
    rb"(?:[ \t\n\r]{0,64}+-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,40}+)?(?:[eE](?:-[0-9]{1,3}+|\+?[0-9]{1,2}+))?"
    rb"[ \t\n\r]{0,9}+,){1,%d}" % _GROUPS
)
_WORDS: Final = {b"t": b"true", b"f": b"false", b"n": b"null"}

Pauses = Generator[None, None, None]


def scan_object(data: bytes, window: int = _WINDOW) -> Generator[None, None, dict[str, Any]]:
    """Pauses often; returns the object's `model` alone, if it has one. Raises: BadRequest, status 413 where it holds
    more values than anybody needs.

    `window`: bytes looked at between two pauses, 16 at least.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(data), window):
        try:
            decoder.decode(data[start : start + window], final=start + window >= len(data))
        except UnicodeDecodeError as error:
            raise BadRequest(f"the body is not UTF-8 (about byte {start + error.start})") from error
        yield
    return (yield from _Scan(data, window).run())


class _Scan:
    """`at`: the place in the text."""

    def __init__(self, data: bytes, window: int) -> None:
        self.data = data
        self.window = window
        self.at = 0
        self.values = 0
        self.around: list[set[bytes] | None] = []
        """The keys of each object around the place; None: a list."""

    def run(self) -> Generator[None, None, dict[str, Any]]:
        """Of the whole text."""
        yield from self._space()
        if self.data[self.at : self.at + 1] != b"{":
            raise BadRequest("the body is no JSON object")
        found: dict[str, Any] = {}
        model_at: int | None = None
        steps = 0
        while True:
            steps += 1
            if steps % _STEPS == 0:
                yield
            if self.around and self.around[-1] is None:
                yield from self._numbers()
            first = self.data[self.at : self.at + 1]
            if first in (b"{", b"["):
                self._open(first)
                yield from self._space()
                if not self._closes():
                    if first == b"{" and (yield from self._key()):
                        model_at = self.at
                    continue
            elif first == b'"':
                yield from self._string()
            else:
                self._word(first)
            while True:
                if model_at is not None and len(self.around) == 1:
                    found["model"] = _model(self.data[model_at : self.at])
                    model_at = None
                yield from self._space()
                if not self._closes():
                    break
            if not self.around:
                break
            if self.data[self.at : self.at + 1] != b",":
                raise self._wrong()
            self.at += 1
            yield from self._space()
            if self.around[-1] is not None and (yield from self._key()):
                model_at = self.at
        if self.at != len(self.data):
            raise self._wrong()
        return found

    def _count(self) -> None:
        self.values += 1
        if self.values > VALUES:
            raise BadRequest(f"the body holds more than {VALUES} values", 413)

    def _open(self, bracket: bytes) -> None:
        self._count()
        if len(self.around) == DEPTH:
            raise BadRequest("the body is nested too deeply")
        self.around.append(set() if bracket == b"{" else None)
        self.at += 1

    def _closes(self) -> bool:
        if not self.around or self.data[self.at : self.at + 1] != (b"]" if self.around[-1] is None else b"}"):
            return False
        self.around.pop()
        self.at += 1
        return True

    def _key(self) -> Generator[None, None, bool]:
        """To where its value begins; whether that is the model."""
        if self.data[self.at : self.at + 1] != b'"':
            raise self._wrong()
        start = self.at
        yield from self._string()
        key = self.data[start + 1 : self.at - 1]
        if b"\\" in key:
            key = json.loads(self.data[start : self.at]).encode()
        keys = self.around[-1]
        assert keys is not None
        if key in keys:
            raise BadRequest("the body is no JSON: a key is given more than once")
        keys.add(key)
        yield from self._space()
        if self.data[self.at : self.at + 1] != b":":
            raise self._wrong()
        self.at += 1
        yield from self._space()
        return key == b"model" and len(self.around) == 1

    def _string(self) -> Pauses:
        self._count()
        self.at += 1
        while True:
            match = _PIECE.match(self.data, self.at, self.at + self.window)
            assert match is not None
            end = match.end()
            if self.data[end : end + 1] == b'"':
                self.at = end + 1
                return
            if end == self.at:
                if _HALF.match(self.data, self.at):
                    raise BadRequest("the body holds half a surrogate pair")
                raise self._wrong()
            self.at = end
            yield

    def _word(self, first: bytes) -> None:
        self._count()
        word = _WORDS.get(first)
        if word is not None and self.data.startswith(word, self.at):
            self.at += len(word)
            return
        match = _NUMBER.match(self.data, self.at)
        if match is None:
            raise self._wrong()
        if len(match[0]) > _FINITE_CHARS or b"e" in match[0].lower():
            if len(match[0]) > _NUMBER_CHARS:
                raise BadRequest(f"the body is no JSON: {match[0][:20].decode()} is too long")
            if not match[0].lstrip(b"-").isdigit() and not math.isfinite(float(match[0])):
                raise BadRequest(f"the body is no JSON: {match[0][:20].decode()} is too large")
        self.at = match.end()

    def _numbers(self) -> Pauses:
        """Plain ones, each with a comma after it."""
        while (match := _NUMBERS.match(self.data, self.at, self.at + self.window)) is not None:
            self.at = match.end()
            yield
        yield from self._space()

    def _space(self) -> Pauses:
        while True:
            match = _SPACE.match(self.data, self.at, self.at + self.window)
            assert match is not None
            whole = match.end() - self.at == self.window
            self.at = match.end()
            if not whole:
                return
            yield

    def _wrong(self) -> BadRequest:
        if self.at >= len(self.data):
            return BadRequest("the body is no JSON: it ends too early")
        return BadRequest(f"the body is no JSON: byte {self.at} is unexpected")


def _model(raw: bytes) -> Any:
    if raw[:1] in (b"{", b"["):
        return []
    if len(raw) > _MODEL_BYTES:
        raise BadRequest("model is no name")
    return json.loads(raw)
