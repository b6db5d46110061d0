"""`gpumod service`."""

import signal
import sys
import threading
from dataclasses import replace

import click

from gpumod_tui.cli._options import timeout_option
from gpumod_tui.cli._output import clock_time, json_option, print_json, print_table, say, warn, warn_of_presets
from gpumod_tui.cli._switching import run_switch
from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.core.models import LogLine, ServiceView
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.text import format_mib
from gpumod_tui.core.units.actions import UnitAct, Verb
from gpumod_tui.wiring import real_host

_INTERRUPT_S = 0.2
"""How long Ctrl-C may wait while nothing is written."""


@click.group()
def service() -> None:
    """Show, start and stop single services."""


@service.command("list")
@json_option
def list_services(*, as_json: bool) -> None:
    """List all services and managed units."""
    from gpumod_tui.cli.status import look, service_row

    host = real_host()
    snapshot, _ = look(host)
    if snapshot.units_error and not snapshot.services:
        raise SystemdUnavailable(snapshot.units_error)
    if as_json:
        print_json({"services": snapshot.services, "problems": [str(one) for one in host.registry.problems]})
        return
    headers = ("UNIT", "STATE", "READY", "PORT", "VRAM GiB", "MODEL", "SINCE")
    print_table(headers, [service_row(view) for view in snapshot.services])
    warn_of_presets(host.registry)


@service.command("status")
@click.argument("service_id", metavar="SERVICE")
@json_option
def service_status(service_id: str, *, as_json: bool) -> None:
    """Show one service."""
    from gpumod_tui.cli.status import look

    host = real_host()
    snapshot, _ = look(host)
    view = snapshot.service(service_id)
    if view is None:
        host.registry.service(service_id)
        raise SystemdUnavailable(snapshot.units_error or f"no state of {service_id!r} is known")
    if snapshot.units_error is None:
        file_state = host.units.file_states([view.state.unit]).get(view.state.unit, "")
        view = replace(view, state=replace(view.state, file_state=file_state))
    if as_json:
        print_json(view)
        return
    for name, value in _facts(view):
        say(f"{name:<12}{value}")


def _facts(view: ServiceView) -> list[tuple[str, str]]:
    state, found = view.state, view.service
    facts = [
        ("unit", state.unit),
        ("state", f"{state.active_state} {state.sub_state} since {clock_time(state.since)}"),
        ("result", state.result),
        ("ready", "–" if state.is_down else "yes" if view.is_ready else "no"),
        ("restarts", str(state.restarts)),
        ("at login", "started" if state.file_state.startswith("enabled") else "not started"),
        ("VRAM", "–" if state.is_down else format_mib(view.vram_bytes)),
        ("unit file", state.fragment_path or f"none ({state.load_state})"),
    ]
    if view.probe:
        facts.append(("health", f"{view.probe.health} {view.probe.detail}".strip()))
    facts += [("model", f"{model.id} {model.status}") for model in view.models]
    if found:
        facts += [
            ("name", found.name),
            ("driver", found.driver),
            ("port", str(found.port or "–")),
            ("declared", format_mib(found.vram_bytes)),
            ("preset", str(found.source or "–")),
        ]
    return facts


def _act(verb: str, service_id: str, timeout_s: float | None, *, as_json: bool) -> None:
    sys.exit(
        run_switch(
            real_host(),
            lambda manager: manager.submit_service(verb, service_id, timeout_s=timeout_s),
            as_json=as_json,
        )
    )


@service.command()
@click.argument("service_id", metavar="SERVICE")
@timeout_option
@json_option
def start(service_id: str, *, timeout_s: float | None, as_json: bool) -> None:
    """Start SERVICE and what it depends on, if they fit beside what runs."""
    _act("start", service_id, timeout_s, as_json=as_json)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@timeout_option
@json_option
def stop(service_id: str, *, timeout_s: float | None, as_json: bool) -> None:
    """Stop SERVICE and what depends on it, and wait until its memory is back."""
    _act("stop", service_id, timeout_s, as_json=as_json)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@timeout_option
@json_option
def restart(service_id: str, *, timeout_s: float | None, as_json: bool) -> None:
    """Stop SERVICE, wait until its memory is back, and start it again."""
    _act("restart", service_id, timeout_s, as_json=as_json)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@timeout_option
