"""One line of the command palette."""

from dataclasses import dataclass

from textual.dom import DOMNode


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that can be done."""

    words: str
    key: str
    action: str
    node: DOMNode
    unit: str = ""
    """Service id of the unit to be selected first; empty: it does not matter."""

    def matches(self, needle: str) -> bool:
        """Every word of it is found here."""
        words = self.words.casefold()
        return all(part in words for part in needle.casefold().split())
