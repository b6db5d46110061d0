"""The minutes before somebody opens the demo, so that there is something to look back at."""

from typing import Final

from gpumod_tui.core.events import SwitchSeen
from gpumod_tui.core.status.history import History
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.status.snapshot import take_snapshot
from gpumod_tui.demo.clock import RunningClock
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.demo.others import SWITCHED_AGO_S, past

LIVED_S: Final = 11 * 60.0
_STEP_S: Final = 0.5
_LOOKS: Final = 2
"""Steps from one look to the next."""
_STOPPED_S: Final = 3.0
"""From one server's stop to the other's start: what it held is back by then."""


def live(host: DemoHost, clock: RunningClock) -> History:
    """Let minutes go by in which the box was switched from mode code to rag; what was seen of them."""
    history = History()
    begins = clock.time()
    records = past(begins + LIVED_S)
    host.store.remember(records)
    host.store.record(Recorded("code", begins))
    host.at(LIVED_S - SWITCHED_AGO_S, lambda: host.units.stop("glm-code.service"))
    host.at(LIVED_S - SWITCHED_AGO_S + _STOPPED_S, lambda: host.units.start("vllm-embedding.service"))
    for step in range(int(LIVED_S / _STEP_S)):
        clock.skip(_STEP_S)
        host.world.settle()
        if step % _LOOKS == 0:
            history.add(take_snapshot(host, lambda: Recorded("rag"), probe=False))
    for record in records:
        history.marks.follow(SwitchSeen(record, running=False), clock.time())
    host.store.record(Recorded("rag", records[0].ended_at))
    return history
