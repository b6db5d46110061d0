"""Paths as people write them in YAML."""

import re
from pathlib import Path
from typing import Final

_HOME: Final = re.compile(r"^(~(?=/|$)|\$HOME(?![A-Za-z0-9_])|\$\{HOME\})")

EXPECTED_PATH: Final = "an absolute path, or one that begins with ~ or $HOME"


def expand(text: str, home: Path) -> Path:
    """`~`, `$HOME` and `${HOME}` at the start become the home folder. Raises: ValueError, saying what is expected."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text) or text != text.strip():
        raise ValueError(f"{EXPECTED_PATH}, without control characters or spaces around it")
    expanded = _HOME.sub(lambda _: str(home), text)
    if "$" in expanded.removeprefix(str(home)):
        raise ValueError(f"{EXPECTED_PATH}; no other variable is expanded")
    if expanded.endswith("\\") or not expanded.startswith("/"):
        raise ValueError(EXPECTED_PATH)
    return Path(expanded)
