"""QA.md as data: its commands by section, taken out of its fenced blocks."""

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

COPY = Path(__file__).with_name("QA.md")
SOURCE = Path(__file__).resolve().parents[3] / "shared" / "QA.md"
"""Where the procedure is kept, beside the checkout; not there on a user's machine."""

_FENCE = re.compile(r"^ *```bash\n(?P<commands>.*?)^ *```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Section:
    """One numbered step of the sequence (`Step 2`) or one test (`Test 4`)."""

    name: str
    title: str
    text: str
    commands: str
    """Of its one fenced block; empty: it has none."""

    @property
    def expected(self) -> tuple[str, ...]:
        """The bullet points under **Expected**."""
        _, _, after = self.text.partition("**Expected**:\n")
        return tuple(line[2:] for line in after.partition("\n\n")[0].splitlines() if line.startswith("- "))


def sections(document: str) -> dict[str, Section]:
    """By name, in the document's order. Raises: ValueError, when a section has more than one block of commands."""
    _, _, sequence = document.partition("### QA Sequence\n")
    sequence = sequence.partition("\n### ")[0]
    steps = re.split(r"^(\d+)\. \*\*(.+?)\*\*", sequence, flags=re.MULTILINE)[1:]
    tests = re.split(r"^### (Test \d+): (.+)$", document, flags=re.MULTILINE)[1:]
    found = [_section(f"Step {number}", title, text) for number, title, text in _by_three(steps)]
    found += [
        _section(name, title, re.split(r"^### ", text, flags=re.MULTILINE)[0]) for name, title, text in _by_three(tests)
    ]
    return {section.name: section for section in found}


def log_command(document: str) -> str:
    """What to look at a unit's log with; holds the placeholder `<unit>`."""
    match = re.search(r"Service logs are clean \(`([^`]+)`\)", document)
    if match is None:
        raise ValueError("no command for logs")
    return match[1]


def _by_three(parts: list[str]) -> list[tuple[str, str, str]]:
    return list(zip(parts[0::3], parts[1::3], parts[2::3], strict=True))


def _section(name: str, title: str, text: str) -> Section:
    blocks = [dedent(match["commands"]) for match in _FENCE.finditer(text)]
    if len(blocks) > 1:
        raise ValueError(f"{name} has {len(blocks)} blocks of commands")
    return Section(name, title, text, blocks[0] if blocks else "")
