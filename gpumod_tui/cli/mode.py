"""`gpumod mode`."""

import contextlib
import sys
import threading
from typing import Final

import click

from gpumod_tui.cli._options import FiniteRange, timeout_option
from gpumod_tui.cli._output import clock_time, json_option, print_json, print_table, say, warn, warn_of_presets
from gpumod_tui.cli._switching import run_switch, tell_plan
from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import GpumodError, ModeRefused, ModeTaken
from gpumod_tui.core.models import BLANK, Mode
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import HISTORY_LENGTH, SwitchRecord, recorded_truth
from gpumod_tui.core.text import format_gib, in_one_line
from gpumod_tui.core.units.login import LOGIN_UNIT, LoginMode
from gpumod_tui.core.units.managed import read_gpus
from gpumod_tui.wiring import real_host

GPUS_POLL_S: Final = 1.0
_WORTH_TELLING_S: Final = 0.05
"""A step that took less did nothing."""


@click.group()
def mode() -> None:
    """Show modes and switch between them."""


@mode.command("list")
@json_option
def list_modes(*, as_json: bool) -> None:
    """List all modes, with the VRAM that their presets declare; `gpumod simulate mode` tells what each needs."""
    host = real_host()
    registry = host.registry
    if as_json:
        print_json({"modes": list(registry.modes.values()), "problems": [str(one) for one in registry.problems]})
        return
    reached = recorded_truth(host.store.read()).mode
    rows = []
    for item in registry.modes.values():
        needs = [registry.service(name).vram_bytes for name in registry.with_dependencies(item.services)]
        total = "unknown" if None in needs else format_gib(sum(filter(None, needs)))
        mark = "*" if item.id == reached else ""
        rows.append((mark, item.id, ", ".join(item.services) or "–", total, item.description or item.name))
    print_table(("", "MODE", "SERVICES", "DECLARED", "DESCRIPTION"), rows)
    warn_of_presets(registry)


@mode.command("status")
@json_option
def mode_status(*, as_json: bool) -> None:
    """Show the recorded mode, held against what runs."""
    from gpumod_tui.cli.status import look, mode_line

    snapshot, stored = look(real_host())
    if as_json:
        print_json({"mode": snapshot.mode, "switch": stored.switch, "running": stored.held})
        return
    say(mode_line(snapshot.mode))
    if stored.running:
        say(f"switching to {stored.running.target} (pid {stored.running.pid}), at step {stored.running.step}")
    if stored.interrupted:
        say(f"the switch to {stored.interrupted.target} was interrupted at step {stored.interrupted.step}")


@mode.command("history")
@click.option(
    "--limit",
    type=click.IntRange(1, HISTORY_LENGTH),
    default=20,
    show_default=True,
    help=f"How many, of the last {HISTORY_LENGTH}.",
)
@json_option
def history(*, limit: int, as_json: bool) -> None:
    """Show the switches that ended, the newest first, with the seconds of each step."""
    found = real_host(lenient=True).store.history()
    switches = found.switches[:limit]
    if as_json:
        print_json({"switches": switches, "problem": found.problem or None})
        return
    if found.problem:
        warn(found.problem)
    if not switches:
        say("no switch has ended yet")
        return
    rows = [
        (clock_time(one.started_at), one.target, one.outcome or "interrupted", _seconds(one.seconds), _steps(one))
        for one in switches
    ]
    print_table(("WHEN", "TARGET", "OUTCOME", "TOTAL", "STEPS IN SECONDS"), rows)


def _seconds(amount: float | None) -> str:
    return "–" if amount is None else f"{amount:.1f} s"


def _steps(record: SwitchRecord) -> str:
    shown = [
        f"{told.step} {told.seconds:.1f}{'' if told.ok else ' ✖'}"
        for told in record.steps
        if told.seconds is not None and (told.seconds >= _WORTH_TELLING_S or not told.ok)
    ]
    return ", ".join(shown) or "–"


@mode.command("default")
@click.argument("mode_id", metavar="MODE", required=False)
@click.option("--clear", is_flag=True, help="No mode at login from now on.")
@json_option
def default(mode_id: str | None, *, clear: bool, as_json: bool) -> None:
    """Switch to MODE at every login, and at boot where the user lingers; without MODE, show which one it is."""
    if mode_id is not None and clear:
        raise click.UsageError("MODE and --clear exclude each other")
    host = real_host(lenient=clear)
    manager = Manager(host)
    cleared = clear and host.login_mode.clear()
    login = manager.login_mode() if mode_id is None else manager.set_login_mode(mode_id)
    if as_json:
        print_json(login)
    elif clear:
        say("no mode at login any more" if cleared else "there was no mode at login")
    else:
        _tell_login(login, known=login.mode in host.registry.modes)


def _tell_login(login: LoginMode, *, known: bool) -> None:
    if login.file == "missing":
        say("no mode at login; gpumod mode default MODE sets one")
        return
    say(f"mode at login: {login.mode or 'unknown'} ({LOGIN_UNIT}: {login.file})")
    if not known:
        warn(f"{login.mode} is no mode (any more): gpumod mode default MODE, or --clear")
    if not login.enabled:
        warn(f"{LOGIN_UNIT} is not enabled: gpumod mode default {login.mode}")
    if login.failed:
        warn(f"the last time it failed: journalctl --user -u {LOGIN_UNIT} --no-pager -n 20")
    if login.note:
        warn(login.note)


