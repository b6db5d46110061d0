"""`gpumod template`: the units, shown, compared and installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from gpumod_tui.cli._output import json_option, print_json, print_table, say, say_text, warn, warn_of_presets
from gpumod_tui.cli.install.plan import Action, Entry, all_refused, orphans, survey, survey_guard
from gpumod_tui.cli.install.run import apply
from gpumod_tui.core.catalog.validation import nearest
from gpumod_tui.core.errors import UnknownName

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group()
def template() -> None:
    """Show, compare and install the systemd units of services."""


@template.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List services with the state of their unit file."""
    from gpumod_tui.wiring import real_host

    host = real_host()
    entries = [*survey(host, list(host.registry.services.values())), *survey_guard(host)]
    gone = orphans(host)
    if as_json:
        print_json({"units": [entry.as_json() for entry in entries], "orphans": gone})
        return
    rows = [(entry.name, str(entry.state), entry.template, str(entry.path)) for entry in entries]
    print_table(("SERVICE", "STATE", "TEMPLATE", "UNIT"), rows)
    _say_notes(entries)
    _say_orphans(gone)
    warn_of_presets(host.registry)


@template.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Print the template NAME (the kind of server, `base`, or a unit of the guard)."""
    from gpumod_tui.adapters.systemd.render import template_names, template_text

    wanted = name.removesuffix(".j2")
    wanted = wanted if wanted in template_names() else wanted.removesuffix(".service")
    if wanted not in template_names():
        raise UnknownName(f"no template {name!r}", hint=nearest(wanted, template_names()))
    text = template_text(wanted)
    if as_json:
        print_json({"template": wanted, "text": text})
    else:
        say_text(text)


@template.command()
@click.argument("service_id", metavar="ID")
@json_option
def generate(service_id: str, as_json: bool) -> None:
    """Print the unit of service ID as it would be installed."""
    from gpumod_tui.adapters.systemd.render import render_unit
    from gpumod_tui.core.errors import GpuUnavailable
    from gpumod_tui.wiring import real_host

    host = real_host()
    service = host.registry.service(service_id)
    (entry,) = survey(host, [service])
    if entry.wanted is None:
        try:
            render_unit(service, None)
        except GpuUnavailable as error:
            raise GpuUnavailable(entry.problem, hint=error.hint) from error
    assert entry.wanted is not None
    if as_json:
        print_json({"service": service.id, "unit": service.unit, "text": entry.wanted})
    else:
        say_text(entry.wanted)


@template.command()
@click.argument("service_ids", metavar="[ID]...", nargs=-1)
@click.option("--yes", is_flag=True, help="Write the units; without it, only the difference is shown.")
@click.option("--force", is_flag=True, help="Replace also what was edited by hand, or is not gpumod's.")
@json_option
@click.pass_context
def install(context: click.Context, service_ids: tuple[str, ...], yes: bool, force: bool, as_json: bool) -> None:
    """Install the units of services; of all, if no ID is given."""
    from gpumod_tui.wiring import real_host

    host = real_host()
    chosen = [host.registry.service(name) for name in dict.fromkeys(service_ids)] or list(
        host.registry.services.values()
    )
    entries = survey(host, chosen, force=force)
    if not service_ids or any(service.is_guarded for service in chosen):
        entries += survey_guard(host, force=force)
    done = apply(host, entries) if yes else None
    gone = [] if service_ids else orphans(host)
    if as_json:
        content = {
            "applied": yes,
            "units": [entry.as_json() for entry in entries],
            "orphans": gone,
            "recorded": list(done.recorded) if done else [],
            "guard": list(done.guard) if done else [],
            "errors": list(done.errors) if done else [],
        }
        print_json(content)
    elif done is None:
        _preview(entries, service_ids, force)
    else:
        for entry in entries:
            say(f"{entry.unit}: {entry.outcome}")
        for sentence in done.guard:
            say(sentence)
        for key in done.recorded:
            say(f"config.yaml: {key} recorded, where units see it too")
    if not as_json:
        _say_notes(entries)
        _say_orphans(gone)
        warn_of_presets(host.registry)
    for error in done.errors if done else ():
        say(f"gpumod: {error}", err=True)
    context.exit(_exit_code(entries, done is not None, bool(done and done.errors)))


def _exit_code(entries: Sequence[Entry], applied: bool, failed: bool) -> int:
    """1: some units are in place, some not. 3: refused, nothing was touched. A look at the difference is always 0."""
    if not applied:
        return 0
    if all_refused(entries):
        return 3
    return 1 if failed or any(entry.action is Action.REFUSE for entry in entries) else 0


def _preview(entries: Sequence[Entry], service_ids: Sequence[str], force: bool) -> None:
    for entry in entries:
        say_text(entry.diff)
    writing = sum(entry.action in (Action.WRITE, Action.REMOVE) for entry in entries)
    if writing:
        command = " ".join(["gpumod template install", *service_ids, *(["--force"] if force else []), "--yes"])
        say(f"Nothing was changed. To install {writing} of {len(entries)} units: {command}")
    else:
        refused = sum(entry.action is Action.REFUSE for entry in entries)
        what = f"{refused} of {len(entries)} units cannot be installed" if refused else "there is nothing to install"
        say(f"Nothing was changed, and {what}.")


def _say_notes(entries: Sequence[Entry]) -> None:
    for entry in entries:
        for note in (*([entry.problem] if entry.problem else []), *entry.notes):
            warn(f"{entry.name}: {note}")


def _say_orphans(gone: Sequence[str]) -> None:
    for unit in gone:
        warn(f"{unit}: gpumod's unit, and its preset is gone or broken")
