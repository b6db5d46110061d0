"""`gpumod simulate`: what if a mode, or some services, ran."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from gpumod_tui.cli._options import FiniteRange
from gpumod_tui.cli._output import json_option, print_json, say, warn
from gpumod_tui.core.admission.commitments import name_open
from gpumod_tui.core.switch.simulate import LEAST_GIB, MOST_GIB, MOST_GPUS
from gpumod_tui.core.text import GIB, format_mib

if TYPE_CHECKING:
    from gpumod_tui.core.switch.simulate import GpuSum, Share, Simulation, WhatIf

NO_ROOM: Final = 3


def _few(_context: click.Context, _parameter: click.Parameter, values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) > MOST_GPUS:
        raise click.BadParameter(f"found {len(values)} GPUs, expected {MOST_GPUS} at most")
    return values


gpu_option = click.option(
    "--gpu-gib",
    "gpu_gib",
    type=FiniteRange(min=LEAST_GIB, max=MOST_GIB),
    multiple=True,
    callback=_few,
    metavar="GIB",
    help="Simulate an idle GPU of so much memory instead of those that are there; once for each, numbered from 0.",
)


@click.group()
def simulate() -> None:
    """Say whether a mode or services would fit, and what would fit beside; nothing is touched.

    Exit code 0: it fits; 3: it does not, or that is unknown; 2: no such mode or service.
    """


@simulate.command("mode")
@click.argument("mode_id", metavar="MODE")
@gpu_option
@json_option
def simulate_mode(*, mode_id: str, gpu_gib: tuple[float, ...], as_json: bool) -> None:
    """What if the box were in MODE: all other services stop."""
    what_if = _look(gpu_gib)
    found = what_if.run(what_if.registry.mode(mode_id).services, mode_id)
    sys.exit(tell(what_if, found, f"mode {mode_id}", as_json=as_json))


@simulate.command("services")
@click.argument("service_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--beside", is_flag=True, help="Beside what runs now; without it, all others stop.")
@gpu_option
@json_option
def simulate_services(*, service_ids: tuple[str, ...], beside: bool, gpu_gib: tuple[float, ...], as_json: bool) -> None:
    """What if the services ID… ran, with what they depend on."""
    if beside and gpu_gib:
        raise click.UsageError("--beside and --gpu-gib do not go together: nothing runs on a simulated GPU.")
    what_if = _look(gpu_gib)
    chosen = (*(what_if.running if beside else ()), *service_ids)
    found = what_if.run(chosen, "what if")
    sys.exit(tell(what_if, found, f"services {' '.join(found.chosen)}", as_json=as_json))


def _look(gpu_gib: tuple[float, ...]) -> WhatIf:
    from gpumod_tui.core.switch.simulate import imagine, look_around
    from gpumod_tui.wiring import real_host

    host = real_host()
    if gpu_gib:
        return imagine(host, [int(amount * GIB) for amount in gpu_gib])
    found = look_around(host)
    for text in host.admission.take_news():
        warn(text)
    return found


def tell(what_if: WhatIf, found: Simulation, title: str, *, as_json: bool) -> int:
    """Print it; the exit code."""
    if as_json:
        print_json(as_document(what_if, found))
    else:
        for line in _lines(what_if, found, title):
            say(line)
    return 0 if found.fits else NO_ROOM


def as_document(what_if: WhatIf, found: Simulation) -> Mapping[str, Any]:
    """The answer for programs; memory in bytes."""
    return {
        "verdict": found.verdict,
        "fits": found.fits,
        "simulated_gpus": what_if.imagined,
        "chosen": found.chosen,
        "services": found.services,
        "stop": found.plan.stop,
        "sleep": (*found.plan.sleep, *found.plan.asleep),
        "keep": found.plan.keep,
        "wake": found.plan.wake,
        "start": found.plan.start,
        "unknown": found.unknown,
        "gpus": [
            {
                "gpu": row.sample.index,
                "name": row.sample.name,
                "total_bytes": row.arithmetic.total_bytes,
                "free_bytes": row.arithmetic.free_bytes,
                "stopping_bytes": row.arithmetic.stopping_bytes,
                "available_bytes": row.arithmetic.available_bytes,
                "kept_growth_bytes": row.arithmetic.kept_growth_bytes,
                "kept_growth": row.arithmetic.kept_growth,
                "need_bytes": row.arithmetic.need_bytes,
                "margin_bytes": row.arithmetic.margin_bytes,
                "left_bytes": row.left_bytes,
                "starts": row.starts,
                "stays": row.stays,
            }
            for row in found.gpus
        ],
        "blockers": [{"reason": blocker.reason, "next": blocker.hint} for blocker in found.plan.blockers],
        "warnings": found.plan.warnings,
        "beside": found.beside,
        "elsewhere": [{"service": name, "gpu": gpu} for name, gpu in found.elsewhere],
    }


def _lines(what_if: WhatIf, found: Simulation, title: str) -> Iterable[str]:
    from gpumod_tui.core.switch.simulate import sentences

    extra = [name for name in found.services if name not in found.chosen]
    yield f"what if {title}" + (f", with {', '.join(extra)} that they depend on" if extra else "")
    if what_if.imagined:
        yield "  on simulated, idle GPUs; 2 % of each, 512 MiB at least, is taken as the NVIDIA driver's own"
    plan = found.plan
    for word, names in (
        ("stop", plan.stop),
        ("sleep", (*plan.sleep, *plan.asleep)),
        ("keep", plan.keep),
        ("wake", plan.wake),
        ("start", plan.starting),
    ):
        if names or word not in ("sleep", "wake"):
            yield f"  {word:<8} {', '.join(names) or '–'}"
    for row in found.gpus:
        yield from _gpu_lines(row, found)
    lead, *reasons = sentences(found)
    yield f"  {lead}"
    for reason in reasons:
        yield f"    {reason}"
    for name, gpu in found.elsewhere:
        yield f"  would fit with {name} on GPU {gpu} (gpus: [{gpu}] in its preset)"
    for warning in found.plan.warnings:
        yield f"  warning: {warning}"
    together = [one.mode for one in found.beside if one.fits]
    if found.beside:
        yield f"  fits beside: {', '.join(together) or 'no other mode'}"
    for one in found.beside:
        if not one.fits:
            yield f"  not beside: {one.mode}: {one.reason}"


def _gpu_lines(row: GpuSum, found: Simulation) -> Iterable[str]:
    sums = row.arithmetic
    part = f" (MIG {row.sample.mig[1]} of GPU {row.sample.mig[0]})" if row.sample.mig is not None else ""
    yield f"  GPU {row.sample.index}{part}  {row.sample.name or 'N/A'}, {format_mib(sums.total_bytes)}"
    if row.sample.error:
        yield f"    {row.sample.error}"
    if sums.stopping_bytes is None:
        yield _line("at most", sums.bound_bytes, "after the stop; memory by process is N/A")
    else:
        yield _line("free", sums.free_bytes)
        if sums.stopping_bytes:
            yield _line(
                "+ stopping", sums.stopping_bytes, ", ".join((*found.plan.stop, *found.plan.sleep, *found.plan.restart))
            )
    for share in row.starts:
        yield _share("- need", share)
    if sums.kept_growth_bytes:
        yield _line("- growth", sums.kept_growth_bytes, f"that what stays may still take{name_open(sums.kept_growth)}")
    if sums.need_bytes:
        yield _line("- margin", sums.margin_bytes)
    left = row.left_bytes
    short = left is not None and left < 0
    yield _line("= short by" if short else "= left", None if left is None else abs(left))
    for share in row.stays:
        yield _share("  stays", share)


def _share(word: str, share: Share) -> str:
    return _line(word, share.amount_bytes, f"{share.who}: {share.note}" if share.note else share.who)


def _line(word: str, amount_bytes: int | None, note: str = "") -> str:
    return f"    {word:<11} {format_mib(amount_bytes):>10}  {note}".rstrip()
