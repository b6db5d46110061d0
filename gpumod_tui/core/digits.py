"""Numbers that others wrote: `²` is a digit for Python, too, and thousands of digits are more than it converts."""

from typing import Final

_MOST: Final = 20
"""Of the largest number that 64 bits hold."""


def number_of(text: str) -> int | None:
    """What plain digits stand for; None: it is something else, or larger than any counter."""
    return int(text) if len(text) <= _MOST and text.isascii() and text.isdigit() else None
