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


_MOST: Final = 20
"""Of the largest number that 64 bits hold."""


def number_of(text: str) -> int | None:
    """What plain digits stand for; None: it is something else, or larger than any counter."""
    return int(text) if len(text) <= _MOST and text.isascii() and text.isdigit() else None


_KEPT: Final = frozenset("\t\xa0\u202f\u3000")
"""Not printable to Python, and no harm to anybody."""


def harmless(text: str) -> str:
    """The text with all that a terminal might obey replaced, ends of lines too."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in _KEPT else "�" for letter in text)


def in_one_line(text: str) -> str:
    """The same; what stands on several lines stands one behind the other, so that nothing passes for a line of ours."""
    first, *more = text.splitlines() or [""]
    return harmless(" ".join([first, *(line.strip() for line in more)]))
