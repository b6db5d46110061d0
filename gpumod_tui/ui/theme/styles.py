"""Colours: one style for each meaning, one colour for each unit, the same everywhere.

These are the dark theme's; `skins` translates them, so every colour here needs its counterpart there."""

import zlib
from collections.abc import Iterable
from typing import Final

from rich.style import Style
from textual.theme import Theme

BACKGROUND: Final = "#0f1216"
PANEL: Final = "#171c22"

TEXT: Final = Style(color="#c9d1d9")
STRONG: Final = Style(color="#f0f3f6", bold=True)
DIM: Final = Style(color="#75808c")
RULE: Final = Style(color="#3b4652")
ACCENT: Final = Style(color="#6cb6e6")
KEY: Final = Style(color="#6cb6e6", bold=True)
GOOD: Final = Style(color="#7cc47f")
WARN: Final = Style(color="#e3b341")
BAD: Final = Style(color="#f47067", bold=True)
CURSOR: Final = Style(bgcolor="#232c36")
CHOSEN: Final = Style(color="#0f1216", bgcolor="#6cb6e6", bold=True)
ALARM: Final = Style(color="#0f1216", bgcolor="#f47067", bold=True)
"""What must not be overlooked."""
FOREIGN: Final = Style(color="#a3573f")
"""Memory of processes that are not managed."""
RELEASING: Final = Style(color="#8a95a1")
"""Memory that nobody holds any more."""
OTHER: Final = Style(color="#4a5560")
"""Memory that no process shows."""

UNIT_COLOURS: Final = ("#5a9bd8", "#e09f4f", "#6fb77d", "#b48ad9", "#4db6ac", "#d97fa6", "#b3b95a", "#8f9ee8")
"""In the order of the catalog, and then again from the first."""

THEME: Final = Theme(
    name="gpumod",
    primary="#6cb6e6",
    foreground="#c9d1d9",
    background=BACKGROUND,
    surface=BACKGROUND,
    panel=PANEL,
    success="#7cc47f",
    warning="#e3b341",
    error="#f47067",
    dark=True,
)


class UnitColours:
    """A colour for each unit, by its place in the catalog; others get one by their name."""

    def __init__(self, service_ids: Iterable[str]) -> None:
        self._styles = {
            service_id: Style(color=UNIT_COLOURS[place % len(UNIT_COLOURS)])
            for place, service_id in enumerate(service_ids)
        }

    def style(self, service_id: str) -> Style:
        """The same for the same id, in every process."""
        known = self._styles.get(service_id)
        if known is None:
            known = Style(color=UNIT_COLOURS[zlib.crc32(service_id.encode()) % len(UNIT_COLOURS)])
            self._styles[service_id] = known
        return known
