"""Everything that can be done now, as a list of words: what the command palette offers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from textual.actions import parse
from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode

from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.keys.hints import TOPICS
from gpumod_tui.ui.keys.keymap import rebound


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be done."""

    words: str
    key: str
    action: str
    node: DOMNode
    unit: str = ""
    """Service id of the unit to be selected first; empty: it does not matter."""

    def matches(self, needle: str) -> bool:
        """Every word of it is found here."""
        words = self.words.casefold()
        return all(part in words for part in needle.casefold().split())


_MOVES: Final = frozenset(("move", "page", "end", "look", "app.focus_next", "app.focus_previous"))
"""What only moves a cursor."""


def entries(app: App[None], board: Dashboard, modes: Iterable[str], keymap: Mapping[str, str]) -> tuple[Entry, ...]:
    """Modes, what there is for each unit, then all else by topic. Only what is valid now."""
    nodes: tuple[DOMNode, ...] = (board, board.units, board.journal, board.gpus, app)
    bindings = [(node, binding) for node in nodes for binding in rebound(node.BINDINGS, keymap)]
    found: dict[object, Entry] = {}
    for number, mode in enumerate(modes, 1):
        if board.check_action("mode", (number,)):
            key = next((app.get_key_display(one) for _, one in bindings if one.id == f"mode.{number}"), "")
            found[mode, "mode"] = Entry(f"Switch to {mode}", key, f"mode({number})", board)
    for view in board.units.each_selected():
        for node, binding in bindings:
            if node is board and _of_units(binding) and _valid(node, binding.action):
                words = f"{view.id}: {binding.description}"
                found.setdefault((view.id, binding.id), _entry(app, words, binding, node, view.id))
    for topic, title in TOPICS.items():
        for node, binding in bindings:
            if (binding.id or "").partition(".")[0] != topic or binding.action.partition("(")[0] in _MOVES:
                continue
            if binding.group is not None or (node is board and _of_units(binding)):
                continue
            if binding.description and _valid(node, binding.action):
                words = f"{title}: {binding.tooltip or binding.description}"
                found.setdefault(binding.id, _entry(app, words, binding, node))
    return tuple(found.values())


def _entry(app: App[None], words: str, binding: Binding, node: DOMNode, unit: str = "") -> Entry:
    return Entry(words, app.get_key_display(binding), binding.action, node, unit)


def _of_units(binding: Binding) -> bool:
    return (binding.id or "").startswith("unit.")


def _valid(node: DOMNode, action: str) -> bool:
    _, name, parameters = parse(action)
    return bool(node.check_action(name, parameters))
