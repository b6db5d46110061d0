"""Values of a document held against a Struct, one fault a key."""

import math
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import msgspec

_EXPECTED: Final = re.compile(r"Expected (?P<what>.*?)(?:, got .*)?$")
_AT: Final = re.compile(r"(?P<message>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_SHOWN_CHARACTERS: Final = 80


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one key. The empty key is the whole file."""

    key: str
    found: str
    expected: str


def shown(value: object) -> str:
    """A value as a message shows it: short, and in YAML's words."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean …?)`, or the known words where none is near."""
    import difflib

    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f"{near[0]} (did you mean that?)" if near else f"one of {', '.join(names) or 'none'}"


def check(
    struct: type[msgspec.Struct], document: Mapping[Any, object], prefix: str = ""
) -> tuple[dict[str, Any], list[Fault]]:
    """The converted values of all good keys that are given, and every fault. An optional key's null is not given."""
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for key, value in document.items():
        if key == tag:
            continue
        field = fields.get(key) if isinstance(key, str) else None
        if field is None:
            known = [*fields, *([tag] if tag else [])]
            faults.append(Fault(f"{prefix}{key}", "an unknown field", nearest(str(key), known)))
        elif value is None and not field.required:
            continue
        elif isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            if isinstance(value, Mapping):
                values[key], inner = check(field.type, value, f"{prefix}{key}.")
                faults += inner
            else:
                faults.append(Fault(f"{prefix}{key}", shown(value), "a mapping of keys to values"))
        else:
            try:
                _refuse_strange(value)
                values[key] = msgspec.convert(value, field.type)
            except (msgspec.ValidationError, ValueError) as error:
                faults.append(_fault(f"{prefix}{key}", value, field.type, str(error)))
    faults += [
        Fault(f"{prefix}{name}", "nothing", _description(field.type) or "a value")
        for name, field in fields.items()
        if field.required and name not in document
    ]
    return values, faults


def _refuse_strange(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("Expected `finite number`")
    if isinstance(value, str) and any(_is_no_character(ord(character)) for character in value):
        raise ValueError("Expected `text that UTF-8 can hold`")
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for item in value:
            _refuse_strange(item)


def _is_no_character(code: int) -> bool:
    """Surrogates, which no file can hold, and noncharacters, for which systemd drops the line they stand on."""
    return 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def _fault(key: str, value: object, field_type: object, message: str) -> Fault:
    match = _AT.fullmatch(message)
    path = (match["path"] or "") if match else ""
    found = value
    for index in re.findall(r"\[(\d+)\]", path):
        if isinstance(found, list | tuple):
            found = found[int(index)]
    what = _EXPECTED.match(match["message"] if match else message)
    expected = _description(field_type) or _choices(field_type) or (what["what"].replace("`", "") if what else message)
    return Fault(f"{key}{path.replace('[...]', '')}", shown(found), expected)


def _description(field_type: object) -> str:
    """The description that an Annotated type carries: what people are told is expected."""
    for inner in (field_type, *typing.get_args(field_type)):
        for extra in getattr(inner, "__metadata__", ()):
            if isinstance(extra, msgspec.Meta) and extra.description:
                return extra.description
    return ""


def _choices(field_type: object) -> str:
    """`one of a, b` for an enum or a Literal, also where None is allowed beside it."""
    for inner in (field_type, *typing.get_args(field_type)):
        if isinstance(inner, type) and issubclass(inner, Enum):
            return f"one of {', '.join(str(member.value) for member in inner)}"
        if typing.get_origin(inner) is typing.Literal:
            return f"one of {', '.join(str(choice) for choice in typing.get_args(inner))}"
    return ""
