"""The command line. Each group's file is imported when one of its commands is asked for."""

from gpumod_tui.cli import _quietly as _quietly

# isort: split
import contextlib
import errno
import importlib
import os
import sys
import threading
from collections.abc import Mapping
from io import TextIOWrapper
from types import MappingProxyType
from typing import Any, Final

import click

from gpumod_tui.cli._options import view_flags
from gpumod_tui.core.errors import ConfigInvalid, GpumodError, PresetInvalid, UnknownName

COMMANDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "status": ("status:status", "Show GPUs, mode and services."),
        "mode": ("mode:mode", "Show modes and switch between them."),
        "service": ("service:service", "Show, start and stop single services."),
        "template": ("template:template", "Show and install systemd units."),
        "preset": ("preset:preset", "Show and check preset files."),
        "simulate": ("simulate:simulate", "Say whether a mode or services would fit."),
        "estimate": ("estimate:command", "Reckon the VRAM that a model file takes."),
        "doctor": ("doctor:doctor", "Check the box, and say what to do about what is wrong."),
        "keys": ("dashboard:keys", "List the dashboard's keys and their ids."),
        "demo": ("dashboard:demo", "Open the dashboard on a played machine."),
    }
)

USAGE: Final = 2
REFUSED: Final = 3
CANCELLED: Final = 130


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    # Whoever read the output, of a command or of --help, has enough of it; click would make a failure of that.

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        try:
            return super().make_context(*args, **more)
        except BrokenPipeError:
            raise click.exceptions.Exit(0) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            ctx.exit(0)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_LazyGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gpumod-tui", prog_name="gpumod")
@view_flags
@click.pass_context
def cli(ctx: click.Context, /, **flags: Any) -> None:
    """The cockpit of a GPU box: VRAM, units and logs live, and the whole box switched between modes.

    Without a command: the dashboard on a terminal, else `gpumod status`.
    """
    if ctx.invoked_subcommand is None:
        from gpumod_tui.cli.dashboard import open_or_print

        sys.exit(open_or_print(**flags))
    if any(flags.values()):
        raise click.UsageError(f"options of the dashboard go with gpumod alone, not with {ctx.invoked_subcommand}", ctx)


def main() -> None:
    """Entry point of `gpumod`: runs a command; every fault ends in a message and an exit code."""
    _open_closed_streams()
    _print_always()
    if not os.environ.get("GPUMOD_DEBUG"):
        threading.excepthook = _tell_of_thread
    try:
        code = _run()
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    finally:
        drop_unread_output()
    # Every thread that matters has been joined, and taking the interpreter apart takes 14 ms.
    os._exit(code)


def _run() -> int:
    try:
        _refuse_no_text()
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as leave:
        code = leave.exit_code
    except click.ClickException as error:
        _tell_usage(error)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = CANCELLED
    except GpumodError as error:
        _tell(str(error), error.hint)
        code = USAGE if isinstance(error, UnknownName | ConfigInvalid | PresetInvalid) else REFUSED
    except Exception as error:
        if isinstance(error, OSError) and _is_of_output(error):
            _tell(f"the output could not be written: {error.strerror}", "")
            return 1
        if os.environ.get("GPUMOD_DEBUG"):
            raise
        _tell(f"internal error: {type(error).__name__}: {error}", "set GPUMOD_DEBUG=1 to see where, and report it")
        code = 1
    return code if isinstance(code, int) else 0


def _refuse_no_text() -> None:
    """Bytes that are no UTF-8 name a file at most: as an id or a model's name they could not even be written down."""
    for argument in sys.argv[1:]:
        try:
            argument.encode()
        except UnicodeEncodeError:
            if not os.path.lexists(argument):
                raise click.UsageError(f"{argument!r} is no UTF-8, expected an argument that is text") from None


def _open_closed_streams() -> None:
    """Started with a standard stream closed, the next file opened would take its number: a lock, or the bus."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _print_always() -> None:
    """A sign that the terminal's encoding lacks, or a file name that is no text, must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _is_of_output(error: OSError) -> bool:
    """A full disk, or a terminal that is gone, behind stdout; a file's own fault would name the file."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def drop_unread_output() -> None:
    """Whoever read the output has gone: the interpreter's own flush at exit would complain and turn the exit code
    into 120, also of a switch that was carried out."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def wants_json() -> bool:
    """Whether this call is to print JSON; known also where the arguments themselves are at fault."""
    return "--json" in sys.argv


def _tell_of_thread(fault: threading.ExceptHookArgs) -> None:
    """One ended, or went on, where nobody expected it; the command goes on."""
    if fault.exc_type is SystemExit:
        return
    where = fault.thread.name if fault.thread is not None else "a thread"
    from gpumod_tui.cli._output import say

    with contextlib.suppress(OSError, ValueError):
        say(f"gpumod: internal error in {where}: {fault.exc_type.__name__}: {fault.exc_value}", err=True)
        say("  next: set GPUMOD_DEBUG=1 to see where, and report it", err=True)


def _tell_usage(error: click.ClickException) -> None:
    hint = ""
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f"{error.ctx.command_path} --help"
    _tell(error.format_message(), hint)


def _tell(message: str, hint: str) -> None:
    from gpumod_tui.cli._output import print_json, say

    # Where neither stream can be written, the exit code is all that can be told.
    if wants_json():
        body: dict[str, Any] = {"error": {"message": message, "hint": hint}}
        with contextlib.suppress(OSError):
            print_json(body)
    with contextlib.suppress(OSError):
        say(f"gpumod: {message}", err=True)
        if hint:
            say(f"  next: {hint}", err=True)
