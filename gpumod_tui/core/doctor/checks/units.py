"""Unit files and what systemd has loaded of them: whether they match the presets and ask for admission."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from gpumod_tui.core.doctor.facts import Condition, Facts, Finding, InstalledUnit, LoadedUnit, error, fine, warning

_UNITS: Final = "units"
_DOOR: Final = "door"
_IN_FILE: Final = re.compile(r"^ExecCondition=[^-\n].*\bpreflight +--unit +(%n|\S+)", re.MULTILINE)
_ASKS: Final = " preflight --unit"
_NOT_BEHIND: Final = "it starts without asking whether its VRAM is free, and can exhaust the GPU"


def check_unit_files(installed: Sequence[InstalledUnit], orphans: Iterable[str]) -> Iterator[Finding]:
    """How each unit file stands to its preset."""
    current = 0
    for one in installed:
        current += one.state == "current" and not one.unsafe_drop_ins
        install = f"gpumod template install {one.service_id}".rstrip()
        if one.problem:
            yield warning(_UNITS, f"{one.unit}: {one.problem}", "it cannot be said what its unit should be", install)
        elif one.state == "missing":
            why = "its service cannot be started" if one.service_id else "nobody stands before the routers' ports"
            yield warning(_UNITS, f"{one.unit} is not installed", why, f"{install} --yes")
        elif one.state == "outdated":
            why = "what runs is not what the preset says"
            yield warning(_UNITS, f"{one.unit} is outdated", why, f"{install} --yes")
        elif one.state in ("hand-edited", "foreign"):
            why = "it is kept as it is: changes of the preset do not reach it"
            yield warning(_UNITS, f"{one.unit} is {one.state}: {one.path}", why, f"{install} --force --yes")
        for text in one.unsafe_drop_ins:
            why = "it changes what safety hangs on"
            yield error(_UNITS, f"{one.unit}: drop-in {text}", why, f"systemctl --user revert {one.unit}, or remove it")
        for text in one.missing:
            say = error if one.is_there else warning
            yield say(_UNITS, f"{one.unit}: {text}", "it cannot start", f"put it there, or correct {_preset(one)}")
        if one.open_key_file is not None:
            yield warning(
                _UNITS,
                f"{one.unit}: its key file {one.open_key_file} can be read by others",
                "they can use the server with it",
                f"chmod 600 {one.open_key_file}",
            )
    for unit in orphans:
        yield warning(
            _UNITS,
            f"{unit} was written by gpumod, and its preset is gone or broken",
            "the door refuses its starts, for its need is unknown",
            f"gpumod preset list, or systemctl --user stop {unit} and remove its file",
        )
    if current:
        yield fine(_UNITS, f"{current} of {len(installed)} unit files are in step with their presets")


def _preset(one: InstalledUnit) -> str:
    return f"its preset (gpumod service status {one.service_id} names the file)"


def check_door(installed: Sequence[InstalledUnit], loaded: Mapping[str, LoadedUnit]) -> Iterator[Finding]:
    """Every unit asks for its VRAM before it starts: by its file, and by what systemd has loaded of it."""
    behind = 0
    ids = {one.unit: one for one in installed}
    for unit, found in loaded.items():
        one = ids.get(unit)
        if found.load_state == "not-found" and (one is None or not one.is_there):
            continue
        install = f"gpumod template install {one.service_id} --force --yes" if one else f"systemctl --user cat {unit}"
        in_file = one is None or not one.is_there or _asks(one.text, unit)
        if not in_file:
            yield error(_DOOR, f"{unit} has no ExecCondition= of gpumod in its file", _NOT_BEHIND, install)
        if found.load_state in ("bad-setting", "error"):
            yield error(
                _DOOR,
                f"systemd cannot load {unit} ({found.load_state})",
                "it cannot be started",
                f"systemd-analyze --user verify {unit}",
            )
        elif found.load_state == "loaded":
            trouble = _trouble(found)
            if trouble and in_file:
                yield error(_DOOR, f"{unit} as systemd has it loaded {trouble}", _NOT_BEHIND, _way_back(found))
            behind += not trouble and in_file
        if found.needs_reload:
            why = "systemd starts it as it was before"
            yield warning(_DOOR, f"{unit} was changed since systemd read it", why, "systemctl --user daemon-reload")
    if behind:
        yield fine(_DOOR, f"units that ask for their VRAM before they start (ExecCondition): {behind}")


def _asks(text: str, unit: str) -> bool:
    return any(match[1] in ("%n", unit) for match in _IN_FILE.finditer(text.replace("\\\n", " ")))


def _trouble(found: LoadedUnit) -> str:
    """What is wrong with its conditions, in words; empty: nothing."""
    own = [one for one in found.conditions if _ASKS in one.command]
    if not own:
        return "has no ExecCondition= of gpumod"
    if not any(one.command.split(_ASKS, 1)[1].split()[:1] == [found.unit] for one in own):
        return "asks for another unit's VRAM"
    return "does not heed its ExecCondition= (written with `-`)" if all(one.ignores_failure for one in own) else ""


def _way_back(found: LoadedUnit) -> str:
    if found.needs_reload:
        return "systemctl --user daemon-reload"
    if found.drop_ins:
        return f"remove what takes it away: {', '.join(found.drop_ins)}; then systemctl --user daemon-reload"
    return "systemctl --user daemon-reload"


def check_condition_programs(loaded: Iterable[LoadedUnit], facts: Facts) -> Iterator[Finding]:
    """The gpumod that the units ask is there, and is the one that runs now."""
    commands: dict[tuple[str, ...], list[str]] = {}
    for found in loaded:
        for one in found.conditions:
            if _ASKS in one.command:
                commands.setdefault(_program(one), []).append(found.unit)
    for words, units in commands.items():
        names = ", ".join(units)
        if not facts.is_program(words[0]):
            yield error(
                _DOOR,
                f"{words[0]}, which decides for {names}, is not there or cannot be run",
                "none of them can start",
                "gpumod template install --yes",
            )
        else:
            yield _version(words, names, facts.version_told_by(words), facts.own_version())


def _version(words: Sequence[str], names: str, theirs: str | None, ours: str | None) -> Finding:
    if ours is None:
        return fine(_DOOR, f"{words[0]} decides for {names}")
    if theirs is None:
        return error(
            _DOOR,
            f"{' '.join(words)}, which decides for {names}, does not tell its version",
            "a gpumod that does not run refuses every start",
            f"{' '.join(words)} --version",
        )
    if theirs != ours:
        return warning(
            _DOOR,
            f"gpumod {theirs} ({words[0]}) decides for {names}, and this is gpumod {ours}",
            "two versions may read the ledger and presets differently",
            "gpumod template install --yes, from the one that is to stay",
        )
    return fine(_DOOR, f"gpumod {theirs}, as this one is, decides for {names}")


def _program(one: Condition) -> tuple[str, ...]:
    """The command before its subcommand: `/usr/bin/gpumod`, or `/v/bin/python -m gpumod_tui`."""
    return (one.path, *one.command.split(_ASKS, 1)[0].removeprefix(one.path).split())
