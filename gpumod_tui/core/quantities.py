"""Memory amounts: bytes in code, MiB or GiB for people."""

from typing import Final

MIB: Final = 1024**2
GIB: Final = 1024**3


def mib(amount_bytes: int) -> int:
    """Whole MiB, rounded up: a need must not shrink by rounding."""
    return -(-amount_bytes // MIB)


def format_mib(amount_bytes: int | None) -> str:
    """`20480 MiB`, or `N/A` for None."""
    return "N/A" if amount_bytes is None else f"{amount_bytes / MIB:.0f} MiB"


def format_gib(amount_bytes: int | None, *, unit: bool = True) -> str:
    """`20.0 GiB` (or `20.0`), or `N/A` for None."""
    if amount_bytes is None:
        return "N/A"
    text = f"{amount_bytes / GIB:.1f}"
    return f"{text} GiB" if unit else text
