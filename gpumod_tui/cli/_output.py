"""What the commands print with."""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any

import click
import msgspec

from gpumod_tui.core.catalog.registry import ServiceRegistry
from gpumod_tui.core.text import harmless, in_one_line

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else on stdout.")


def say(text: str = "", *, err: bool = False) -> None:
    """One line for people. Whatever a command prints but JSON goes this way: it may name what strangers named."""
    click.echo(in_one_line(text), err=err)


def say_text(text: str) -> None:
    """Text of several lines, to its last character."""
    click.echo("\n".join(harmless(line) for line in text.split("\n")), nl=False)


def print_json(value: object) -> None:
    """One JSON document, indented."""
    click.echo(msgspec.json.format(_encoded(value), indent=2).decode())


def print_json_line(value: object) -> None:
    """One JSON document in one line, at once also where a pipe reads it."""
    click.echo(_encoded(value))


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        # A file name that is no UTF-8: its odd bytes read as ?, as they do in text.
        import json

        return json.dumps(msgspec.to_builtins(value, enc_hook=_plain), ensure_ascii=False).encode(errors="replace")


def _plain(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return dict(value)
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def table_lines(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart."""
    widths = [max(len(row[column]) for row in (headers, *rows)) for column in range(len(headers))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (headers, *rows)
    ]


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The lines of a table."""
    for line in table_lines(headers, rows):
        say(line)


def clock_time(at: float | None) -> str:
    """Local time, with the date when it is not today's; `–` for None and for what is no time of any calendar."""
    if at is None:
        return "–"
    try:
        moment = datetime.fromtimestamp(at).astimezone()
    except (OverflowError, ValueError, OSError):
        return "–"
    today = moment.date() == datetime.now().astimezone().date()
    return moment.strftime("%H:%M" if today else "%Y-%m-%d %H:%M")


def warn(text: str) -> None:
    """One line on stderr. Where that cannot be written, what the warning is about goes on all the same."""
    with contextlib.suppress(OSError, ValueError):
        say(f"gpumod: warning: {text}", err=True)


def warn_of_presets(registry: ServiceRegistry) -> None:
    """Name what was broken or odd in the presets; the good ones still work."""
    for problem in registry.problems:
        warn(str(problem))
    for text in registry.warnings:
        warn(text)


def is_terminal() -> bool:
    """Whether live progress makes sense on stdout."""
    import os

    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
