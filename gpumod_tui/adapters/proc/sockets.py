"""Which sockets processes hold open to whoever reaches their address: /proc/PID/fd against /proc/net."""

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gpumod_tui.core.doctor.facts import OpenSocket, OpenSockets


def address_of(digits: str) -> str:
    """The text of an address in hexadecimal, each 32-bit word in the machine's own byte order."""
    import socket  # what only decides about memory needs none

    words = [digits[at : at + 8] for at in range(0, len(digits), 8)]
    raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET6 if len(raw) == 16 else socket.AF_INET, raw)


_LISTEN: Final = "0A"
_UNCONNECTED: Final = "07"
_TABLES: Final = (("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp"))


def open_sockets(proc: Path, pids: Iterable[int]) -> OpenSockets:
    """Those of our own network namespace: one of another namespace is not reached through this host's addresses."""
    found: set[OpenSocket] = set()
    unreadable = []
    table: dict[str, tuple[str, str, int]] | None = None
    for pid in pids:
        # The descriptors first: a socket that was opened after the table was read would be taken for none.
        inodes = _socket_inodes(proc / str(pid) / "fd")
        if inodes is None:
            unreadable.append(pid)
            continue
        if inodes and (table is None or not inodes <= table.keys()):
            table = dict(_table(proc))
        for inode in inodes:
            if table is not None and inode in table:
                found.add(OpenSocket(pid, *table[inode]))
    ordered = sorted(found, key=lambda one: (one.pid, one.protocol, one.port, one.address))
    return OpenSockets(tuple(ordered), tuple(unreadable))


def _socket_inodes(folder: Path) -> set[str] | None:
    """None: they cannot be read, and the process is still there."""
    inodes = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    link = os.readlink(entry.path)  # noqa: PTH115 - a Path for every descriptor would triple the cost
                except FileNotFoundError:
                    continue
                if link.startswith("socket:["):
                    inodes.add(link[len("socket:[") : -1])
    except (FileNotFoundError, ProcessLookupError):
        return set()
    except OSError:
        return None
    return inodes


def _table(proc: Path) -> Iterator[tuple[str, tuple[str, str, int]]]:
    """By inode: protocol, address and port of each socket that takes from anybody."""
    for name, protocol in _TABLES:
        try:
            lines = (proc / "net" / name).read_text(encoding="ascii", errors="replace").splitlines()[1:]
        except OSError:
            continue
        wanted = _LISTEN if protocol == "tcp" else _UNCONNECTED
        for line in lines:
            words = line.split()
            if len(words) > 9 and words[3] == wanted:
                address, _, port = words[1].rpartition(":")
                yield words[9], (protocol, address_of(address), int(port, 16))
