"""Text as a terminal may show it: process names, models and answers of servers are anybody's to choose."""

from typing import Final

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
