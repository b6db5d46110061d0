"""What is told beside the screen: toasts for what failed, a bell for what took long."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from textual.notifications import SeverityLevel

from gpumod_tui.core.models import ActiveState, Snapshot
from gpumod_tui.core.switch.results import Outcome
from gpumod_tui.ui.common.format import harmless, in_gib
from gpumod_tui.ui.gpus.alarms import alarms_of
from gpumod_tui.ui.switch.progress import Progress

_TELLS_OSC_9: Final = frozenset(("iTerm.app", "WezTerm", "ghostty", "WarpTerminal", "rio"))
_TERMS_OSC_9: Final = ("xterm-ghostty", "xterm-kitty", "foot", "wezterm")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something went wrong while nobody may have looked."""

    title: str
    text: str
    severity: SeverityLevel = "error"


def failures(before: Snapshot | None, after: Snapshot) -> tuple[Notice, ...]:
    """What failed between two looks; nothing at the first one, for that is on screen."""
    if before is None:
        return ()
    known = {view.id: view.state for view in before.services}
    found: list[Notice] = []
    for view in after.services:
        state, old = view.state, known.get(view.id)
        newly = old is not None and (
            old.active_state is not ActiveState.FAILED or old.invocation_id != state.invocation_id
        )
        if state.active_state is ActiveState.FAILED and newly:
            found.append(Notice(view.id, f"failed: {state.result}"))
    if after.gpu_error and not before.gpu_error:
        found.append(Notice("GPUs", f"cannot be read: {after.gpu_error}"))
    if after.units_error and not before.units_error:
        found.append(Notice("units", f"cannot be read: {after.units_error}"))
    old_alarms = {alarm.key for alarm in alarms_of(before.gpus)}
    new = [alarm for alarm in alarms_of(after.gpus) if alarm.key not in old_alarms]
    found += [Notice(f"GPU {alarm.gpu}", alarm.words) for alarm in new]
    return tuple(found)


def bad_end(ended: Progress) -> Notice | None:
    """What to tell where the steps of a switch are not in sight; None: it ended well."""
    if ended.result is None or not ended.failed:
        return None
    reasons = [error.message for error in ended.result.errors[:1]]
    told = ": ".join([ended.end_words, *reasons])
    wanted = ended.result.outcome is Outcome.CANCELLED
    return Notice(ended.title, harmless(in_gib(told)), "warning" if wanted else "error")


def desktop_notice(text: str, environ: Mapping[str, str]) -> str:
    """OSC 9 for terminals that are known to make a notification of it; empty for all others."""
    known = environ.get("TERM_PROGRAM") in _TELLS_OSC_9 or environ.get("TERM", "").startswith(_TERMS_OSC_9)
    # Between the terminal and a screen multiplexer nobody knows who reads it.
    if not known or environ.get("TMUX") or environ.get("STY"):
        return ""
    return f"\x1b]9;{harmless(text)}\x07"
