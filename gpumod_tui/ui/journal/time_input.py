"""Moments as an operator writes them."""

import re
from datetime import datetime, timedelta
from typing import Final

EXPECTED: Final = "14:30, -10m, yesterday 14:00 or 2026-11-22 14:00"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_AGO: Final = re.compile(r"-\s*(\d{1,6})\s*([smhd])")
_CLOCK: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_DAY: Final = re.compile(r"(?:(\d{4})-)?(\d{1,2})-(\d{1,2})")


class BadMoment(ValueError):
    """A text that names no moment of the past; its message says what is expected."""


def moment(text: str, now: float) -> float:
    """Unix time, seconds, of a moment in local time before `now`. Raises: BadMoment.

    A time of day alone is the last one of that kind; a day alone is its beginning.
    """
    words = text.strip().lower()
    ago = _AGO.fullmatch(words)
    if ago:
        return now - int(ago[1]) * _UNITS[ago[2]]
    here = datetime.fromtimestamp(now)
    day, _, clock = words.rpartition(" ") if ":" in words else (words, "", "")
    if not words:
        raise BadMoment(f"expected {EXPECTED}")
    try:
        begin = _day(day.strip(), here)
        found = begin + _clock(clock)
    except (ValueError, OverflowError) as error:
        raise BadMoment(f"expected {EXPECTED}") from error
    if not day and found > here:
        found -= timedelta(days=1)
    if found > here:
        raise BadMoment("that is yet to come")
    return found.timestamp()


def _day(words: str, here: datetime) -> datetime:
    today = here.replace(hour=0, minute=0, second=0, microsecond=0)
    if words in ("", "today"):
        return today
    if words == "yesterday":
        return today - timedelta(days=1)
    found = _DAY.fullmatch(words)
    if not found:
        raise ValueError(words)
    return today.replace(year=int(found[1] or here.year), month=int(found[2]), day=int(found[3]))


def _clock(words: str) -> timedelta:
    if not words:
        return timedelta()
    found = _CLOCK.fullmatch(words)
    if not found or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        raise ValueError(words)
    return timedelta(hours=int(found[1]), minutes=int(found[2]), seconds=int(found[3] or 0))
