"""Regular expressions over log lines, in time that grows with the line only.

Python's own engine can take hours for one line (`(a|aa)+$`) and holds the interpreter meanwhile: no thread and no limit
helps against that. RE2 cannot: it has no look-around and no back references, and says so.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gpumod_tui.ui.journal.sanitize import harmless

LONGEST: Final = 200
_MEMORY_BYTES: Final = 1 << 20
"""Of a compiled pattern: what bounds the time for one long line."""
_UPPER: Final = re.compile(r"(?<!\\)[A-Z]")
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that can be used. Lower case alone finds upper case too."""

    text: str
    compiled: Any

    def matches(self, line: str) -> bool:
        """Anywhere in it."""
        return self.compiled.search(line) is not None

    def spans(self, line: str) -> Iterator[tuple[int, int]]:
        """From and to of the first matches that are not empty."""
        for number, match in enumerate(self.compiled.finditer(line)):
            if number >= _SHOWN:
                return
            start, end = match.span()
            if start < end:
                yield start, end


@dataclass(frozen=True, slots=True)
class BadPattern:
    """A text that is no pattern, and why not."""

    reason: str


def pattern_of(text: str) -> Pattern | BadPattern | None:
    """None: there is nothing in it."""
    text = harmless(text)
    if not text:
        return None
    if len(text) > LONGEST:
        return BadPattern(f"{len(text)} characters, at most {LONGEST} are taken")
    import re2  # 5 ms, for those who filter or search

    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    options.case_sensitive = _UPPER.search(text) is not None
    try:
        return Pattern(text, re2.compile(text, options))
    except re2.error as error:
        said = error.args[0] if error.args else ""
        return BadPattern(said.decode(errors="replace") if isinstance(said, bytes) else str(said))
