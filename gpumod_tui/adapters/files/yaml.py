"""YAML of small files, read strictly. Importing yaml costs 16 ms: only what really parses imports this module."""

import os
import stat
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from gpumod_tui.core.catalog.validation import Fault

LARGEST_BYTES: Final = 1024**2
_MOST_VALUES: Final = 20_000
"""With every alias written out."""
_DEEPEST: Final = 50
_KINDS: Final = {stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFDIR: "a folder"}
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Base):  # type: ignore[misc]
    """Refuses what YAML itself lets through: one key twice in a mapping, and aliases that multiply."""

    def get_single_data(self) -> Any:
        root = self.get_single_node()
        if root is None:
            return None
        waiting, counted = [root], 0
        while waiting:
            node = waiting.pop()
            counted += 1
            if counted > _MOST_VALUES:
                raise yaml.constructor.ConstructorError(None, None, "too many values", root.start_mark)
            if isinstance(node, yaml.MappingNode):
                waiting += [part for pair in node.value for part in pair]
            elif isinstance(node, yaml.SequenceNode):
                waiting += node.value
        return self.construct_document(root)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is None:
                raise yaml.constructor.ConstructorError(None, None, "a key that is no word", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} twice", key_node.start_mark)
            seen.add(key)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return mapping


def read_yaml(path: Path) -> tuple[object, str, Fault | None]:
    """(content, text, fault): the one document of a file. With a fault there is no content."""
    try:
        # A named pipe without a writer would hold up whoever opens it, and with it every command.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
            if kind != stat.S_IFREG:
                return None, "", Fault("", _KINDS.get(kind, "no file"), "a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                raw = file.read(LARGEST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        return None, "", Fault("", error.strerror or str(error), "a file that can be read")
    if len(raw) > LARGEST_BYTES:
        return None, "", Fault("", f"more than {LARGEST_BYTES // 1024} KiB", "a small YAML file")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return None, raw.decode("utf-8", "replace"), Fault("", f"a byte at {error.start} that is no UTF-8", "UTF-8")
    return parse_yaml(text)


def parse_yaml(text: str) -> tuple[object, str, Fault | None]:
    """As `read_yaml`, from text."""
    try:
        _refuse_depth(text)
        return yaml.load(text, Loader=_StrictLoader), text, None  # noqa: S506 - a SafeLoader underneath
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        # The parser's own words are sentences ("did not find expected ':'"), ours are things.
        found = error.problem if isinstance(error, yaml.constructor.ConstructorError) else f"no YAML: {error.problem}"
        return None, text, Fault("", f"{found}{place}", "YAML with one mapping")
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else "what cannot be read"
        return None, text, Fault("", reason, "YAML with one mapping")


def _refuse_depth(text: str) -> None:
    """libyaml builds nested values by recursion in C: a file of brackets would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise yaml.YAMLError("too deep nesting")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def write_yaml(content: dict[str, object]) -> str:
    """The content as YAML, in its own order."""
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=False)
    return text


def with_keys(text: str, changes: Mapping[str, object]) -> str:
    """The text with these top-level keys set: in place of their old lines, else, if that goes wrong, written anew.

    Other keys stay, and their comments where the form allows.
    """
    content, _, _ = parse_yaml(text)
    wanted: dict[str, Any] = {**(content if isinstance(content, dict) else {}), **changes}
    lines: list[str] = []
    dropping = False
    for line in text.splitlines():
        if line and line[0] not in " \t#-":
            dropping = line.partition(":")[0].strip("'\" ") in changes
        if not dropping or line.startswith("#"):
            lines.append(line)
    edited = "\n".join([*lines, write_yaml(dict(changes))])
    return edited if parse_yaml(edited)[0] == wanted else write_yaml(wanted)