@mode.command("switch")
@click.argument("mode_id", metavar="MODE")
@click.option("--dry-run", is_flag=True, help="Print the plan with its arithmetic; touch nothing.")
@click.option("--no-load", is_flag=True, help="Start routers without loading their default models.")
@click.option(
    "--wait-for-gpus",
    "gpus_wait_s",
    type=FiniteRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Give the NVIDIA driver so long to answer before it begins, as after a boot.",
)
@timeout_option
@json_option
def switch(
    mode_id: str, *, dry_run: bool, no_load: bool, gpus_wait_s: float, timeout_s: float | None, as_json: bool
) -> None:
    """Bring the box into MODE: stop what must go, wait until its memory is back, start what comes."""
    # A broken configuration must not bar the way back from everything.
    host = real_host(lenient=mode_id == BLANK)
    for text in host.faults():
        warn(text)
    wait_for_gpus(host, gpus_wait_s)
    if dry_run:
        sys.exit(tell_plan(Manager(host).plan(mode_id, load_models=not no_load), as_json=as_json))
    sys.exit(
        run_switch(
            host,
            lambda manager: manager.submit_mode(mode_id, load_models=not no_load, timeout_s=timeout_s),
            as_json=as_json,
        )
    )


def wait_for_gpus(host: Engine, limit_s: float) -> None:
    """Until NVML can be read, and no longer than that: what it means that it cannot is for the switch to say."""
    end = host.clock.monotonic() + limit_s
    while host.clock.monotonic() < end and read_gpus(host, processes=False)[0] is None:
        host.clock.wait(threading.Event(), GPUS_POLL_S)


def _ids(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(part for part in value.replace(",", " ").split() if part)


@mode.command("save")
@click.argument("mode_id", metavar="ID")
@click.option("--from-running", is_flag=True, help="The services that run now.")
@click.option("--services", callback=_ids, metavar="ID,ID", help="These services.")
@click.option("--name", metavar="TEXT", help="For people; the id by default.")
@click.option("--description", metavar="TEXT")
@click.option("--force", is_flag=True, help="Replace a mode of that id: an own one in its file, another is shadowed.")
@json_option
def save(
    *,
    mode_id: str,
    from_running: bool,
    services: tuple[str, ...] | None,
    name: str | None,
    description: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a mode of your own, or change one: into ~/.config/gpumod/presets, whole or not at all.

    What is not given stays as it was in a mode that is changed.
    """
    if from_running and services is not None:
        raise click.UsageError("--from-running and --services do not go together.")
    host = real_host()
    manager = Manager(host)
    before = host.registry.modes.get(mode_id)
    if from_running:
        services = manager.what_if().running
    if services is None and before is None:
        raise click.UsageError(f"there is no mode {mode_id} yet: say --services ID,ID or --from-running.")
    old = before or Mode(mode_id, mode_id, ())
    wanted = Mode(
        mode_id,
        old.name if name is None else name,
        old.services if services is None else services,
        old.description if description is None else description,
    )
    try:
        saved = manager.save_mode(wanted, replaces=force)
    except ModeTaken as error:
        raise ModeRefused(str(error), hint="--force replaces it, or choose another id") from error
    if as_json:
        print_json({"mode": saved.mode, "file": saved.path, "shadows": saved.shadows})
        return
    say(f"mode {mode_id} saved: {saved.path}")
    if saved.shadows is not None:
        say(f"  it goes before {saved.shadows.source or 'the one that is built in'}")
    say(f"  services: {', '.join(saved.mode.services)}")
    say(f"  whether it fits: gpumod simulate mode {mode_id}")


@mode.command("delete")
@click.argument("mode_id", metavar="ID")
@click.option("--yes", is_flag=True, help="Do not ask; nobody is asked where there is no terminal.")
@json_option
def delete(*, mode_id: str, yes: bool, as_json: bool) -> None:
    """Delete a mode of your own: its file in ~/.config/gpumod/presets. Nothing that runs is touched."""
    host = real_host()
    if not (yes or as_json) and sys.stdin.isatty():
        click.confirm(in_one_line(f"Delete mode {mode_id} ({host.registry.mode(mode_id).source})?"), abort=True)
    manager = Manager(host)
    gone = manager.delete_mode(mode_id)
    with contextlib.suppress(GpumodError):
        if gone.shadows is None and manager.login_mode().mode == mode_id:
            warn(f"{mode_id} is still the mode at login: gpumod mode default MODE, or --clear")
    if as_json:
        print_json({"deleted": gone.mode, "file": gone.path, "now": gone.shadows})
        return
    say(f"mode {mode_id} deleted: {gone.path}")
    if gone.shadows is not None:
        say(f"  mode {mode_id} is now the one of {gone.shadows.source or 'gpumod itself'}")
