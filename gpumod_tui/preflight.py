"""`gpumod preflight`: the ExecCondition of every unit. Exit 0: admitted; 1: not. Nothing else, whatever happens."""

import os
import sys
import threading
from typing import Final

from gpumod_tui.core.text import in_one_line

WATCHDOG_S: Final = 10.0
"""Without a sign of life for so long, the answer is no."""
WAIT_S: Final = 30.0
"""How long to wait for memory that is on its way back; the unit's TimeoutStartSec is longer."""


class Watchdog:
    """Ends the process with a refusal when nothing beats it; no lock, library or driver can hold that up."""

    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self.beat()

    def beat(self) -> None:
        """A sign of life."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(WATCHDOG_S, self._bite)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """The answer is there."""
        if self._timer is not None:
            self._timer.cancel()

    def _bite(self) -> None:
        os.write(2, f"<3>gpumod: refused: no answer within {WATCHDOG_S:g} s\n".encode())
        os._exit(1)


def main(arguments: list[str]) -> int:
    """Decide for one unit; every fault is a refusal with a line at level err."""
    watchdog = Watchdog()
    try:
        return _decide(arguments, watchdog)
    except BaseException as error:  # noqa: BLE001 whatever goes wrong here must not read as an admission
        hint = getattr(error, "hint", "")
        say(3, f"gpumod: refused: {error or type(error).__name__}" + (f" (next: {hint})" if hint else ""))
        return 1
    finally:
        watchdog.stop()


def _decide(arguments: list[str], watchdog: Watchdog) -> int:
    if len(arguments) != 2 or arguments[0] != "--unit":
        say(3, "gpumod: refused: usage: gpumod preflight --unit UNIT")
        return 1
    from gpumod_tui.core.admission.decide import Refused
    from gpumod_tui.wiring import real_host

    unit = arguments[1]
    invocation = os.environ.get("INVOCATION_ID", "")
    if not invocation:
        say(3, f"gpumod: refused: {unit}: no INVOCATION_ID: this is for systemd's ExecCondition")
        return 1
    admission = real_host().admission
    verdict = admission.admit_patiently(
        unit, invocation=invocation, wait_s=WAIT_S, stop=threading.Event(), beat=watchdog.beat
    )
    for text in admission.take_news():
        say(4, f"gpumod: {text}")
    if isinstance(verdict, Refused):
        where = "" if verdict.short_bytes is None else "; gpumod status shows who holds what"
        say(3, f"gpumod: refused: {verdict}{where}")
        return 1
    return 0


def say(level: int, text: str) -> None:
    """One line for the journal, at a level that systemd reads from the `<N>` before it."""
    # A line with control characters is binary data to journalctl, which then shows none of it.
    line = in_one_line(" ".join(text.split()))
    sys.stderr.write(f"<{level}>{line}\n")
    sys.stderr.flush()
