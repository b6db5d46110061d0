"""`gpumod estimate`."""

from dataclasses import replace
from pathlib import Path

import click

from gpumod_tui.cli._output import json_option, print_json, print_table, say
from gpumod_tui.core.errors import ConfigInvalid, ModelFileInvalid
from gpumod_tui.core.text import format_mib
from gpumod_tui.core.vram.estimate import estimate
from gpumod_tui.core.vram.estimate.kv_cache import KV_TYPES
from gpumod_tui.core.vram.estimate.options import DEFAULT_CONTEXT, LoadSettings
from gpumod_tui.core.vram.need import FILE_FACTOR


@click.command("estimate")
@click.argument("file", metavar="FILE.gguf", type=click.Path(path_type=Path))
@click.option(
    "--ctx",
    "context",
    type=click.IntRange(min=0),
    default=DEFAULT_CONTEXT,
    show_default=True,
    metavar="N",
    help="Context over all slots; 0: the model's own.",
)
@click.option("--kv", "kv_type", type=click.Choice(list(KV_TYPES)), default="f16", show_default=True)
@click.option("--parallel", type=click.IntRange(min=1), metavar="N", help="Slots, each with its part of the context.")
@click.option("--gpu-layers", type=click.IntRange(min=0), metavar="N", help="Layers on the GPU, the last ones; all.")
@click.option("--mmproj", "projector", type=click.Path(path_type=Path), metavar="FILE", help="Projector beside it.")
@click.option("--no-flash-attn", is_flag=True, help="Attention without its fused kernels, which takes more.")
@json_option
def command(
    *,
    file: Path,
    context: int,
    kv_type: str,
    parallel: int | None,
    gpu_layers: int | None,
    projector: Path | None,
    no_flash_attn: bool,
    as_json: bool,
) -> None:
    """Print the parts of the VRAM that a model takes on one GPU, from its file's header.

    FILE.gguf may be one of several parts: all of them count.
    """
    from gpumod_tui.adapters.models.files import ModelFolder, model_file

    found = model_file(file, projector)
    if found is None:
        raise ConfigInvalid(f"{file}: it, one of its parts or its projector is not there")
    settings = replace(
        LoadSettings(),
        context=context,
        parallel=parallel,
        kv_type_k=kv_type,
        kv_type_v=kv_type,
        gpu_layers=gpu_layers,
        flash_attn=False if no_flash_attn else None,
    )
    try:
        header = ModelFolder().header(found)
        result = estimate(header, settings)
    except ModelFileInvalid as error:
        raise ConfigInvalid(str(error), hint=error.hint) from error
    fallback = int(FILE_FACTOR * (found.size_bytes + found.extra_bytes))
    total = result.total_bytes
    if as_json:
        print_json(
            {
                "file": str(file),
                "architecture": header.architecture,
                "parts": [{"name": part.name, "bytes": part.total_bytes, "note": part.note} for part in result.parts],
                "total_bytes": total,
                "fallback_bytes": max(fallback, result.known_bytes) if total is None else None,
            }
        )
        return
    rows = [
        (part.name, "unknown" if part.total_bytes is None else format_mib(part.total_bytes), part.note)
        for part in result.parts
    ]
    sum_note = f"{header.architecture}, {len(found.paths)} file(s), {format_mib(found.size_bytes)}"
    rows.append(("sum", "unknown" if total is None else format_mib(total), sum_note))
    print_table(("PART", "VRAM", "FROM"), rows)
    if total is None:
        say(
            f"A part is unknown: {format_mib(max(fallback, result.known_bytes))} is reckoned with"
            f" ({FILE_FACTOR} × the file's size). Declare vram_mb in the preset once it is measured."
        )
