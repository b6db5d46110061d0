"""Other keys, as config.yaml asks for them: checked against what there is, and made into Textual's keymap."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.keys import KEY_TO_UNICODE_NAME, Keys, key_to_character

from gpumod_tui.core.catalog.validation import nearest
from gpumod_tui.core.errors import ConfigInvalid

Table = Mapping[str, tuple[str, ...]]
"""Keys by the binding's id."""

_MODIFIERS: Final = frozenset(("ctrl", "shift", "alt", "super", "meta", "hyper"))
_NAMED: Final = {key.value for key in Keys}
_EXPECTED: Final = "keys such as X, ctrl+x, f5, pageup or question_mark, with commas between several"


def table(bindings: Iterable[BindingType]) -> Table:
    """Ids and keys of what can be rebound."""
    known: dict[str, tuple[str, ...]] = {}
    for binding in Binding.make_bindings(bindings):
        if binding.id is not None:
            known[binding.id] = (*known.get(binding.id, ()), binding.key)
    return known


def keymap(wanted: Mapping[str, str], scopes: Sequence[Sequence[type[DOMNode]]], source: str) -> dict[str, str]:
    """Keys by id, for `App.set_keymap`. In each scope a key may mean one thing only, or those that share it anyway.

    Raises: ConfigInvalid, that names `source`, id, key and what is expected.
    """
    tables = [table(binding for kind in scope for binding in kind.BINDINGS) for scope in scopes]
    known = {id_: keys for one in tables for id_, keys in one.items()}
    changed: dict[str, tuple[str, ...]] = {}
    faults: list[str] = []
    for id_, text in wanted.items():
        if id_ not in known:
            faults.append(f"keys.{id_}: found an unknown id, expected {nearest(id_, known)}")
            continue
        keys = tuple(key.strip() for key in (text.split(",") if text != "," else (text,)))
        changed[id_] = tuple(_named(key) for key in keys)
        faults += [f"keys.{id_}: found {key!r}, expected {_EXPECTED}" for key in keys if not _is_key(key)]
    if not faults:
        faults = sorted({fault for one in tables for fault in _clashes({**one, **_of(changed, one)}, one, changed)})
    if faults:
        lines = "\n".join(f"{source}: {fault}" for fault in faults)
        raise ConfigInvalid(lines, hint="gpumod keys lists all ids with their keys")
    # Textual takes a key from all that shared it when one of them moves: so those are named too.
    moved = {key for id_, keys in changed.items() for key in (*keys, *known[id_])}
    beside = {id_: keys for id_, keys in known.items() if moved.intersection(keys)}
    return {id_: ",".join(keys) for id_, keys in {**beside, **changed}.items()}


def rebound(bindings: Iterable[BindingType], keys: Mapping[str, str]) -> Iterator[Binding]:
    """One binding for each key, as `keymap` has it."""
    done: set[str] = set()
    for binding in Binding.make_bindings(bindings):
        if binding.id is None or binding.id not in keys:
            yield binding
        elif binding.id not in done:
            done.add(binding.id)
            yield from (binding.with_key(key) for key in keys[binding.id].split(","))


def told(scopes: Sequence[Sequence[type[DOMNode]]]) -> list[tuple[str, list[str], str]]:
    """Id, keys and what they do."""
    found: dict[str, tuple[list[str], str]] = {}
    for kind in dict.fromkeys(kind for scope in scopes for kind in scope):
        for binding in Binding.make_bindings(kind.BINDINGS):
            if binding.id is not None:
                keys, _ = found.setdefault(binding.id, ([], binding.tooltip or binding.description))
                keys += [_shown(binding.key)] if _shown(binding.key) not in keys else []
    return [(id_, keys, words) for id_, (keys, words) in found.items()]


def _of(changed: Table, scope: Table) -> Table:
    return {id_: keys for id_, keys in changed.items() if id_ in scope}


def _clashes(after: Table, before: Table, changed: Table) -> Iterable[str]:
    pairs = sorted((key, id_) for id_, keys in after.items() for key in keys)
    for key, group in groupby(pairs, key=lambda pair: pair[0]):
        ids = [id_ for _, id_ in group]
        for id_ in ids:
            others = [other for other in ids if other != id_ and not set(before[other]) & set(before[id_])]
            if id_ in changed and others:
                yield f"keys.{id_}: found {_shown(key)}, expected a key that is free: {_shown(key)} is {others[0]}"


def _named(key: str) -> str:
    """`question_mark` for `?`, as Textual calls it."""
    if len(key) != 1 or key.isalnum():
        return key
    (binding,) = Binding.make_bindings([Binding(key, "")]) if key != "," else (Binding("comma", ""),)
    return binding.key


def _is_key(key: str) -> bool:
    *modifiers, base = key.split("+") if len(key) > 1 else [key]
    if not _MODIFIERS.issuperset(modifiers) or not base.isprintable() or not base.strip():
        return False
    if len(base) == 1 or key in _NAMED or base in _NAMED or base in KEY_TO_UNICODE_NAME:
        return True
    try:
        unicodedata.lookup(base.replace("_", " "))
    except KeyError:
        return False
    return base == base.lower()


def _shown(key: str) -> str:
    character = key_to_character(key)
    return character if character is not None and character.isprintable() and character.strip() else key
