"""`gpumod doctor`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

import click

from gpumod_tui.cli._output import json_option, print_json, say
from gpumod_tui.core.doctor.facts import Finding, InstalledUnit, Severity
from gpumod_tui.core.models import Service
from gpumod_tui.wiring import RealHost, real_host

_TITLES: Final = {Severity.ERROR: "Errors", Severity.WARNING: "Warnings", Severity.OK: "In order"}


@click.command()
@json_option
@click.pass_context
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Check the box: what is wrong, why that matters, what to do. Exit 1: there are errors."""
    from gpumod_tui.core.doctor.run import Doctor

    host = real_host()
    found = Doctor(host, host.facts, lambda services: _installed(host, services)).examine()
    errors = _count(found, Severity.ERROR)
    if as_json:
        counts = {str(severity): _count(found, severity) for severity in Severity}
        print_json({"ok": not errors, "counts": counts, "findings": [asdict(one) for one in found]})
    else:
        _print(found)
    context.exit(1 if errors else 0)


def _installed(host: RealHost, services: Sequence[Service]) -> list[InstalledUnit]:
    from gpumod_tui.cli.install.plan import survey
    from gpumod_tui.core.models import UnitState

    files = host.unit_files
    found = [
        InstalledUnit(
            service.id,
            service.unit,
            str(entry.path),
            str(entry.state),
            entry.before,
            entry.problem,
            files.unsafe_drop_ins(service),
            files.missing_files(service, UnitState(service.unit)),
            service.api_key_file if files.is_open_to_others(service.api_key_file) else None,
        )
        for service, entry in zip(services, survey(host, services), strict=True)
    ]
    return [*found, *_guards(host, services)]


def _guards(host: RealHost, services: Sequence[Service]) -> list[InstalledUnit]:
    from gpumod_tui.adapters.systemd.render import render_guard
    from gpumod_tui.core.units.guard import guarded_ports

    files = host.unit_files
    return [
        InstalledUnit(
            "",
            unit,
            str(files.path(unit)),
            str(files.installed(unit, wanted)),
            files.text(unit) or "",
            unsafe_drop_ins=files.unsafe_drop_ins(unit),
        )
        for unit, wanted in render_guard(guarded_ports(services)).items()
    ]


def _count(found: Sequence[Finding], severity: Severity) -> int:
    return sum(one.severity is severity for one in found)


def _print(found: Sequence[Finding]) -> None:
    for severity, title in _TITLES.items():
        group = [one for one in found if one.severity is severity]
        if not group:
            continue
        say(f"{title}")
        for one in group:
            say(f"  {one.check:<8} {one.what}")
            for label, text in (("why", one.why), ("do", one.todo)):
                if text:
                    say(f"           {label + ':':<4} {text}")
        say()
    errors, warnings, fine = (_count(found, severity) for severity in Severity)
    say(f"{_number(errors, 'error')}, {_number(warnings, 'warning')}, {fine} in order")


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count or 'no'} {word}s"
