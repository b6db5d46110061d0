"""Units as systemd has them loaded, from the text of `systemctl show`."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from gpumod_tui.core.facts import Condition, LoadedUnit

PROPERTIES: Final = (
    "Id",
    "LoadState",
    "ExecCondition",
    "Environment",
    "DropInPaths",
    "NeedDaemonReload",
    "Listen",
)
_CONDITION: Final = re.compile(r"\{ path=(.*?) ; argv\[\]=(.*) ; ignore_errors=(yes|no) ; ")


def loaded_units(units: Sequence[str], text: str) -> dict[str, LoadedUnit]:
    """`text`: what `systemctl show --property=…` prints for the units, in their order."""
    blocks = [block for block in text.strip("\n").split("\n\n") if block]
    found = {unit: _loaded(unit, block) for unit, block in zip(units, blocks, strict=False)}
    return {unit: found.get(unit, LoadedUnit(unit)) for unit in units}


def _loaded(unit: str, block: str) -> LoadedUnit:
    """A property stands on several lines where it has several values."""
    values: dict[str, list[str]] = {}
    for line in block.splitlines():
        name, _, value = line.partition("=")
        values.setdefault(name, []).append(value)
    conditions = [match for text in values.get("ExecCondition", ()) if (match := _CONDITION.search(text))]
    return LoadedUnit(
        unit,
        load_state=values.get("LoadState", ["not-found"])[0],
        conditions=tuple(Condition(match[1], match[2], match[3] == "yes") for match in conditions),
        environment=assignments(" ".join(values.get("Environment", ()))),
        drop_ins=tuple(" ".join(values.get("DropInPaths", ())).split()),
        needs_reload=values.get("NeedDaemonReload", ["no"])[0] == "yes",
        listens=tuple(text.rpartition(" (")[0] or text for text in values.get("Listen", ()) if text),
    )


def assignments(text: str) -> Mapping[str, str] | None:
    """`A=1 "B=two words"` as systemd prints it; None: it cannot be taken apart."""
    try:
        words = shlex.split(text)
    except ValueError:
        return None
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
