"""`gpumod status`."""

import contextlib
import socket

import click

from gpumod_tui.cli._options import FiniteRange
from gpumod_tui.cli._output import clock_time, json_option, print_json, say, table_lines, warn_of_presets
from gpumod_tui.core.errors import StateUnavailable
from gpumod_tui.core.models import ActiveState, GpuSample, ModelStatus, ModeTruth, ModeView, ServiceView, Snapshot
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.snapshot import take_snapshot
from gpumod_tui.core.switch.records import StoredState, recorded_truth
from gpumod_tui.core.text import format_gib
from gpumod_tui.core.vram.measuring import note_services
from gpumod_tui.wiring import RealHost, real_host


@click.command()
@json_option
@click.option(
    "--watch",
    "watch_s",
    is_flag=False,
    flag_value=2.0,
    type=FiniteRange(0.2, 3600),
    metavar="[SECONDS]",
    help="Again and again, every so many seconds (2), until ctrl-c; with --json one document a line.",
)
def status(*, as_json: bool, watch_s: float | None) -> None:
    """Show GPUs, mode and services."""
    host = real_host()
    if watch_s is None:
        print_status(host, as_json=as_json)
    else:
        from gpumod_tui.cli._watch import watch

        watch(lambda: facts(host), lambda: status_lines(host), watch_s, as_json=as_json)


def look(host: RealHost) -> tuple[Snapshot, StoredState]:
    """A snapshot and what the state folder tells."""
    try:
        stored = host.store.read()
    except StateUnavailable as error:
        stored = StoredState(Recorded(note=str(error)), None, held=False)
    snapshot = take_snapshot(host, lambda: recorded_truth(stored))
    # Without a runtime folder nothing can be learned, and what is known is shown all the same.
    with contextlib.suppress(StateUnavailable):
        note_services(host, snapshot)
    return snapshot, stored


def facts(host: RealHost) -> dict[str, object]:
    """The box at one moment, for JSON."""
    snapshot, stored = look(host)
    return {"snapshot": snapshot, "running": stored.running, "interrupted": stored.interrupted}


def print_status(host: RealHost, *, as_json: bool = False) -> None:
    """The box at one moment."""
    if as_json:
        print_json(facts(host))
        return
    for line in status_lines(host):
        say(line)
    warn_of_presets(host.registry)


def status_lines(host: RealHost) -> list[str]:
    """The box at one moment, for people."""
    snapshot, stored = look(host)
    driver = snapshot.gpus.driver_version if snapshot.gpus else None
    lines = [f"{socket.gethostname()}   {mode_line(snapshot.mode)}   NVIDIA {driver or 'N/A'}"]
    if stored.running:
        run = stored.running
        lines.append(
            f"! switching to {run.target} (pid {run.pid}) since {clock_time(run.started_at)}, at step {run.step}"
        )
    if stored.interrupted:
        run = stored.interrupted
        lines.append(
            f"! the switch to {run.target} by pid {run.pid} was interrupted at step {run.step}"
            f" ({clock_time(run.started_at)}); gpumod mode switch blank leads back"
        )
    if snapshot.gpu_error:
        lines.append(f"! VRAM is unknown: {snapshot.gpu_error}")
    if snapshot.units_error:
        lines.append(f"! units are unknown: {snapshot.units_error}")
    lines += [gpu_line(gpu) for gpu in (snapshot.gpus.gpus if snapshot.gpus else ())]
    if snapshot.services:
        headers = ("UNIT", "STATE", "READY", "PORT", "VRAM GiB", "MODEL", "SINCE")
        lines += ["", *table_lines(headers, [service_row(view) for view in snapshot.services])]
    return [*lines, *(f"! GPU {orphan.gpu}: {orphan}: not managed by gpumod" for orphan in snapshot.orphans)]


def mode_line(view: ModeView) -> str:
    """`mode code ● reached 14:02`."""
    if view.mode is None:
        return f"no mode: {view.note or 'none was reached yet'}"
    text = f"mode {view.mode}: {view.truth}"
    if view.truth is ModeTruth.REACHED:
        return f"{text} {clock_time(view.since)}"
    return f"{text} ({view.note})" if view.note else text


def gpu_line(gpu: GpuSample) -> str:
    """One GPU in one line; what it does not tell reads N/A."""
    if gpu.error:
        return f"GPU {gpu.index}  {gpu.name or '?'}   {gpu.error}"
    load = "N/A" if gpu.utilization_percent is None else f"{gpu.utilization_percent} %"
    heat = "N/A" if gpu.temperature_c is None else f"{gpu.temperature_c} °C"
    power = "N/A" if gpu.power_w is None else f"{gpu.power_w:.0f}"
    limit = "N/A" if gpu.power_limit_w is None else f"{gpu.power_limit_w:.0f}"
    throttled = " · " + ", ".join(gpu.throttle_reasons) if gpu.throttle_reasons else ""
    unified = " (unified)" if gpu.unified else ""
    used, total = format_gib(gpu.used_bytes, unit=False), format_gib(gpu.total_bytes)
    return (
        f"GPU {gpu.index}  {gpu.name or 'N/A'}   {used} / {total}{unified} used · {format_gib(gpu.free_bytes)} free"
        f" · {format_gib(gpu.reserved_bytes)} reserved · load {load} · {heat} · {power}/{limit} W{throttled}"
    )


def service_row(view: ServiceView) -> tuple[str, ...]:
    """One service in cells."""
    state = view.state
    shown = f"{state.active_state} {state.sub_state}" if state.load_state == "loaded" else state.load_state
    if state.result not in ("success", ""):
        shown += f" ({state.result})"
    declared = view.service.vram_bytes if view.service else None
    measured = "–" if state.is_down else format_gib(view.vram_bytes, unit=False)
    vram = f"{measured} / {format_gib(declared, unit=False) if declared is not None else '–'}"
    ready = "–" if state.is_down else "yes" if view.is_ready else "no"
    if state.active_state is ActiveState.UNKNOWN:
        ready = "?"
    port = str(view.service.port) if view.service and view.service.port else "–"
    since = "–" if state.is_down and state.result == "success" else clock_time(state.since)
    return view.id, shown, ready, port, vram, model_words(view), since


def model_words(view: ServiceView) -> str:
    """What it serves, with the state where that is not plainly loaded."""
    present = [model for model in view.models if model.status not in (ModelStatus.UNLOADED, ModelStatus.DOWNLOADED)]
    if present:
        return ", ".join(m.id if m.status is ModelStatus.LOADED else f"{m.id} ({m.status})" for m in present)
    if view.service is None:
        return "no preset"
    return "–" if view.state.is_down or view.service.is_router else view.service.model_id or "–"