@json_option
def sleep(service_id: str, *, timeout_s: float | None, as_json: bool) -> None:
    """Put SERVICE to sleep (a router: unload its models); stop it if its memory does not come back."""
    _act("sleep", service_id, timeout_s, as_json=as_json)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@timeout_option
@json_option
def wake(service_id: str, *, timeout_s: float | None, as_json: bool) -> None:
    """Wake SERVICE, if its memory fits beside what runs."""
    _act("wake", service_id, timeout_s, as_json=as_json)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@click.argument("model")
@timeout_option
@json_option
def load(service_id: str, model: str, *, timeout_s: float | None, as_json: bool) -> None:
    """Load MODEL into the running router SERVICE, if it fits beside what runs."""
    host = real_host()
    sys.exit(
        run_switch(host, lambda manager: manager.submit_load(service_id, model, timeout_s=timeout_s), as_json=as_json)
    )


@service.command()
@click.argument("service_id", metavar="SERVICE")
@click.argument("model")
@timeout_option
@json_option
def unload(service_id: str, model: str, *, timeout_s: float | None, as_json: bool) -> None:
    """Unload MODEL of the running router SERVICE."""
    host = real_host()
    sys.exit(
        run_switch(host, lambda manager: manager.submit_unload(service_id, model, timeout_s=timeout_s), as_json=as_json)
    )


def _do(verb: Verb, service_id: str, *, as_json: bool) -> None:
    ended = Manager(real_host()).submit_act(UnitAct(verb, service_id)).result()
    if as_json:
        print_json(ended)
    elif ended.ok:
        say(ended.message)
    else:
        say(f"gpumod: {ended.message}", err=True)
        if ended.hint:
            say(f"  next: {ended.hint}", err=True)
    sys.exit(0 if ended.ok else 2 if ended.unknown else 1)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@json_option
def enable(service_id: str, *, as_json: bool) -> None:
    """Start SERVICE with the user manager (at login; with lingering at boot), if it fits then."""
    _do(Verb.ENABLE, service_id, as_json=as_json)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@json_option
def disable(service_id: str, *, as_json: bool) -> None:
    """Do not start SERVICE with the user manager any more."""
    _do(Verb.DISABLE, service_id, as_json=as_json)


@service.command("reset-failed")
@click.argument("service_id", metavar="SERVICE")
@json_option
def reset_failed(service_id: str, *, as_json: bool) -> None:
    """Clear the failed state of SERVICE, and systemd's count of its restarts."""
    _do(Verb.RESET_FAILED, service_id, as_json=as_json)


@service.command()
@click.argument("service_id", metavar="SERVICE")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(1, 100_000), help="How many.")
@click.option("-f", "--follow", is_flag=True, help="Go on as new lines come; ctrl-c ends it.")
@json_option
def logs(service_id: str, *, lines: int, follow: bool, as_json: bool) -> None:
    """Show SERVICE's newest journal lines."""
    host = real_host()
    unit = f"{service_id}.service"
    if service_id not in host.registry.services and unit not in host.unit_files.stamped():
        host.registry.service(service_id)
    if not follow:
        found = host.journal.tail(unit, lines)
        if as_json:
            print_json(found)
            return
        for line in found:
            _print_line(line)
        if not found:
            say(f"gpumod: no journal lines of {unit}", err=True)
        return
    if as_json:
        raise click.UsageError("--follow and --json do not go together")
    gone = threading.Event()

    def show(line: LogLine) -> None:
        try:
            _print_line(line)
        except OSError:
            gone.set()

    interrupted: list[int] = []
    # Not KeyboardInterrupt: Python drops an exception that is raised in a finalizer, and Ctrl-C with it.
    before = signal.signal(signal.SIGINT, lambda number, _frame: interrupted.append(number))
    follower = host.journal.follow((unit,), show, backlog=lines, report=_JournalFaults())
    try:
        while not interrupted and not gone.wait(_INTERRUPT_S):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
        follower.close()


class _JournalFaults:
    """Says why no lines come, and when they come again."""

    def __init__(self) -> None:
        self._any = False

    def __call__(self, fault: str) -> None:
        if fault:
            warn(f"{fault}; trying again")
        elif self._any:
            warn("the journal can be read now")
        self._any = True


def _print_line(line: LogLine) -> None:
    say(f"{clock_time(line.at)} {line.identifier or line.unit}: {line.message}")
