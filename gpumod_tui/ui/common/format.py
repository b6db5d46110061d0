"""Words and bars for values; everything here is pure."""

import math
import re
import time
from typing import Final

from gpumod_tui.core.models import ActiveState, GpuSample, ServiceView
from gpumod_tui.core.text import GIB
from gpumod_tui.ui.journal.sanitize import harmless as harmless

EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
UNKNOWN: Final = "N/A"
NOTHING: Final = "–"
EMPTY: Final = "╌"
"""What is not full of a bar."""
_MIB: Final = re.compile(r"\b(\d+) MiB\b")


def gib(amount_bytes: int | None) -> str:
    """`19.5`, or `N/A`."""
    return UNKNOWN if amount_bytes is None else f"{amount_bytes / GIB:.1f}"


def gib_up(amount_bytes: int) -> str:
    """The same, rounded up: what is lacking never reads as nothing."""
    return f"{math.ceil(amount_bytes / GIB * 10) / 10:.1f}"


def in_gib(sentence: str) -> str:
    """Amounts as screens show them: `23552 MiB` reads `23.0 GiB`; what would read as nothing stays in MiB."""
    return _MIB.sub(lambda found: f"{int(found[1]) / 1024:.1f} GiB" if int(found[1]) >= 100 else found[0], sentence)


def bar(share: float | None, width: int) -> tuple[str, str]:
    """The full and the empty part of a bar of so many cells; an unknown share is all empty."""
    eighths = round(max(0.0, min(1.0, share or 0.0)) * width * 8)
    full = "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")
    return full, EMPTY * (width - len(full))


def percent(amount: float | None) -> str:
    """`3 %`; from ten on in fives: it never stands still."""
    if amount is None:
        return UNKNOWN
    return f"{round(amount) if amount < 10 else round(amount / 5) * 5} %"


def seconds(amount: float) -> str:
    """`0.4 s`, `11.4 s`, `2 min 05 s`."""
    if amount < 100:
        return f"{amount:.1f} s"
    return f"{int(amount) // 60} min {int(amount) % 60:02d} s"


def ago(since: float | None, now: float) -> str:
    """How long something lasts, coarse enough to change seldom."""
    if since is None:
        return NOTHING
    age = max(0.0, now - since)
    if age < 10:
        return "now"
    if age < 60:
        return f"{int(age) // 10 * 10} s"
    if age < 3600:
        return f"{int(age) // 60} min"
    if age < 2 * 86400:
        return f"{int(age) // 3600} h"
    return f"{int(age) // 86400} d"


def clock(at: float, *, with_seconds: bool = False) -> str:
    """Local time of day; `–` for what is no time of any calendar."""
    try:
        return time.strftime("%H:%M:%S" if with_seconds else "%H:%M", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return NOTHING


def day_and_time(at: float, *, with_seconds: bool = False) -> str:
    """`11-23 21:40`, always as wide; `–` for what is no time of any calendar."""
    try:
        return time.strftime("%m-%d %H:%M:%S" if with_seconds else "%m-%d %H:%M", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return f"{NOTHING:<11}"


def day(at: float) -> str:
    """`Mon 23 Nov`, local; `–` for what is no time of any calendar."""
    try:
        return time.strftime("%a %d %b", time.localtime(at))
    except (OverflowError, ValueError, OSError):
        return NOTHING


def next_day(at: float) -> float | None:
    """The local midnight after; None: there is none in any calendar."""
    try:
        here = time.localtime(at)
        return time.mktime((here.tm_year, here.tm_mon, here.tm_mday + 1, 0, 0, 0, 0, 0, -1))
    except (OverflowError, ValueError, OSError):
        return None


def state_words(view: ServiceView, width: int) -> str:
    """ActiveState and what explains it; only the first where both do not fit."""
    state = view.state
    if state.load_state != "loaded":
        return state.load_state.replace("-", " ")
    detail = state.result if state.active_state is ActiveState.FAILED else state.sub_state
    words = f"{state.active_state} {detail}"
    return words if len(words) <= width else str(state.active_state)


def gpu_name(sample: GpuSample) -> str:
    """`RTX 4090`: the maker and the family say nothing here."""
    name = sample.name or "GPU"
    for prefix in ("NVIDIA ", "GeForce "):
        name = name.removeprefix(prefix)
    return name


def watts(sample: GpuSample) -> str:
    """`230/450 W`, to 5 W: it never stands still; as wide whatever it draws."""
    if sample.power_w is None:
        return ""
    limit = f"/{sample.power_limit_w:.0f}" if sample.power_limit_w is not None else ""
    return f"{round(sample.power_w / 5) * 5:>{max(3, len(limit) - 1)}}{limit} W"
