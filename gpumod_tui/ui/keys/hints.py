"""Keys as an operator reads them: the footer's hints and the help, both made from bindings."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from textual.binding import ActiveBinding, Binding
from textual.dom import DOMNode

HERE: Final = "here"
"""The topic of what only the screen on top binds."""
TOPICS: Final[Mapping[str, str]] = {
    HERE: "This screen",
    "mode": "Modes and switches",
    "unit": "Units",
    "log": "Journal",
    "gpu": "GPUs",
    "app": "Everywhere",
}
"""By the first word of a binding's id; in the order of the help."""

MOVE: Final = Binding.Group("move in the pane")
"""Keys that only move a cursor, in help one row."""

_URGENT: Final = ("mode.drop", "mode.cancel", "mode.retry")
ENDS: Final = ("app.help", "app.quit")
"""What the footer never leaves out."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A key, or several, and what it does."""

    key: str
    words: str
    press: str = ""
    """Textual's name of the key, where it is one key."""


def hints(active: Mapping[str, ActiveBinding], display: Callable[[Binding], str]) -> tuple[Hint, ...]:
    """What the footer offers: of the focused pane, the screen, the app, each in the order in which it declares them.

    A group of bindings is one hint, `1-9 mode`; of a binding with several keys the shortest is shown.
    """
    done: dict[object, Hint] = {}
    for entry in sorted(active.values(), key=_declared):
        binding = entry.binding
        if not binding.show or not entry.enabled or binding.id in ENDS:
            continue
        key = display(binding)
        place = binding.group or binding.id or binding.action
        before = done.get(place)
        if binding.group:
            first = before.key.partition("-")[0] if before is not None else ""
            done[place] = Hint(f"{first}-{key}" if first else key, binding.group.description)
        elif before is None or len(key) < len(before.key):
            done[place] = Hint(key, binding.description, binding.key)
    return tuple(done.values())


def _declared(entry: ActiveBinding) -> tuple[int, int]:
    """Widgets have more ancestors than screens, screens more than the app. First of all what a switch waits for."""
    if entry.binding.id in _URGENT:
        return -1000, _URGENT.index(entry.binding.id)
    return -len(entry.node.ancestors), _places(type(entry.node)).get(entry.binding.id, -1)


@cache
def _places(kind: type[DOMNode]) -> dict[str | None, int]:
    return {binding.id: place for place, binding in enumerate(Binding.make_bindings(kind.BINDINGS))}


def ends(
    active: Mapping[str, ActiveBinding], display: Callable[[Binding], str], ids: tuple[str, ...] = ENDS
) -> tuple[Hint, ...]:
    """What has a place of its own: help and quit, or other bindings, in the order of their ids."""
    found = [(entry.binding, display(entry.binding)) for entry in active.values() if entry.binding.id in ids]
    found.sort(key=lambda pair: (ids.index(str(pair[0].id)), len(pair[1])))
    return tuple(
        {binding.id: Hint(key, binding.description, binding.key) for binding, key in reversed(found)}.values()
    )[::-1]


def named(
    active: Mapping[str, ActiveBinding], display: Callable[[Binding], str], wanted: Iterable[tuple[str, str]]
) -> tuple[Hint, ...]:
    """Those of `wanted`, ids of bindings with words of their own, that act now; of several keys the one named first."""
    found: dict[str | None, Binding] = {}
    for entry in active.values():
        if entry.enabled:
            found.setdefault(entry.binding.id, entry.binding)
    return tuple(Hint(display(found[id_]), words, found[id_].key) for id_, words in wanted if id_ in found)


def topics(bindings: Iterable[Binding], display: Callable[[Binding], str]) -> dict[str, list[Hint]]:
    """All keys by topic, whether they are valid now or not; those of no topic are of this screen."""
    found: dict[str, dict[object, tuple[list[str], str]]] = {topic: {} for topic in TOPICS}
    for binding in bindings:
        if binding.id is None or not binding.description:
            continue
        topic = binding.id.partition(".")[0]
        topic = topic if topic in found else HERE
        words = binding.group.description if binding.group else binding.tooltip or binding.description
        keys, _ = found[topic].setdefault(binding.group or binding.id, ([], words))
        if display(binding) not in keys:
            keys.append(display(binding))
    return {
        topic: [Hint(_together(keys), words) for keys, words in rows.values()] for topic, rows in found.items() if rows
    }


def _together(keys: list[str]) -> str:
    """`1-9` for a run of figures."""
    if len(keys) > 2 and all(key.isdecimal() for key in keys):
        return f"{keys[0]}-{keys[-1]}"
    return " ".join(keys)
