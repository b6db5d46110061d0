"""`gpumod guard`: what gpumod-guard.service runs, past the command line: that would stay in memory for life."""

import argparse
import sys

from gpumod_tui.core.errors import ConfigInvalid, GpumodError
from gpumod_tui.core.text import in_one_line
from gpumod_tui.core.units.guard import GUARD_SOCKET


def main(arguments: list[str]) -> int:
    """Be the guard of this user's servers until told to end; the exit code."""
    parser = argparse.ArgumentParser(
        prog="gpumod guard",
        description="Hold the ports of servers whose requests can make VRAM grow, and put admission first.",
    )
    parser.add_argument("--port", type=_port, help="listen here instead of on the sockets of systemd")
    port = parser.parse_args(arguments).port
    try:
        _serve(port)
    except GpumodError as error:
        said = [f"gpumod: {error}", *([f"  next: {error.hint}"] if error.hint else [])]
        sys.stderr.write("".join(f"{in_one_line(line)}\n" for line in said))
        return 2 if isinstance(error, ConfigInvalid) else 3
    return 0


def _port(text: str) -> int:
    if text.isdecimal() and 1 <= int(text) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"found {text!r}, expected a port from 1 to 65535")


def _serve(port: int | None) -> None:
    """Raises: GpumodError."""
    from gpumod_tui.guard.server.serve import inherited_sockets, listen, run
    from gpumod_tui.wiring import real_host

    host = real_host()
    try:
        sockets = inherited_sockets() if port is None else [listen(port)]
    except OSError as error:
        raise GpumodError(
            f"port {port}: {error.strerror}",
            hint=f"{GUARD_SOCKET} holds the ports of guarded servers: systemctl --user status {GUARD_SOCKET}; "
            f"ss -ltnp 'sport = :{port}' says who has this one",
        ) from error
    if not sockets:
        raise ConfigInvalid("no socket was handed over", hint="systemctl --user start gpumod-guard.socket")
    run(host, host.places.socket, sockets)
