"""What the signs on the dashboard mean, for the help."""

from typing import Final

from rich.style import Style

from gpumod_tui.ui.common.rows import Row
from gpumod_tui.ui.gpus.graph import FOREIGN_NAME, HATCHED, RELEASING_NAME
from gpumod_tui.ui.gpus.rows import COMING, FREE, MARGIN, RESERVED
from gpumod_tui.ui.theme.ascii import FOCUS_MARK
from gpumod_tui.ui.theme.styles import ACCENT, BAD, DIM, FOREIGN, GOOD, OTHER, RELEASING, UNIT_COLOURS, WARN

Sign = tuple[Row, str]
"""As it is painted, and what it says."""
SIGNS: Final[tuple[Sign, ...]] = (
    ([("● ", GOOD), ("○ ", WARN), ("✖", BAD)], "ready, not ready yet, failed"),
    ([("◐ ◆", WARN)], "a mode that was reached in part, or changed since"),
    ([("↻", WARN)], "how often systemd restarted it by itself"),
    (
        [("■ ", Style(color=colour)) for colour in UNIT_COLOURS[:3]],
        "a unit, and its memory: by colour, without colours by texture",
    ),
    ([(HATCHED[FOREIGN_NAME] * 3, FOREIGN)], "memory of processes that are not managed"),
    ([(HATCHED[RELEASING_NAME] * 3, RELEASING)], "memory nobody holds any more, not given back yet"),
    ([("███", OTHER)], "memory that no process shows: the display, the driver"),
    ([(FREE * 3, DIM)], "free memory, in a bar; what is left of any progress"),
    ([(RESERVED * 3, DIM)], "memory that the NVIDIA driver keeps for itself"),
    ([(COMING * 3, ACCENT), (MARGIN * 2, WARN)], "in a plan: what comes, and the margin that stays free"),
    (
        [("△ ", DIM), ("▲ ", ACCENT), ("○ ", WARN), ("⊘ ", WARN), ("✖", BAD)],
        "on the time axis: a switch began, ended, was cancelled; refused; failed",
    ),
    ([("!", BAD)], "a GPU process that belongs to no managed unit"),
    ([(FOCUS_MARK, ACCENT)], "the pane that arrows and its own keys act in"),
)
"""As they are painted elsewhere, so that they look alike in every theme."""
