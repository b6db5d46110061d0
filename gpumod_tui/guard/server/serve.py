"""Sockets and signals: serves every port that systemd hands over, and finishes what it serves before it ends."""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from gpumod_tui.core.engine import Engine
from gpumod_tui.core.text import number_of
from gpumod_tui.guard.server.app import Guard
from gpumod_tui.guard.server.connections import Crowd, Server, connection_limit

FIRST_FD: Final = 3
FINISH_S: Final = 30.0
"""Given to streams under way at the end."""
_LINE_BYTES: Final = 16 * 1024


def inherited_sockets() -> list[socket.socket]:
    """What socket activation left to this very process."""
    count = number_of(os.environ.pop("LISTEN_FDS", "0"))
    pid = os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or count is None:
        return []
    found = []
    for descriptor in range(FIRST_FD, FIRST_FD + count):
        os.set_inheritable(descriptor, False)
        found.append(socket.socket(fileno=descriptor))
    return found


def listen(port: int) -> socket.socket:
    """A socket of our own, on loopback alone. Raises: OSError."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def run(host: Engine, socket_of: Callable[[str], Path], sockets: Sequence[socket.socket]) -> None:
    """Serve until SIGTERM or SIGINT, and up to `FINISH_S` longer."""
    # A client's broken HTTP is answered with 400; a traceback of it in our journal would be anybody's to write.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    asyncio.run(_serve(host, socket_of, sockets))


async def _serve(host: Engine, socket_of: Callable[[str], Path], sockets: Sequence[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    guard = Guard(host, socket_of)
    await guard.take_stock()
    # What stays for life need not be looked at by the collector again.
    gc.collect()
    gc.freeze()
    crowd = Crowd(connection_limit())
    runners = [await _open(guard, crowd, sock) for sock in sockets]
    watcher = asyncio.create_task(guard.watch())
    await ending.wait()
    watcher.cancel()
    guard.dismiss()
    await asyncio.gather(*(runner.cleanup() for runner in runners))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISH_S):
            await guard.close()


async def _open(guard: Guard, crowd: Crowd, sock: socket.socket) -> web.ServerRunner:
    port = sock.getsockname()[1]
    server = Server(
        functools.partial(guard.handle, port),
        crowd,
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
    )
    runner = web.ServerRunner(server, shutdown_timeout=FINISH_S)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=1024).start()
    return runner
