"""`gpumod preset`: the files that define services and modes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpumod_tui.cli._output import json_option, print_json, print_table, say, warn_of_presets
from gpumod_tui.core.errors import ConfigInvalid

if TYPE_CHECKING:
    from gpumod_tui.core.catalog.registry import ServiceRegistry


@click.group()
def preset() -> None:
    """List and check presets, the files that define services and modes."""


@preset.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List services and modes with the file that defines each."""
    from gpumod_tui.wiring import real_host

    registry = real_host().registry
    rows = [
        *(("service", item.id, item.name, item.source) for item in registry.services.values()),
        *(("mode", item.id, item.name, item.source) for item in registry.modes.values()),
    ]
    if as_json:
        presets = [
            {"kind": kind, "id": name, "name": title, "file": str(source) if source else None}
            for kind, name, title, source in rows
        ]
        print_json({"presets": presets, **_complaints(registry)})
        return
    print_table(
        ("KIND", "ID", "NAME", "FILE"),
        [(kind, name, title, str(source or "built in")) for kind, name, title, source in rows],
    )
    warn_of_presets(registry)


@preset.command()
@json_option
def schema(as_json: bool) -> None:
    """Print the JSON schema of preset files, for editors."""
    del as_json  # it is JSON either way
    from gpumod_tui.core.catalog.schema import json_schema

    print_json(json_schema())


@preset.command()
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
@json_option
@click.pass_context
def check(context: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """Say everything that is wrong with FILEs, or with all presets. A folder stands for the files below it."""
    from gpumod_tui.adapters.files.presets import check_files
    from gpumod_tui.core.units.managed import read_gpus
    from gpumod_tui.wiring import real_host

    missing = [str(path) for path in files if not path.exists()]
    if missing:
        raise ConfigInvalid(f"no such file: {', '.join(missing)}")
    host = real_host()
    registry = check_files(host.places, [path.absolute() for path in files]) if files else host.registry
    reading, _ = read_gpus(host, processes=False)
    services = registry.services.values()
    measured = host.needs.underdeclared(services, reading)
    offers = host.needs.overdeclared(services, reading)
    if as_json:
        print_json({**_complaints(registry, measured), "notes": offers})
    else:
        for problem in registry.problems:
            say(str(problem))
        for warning in (*registry.warnings, *measured):
            say(f"warning: {warning}")
        for offer in offers:
            say(f"note: {offer}")
        if not registry.problems:
            what = f"{len(files)} given" if files else f"{len(registry.services)} services, {len(registry.modes)} modes"
            say(f"No problems ({what}).")
    context.exit(1 if registry.problems else 0)


def _complaints(registry: ServiceRegistry, measured: tuple[str, ...] = ()) -> dict[str, object]:
    return {
        "problems": [
            {"file": str(item.source), "key": item.key, "found": item.found, "expected": item.expected}
            for item in registry.problems
        ],
        "warnings": [*registry.warnings, *measured],
    }
