"""Addresses as the kernel's tables in /proc/net write them."""

import sys


def address_of(digits: str) -> str:
    """The text of an address in hexadecimal, each 32-bit word in the machine's own byte order."""
    import socket  # what only decides about memory needs none

    words = [digits[at : at + 8] for at in range(0, len(digits), 8)]
    raw = b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
    return socket.inet_ntop(socket.AF_INET6 if len(raw) == 16 else socket.AF_INET, raw)
