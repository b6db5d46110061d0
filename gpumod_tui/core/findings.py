"""What a check found."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is, the worst first."""

    ERROR = "error"
    """What gpumod promises does not hold, or gpumod cannot work."""
    WARNING = "warning"
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """The group it belongs to."""
    severity: Severity
    what: str
    why: str = ""
    """What follows from it; empty: nothing does."""
    todo: str = ""
    """What to do, a command where there is one; empty only where nothing has to be done."""


def error(check: str, what: str, why: str, todo: str) -> Finding:
    """Something that must be put right."""
    return Finding(check, Severity.ERROR, what, why, todo)


def warning(check: str, what: str, why: str, todo: str) -> Finding:
    """Something that may be meant so."""
    return Finding(check, Severity.WARNING, what, why, todo)


def fine(check: str, what: str) -> Finding:
    """Something that is as it should be."""
    return Finding(check, Severity.OK, what)
