"""A switch as the command line shows it: live on a terminal, plain lines elsewhere, silent once nobody reads."""

import contextlib
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import FrameType
from typing import Final

from gpumod_tui.cli._output import clock_time, is_terminal, print_json, say, warn
from gpumod_tui.core.engine import Engine
from gpumod_tui.core.errors import StateUnavailable
from gpumod_tui.core.events import Event, Planned, StepEnded, StepProgress, StepStarted
from gpumod_tui.core.switch.manager import Manager
from gpumod_tui.core.switch.records import SwitchError
from gpumod_tui.core.switch.results import ModeResult, Outcome, SwitchPlan
from gpumod_tui.core.text import format_mib, in_one_line

_PENDING: Final = 1000
"""Pieces of text that wait for a terminal which does not read; what is over is dropped."""
_LOOK_S: Final = 0.1
_AGAIN: Final = "\r\x1b[K"
"""Writes the line of a terminal anew."""


class View:
    """Prints events. It is called from the manager's thread and must never end or hold up the switch: a terminal that
    does not read (Ctrl-S, a stopped pager) holds up only the thread that prints."""

    def __init__(self, *, quiet: bool) -> None:
        self._open = not quiet
        self._live = is_terminal()
        self._texts: queue.Queue[str | None] = queue.Queue(_PENDING)
        self._printer = threading.Thread(target=self._print, name="gpumod-view", daemon=True)
        if self._open:
            self._printer.start()

    def close(self) -> None:
        """Nothing is printed any more: the terminal is gone or the user has turned away."""
        self._open = False

    def finish(self) -> bool:
        """Wait until all is printed; False: the view was closed before, and its terminal does not read."""
        while self._printer.is_alive():
            with contextlib.suppress(queue.Full):
                self._texts.put_nowait(None)
            self._printer.join(_LOOK_S)
            if not self._open and self._printer.is_alive():
                self._printer.join(_LOOK_S)
                return not self._printer.is_alive()
        return True

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, StepStarted) and self._live:
            self._write(f" ▸ {event.step:<10}{event.detail}")
        elif isinstance(event, StepProgress) and self._live:
            percent = "" if event.fraction is None else f"  {event.fraction:4.0%}"
            self._write(f" ▸ {event.step:<10}{event.detail[:90]}{percent}")
        elif isinstance(event, StepEnded):
            sign = ("✔" if event.ok else "✖") if self._live else ("ok" if event.ok else "FAILED")
            margin = " " if self._live else ""
            detail = event.detail if event.ok else ""
            self._write(f"{margin}{sign} {event.step:<10}{event.seconds:6.1f} s  {detail}".rstrip(), end="\n")
        elif isinstance(event, Planned):
            for warning in event.plan.warnings:
                self._write(f"warning: {warning}", end="\n")

    def _write(self, text: str, *, end: str = "") -> None:
        if self._open:
            with contextlib.suppress(queue.Full):
                self._texts.put_nowait(f"{_AGAIN if self._live else ''}{in_one_line(text)}{end}")

    def _print(self) -> None:
        while (text := self._texts.get()) is not None:
            if not self._open:
                continue
            try:
                sys.stdout.write(text)
                sys.stdout.flush()
            except (OSError, ValueError):
                self.close()


class _Interrupts:
    """SIGINT of one command: a wish to cancel, kept until there is somebody to tell."""

    def __init__(self) -> None:
        self._wished = False
        self._cancel: Callable[[], None] | None = None

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        # A second one may come inside the first one's call, whose lock would never be free for it.
        first, self._wished = not self._wished, True
        if first and self._cancel is not None:
            self._cancel()

    def go_to(self, cancel: Callable[[], None]) -> None:
        """From now on they go there; what was wished before, now."""
        self._cancel = cancel
        if self._wished:
            cancel()


def run_switch(host: Engine, submit: Callable[[Manager], "Future[ModeResult]"], *, as_json: bool) -> int:
    """Carry out one switch to its end, whatever becomes of the terminal; the exit code."""
    view = View(quiet=as_json)
    interrupts = _Interrupts()

    def end_view(_number: int, _frame: FrameType | None) -> None:
        view.close()

    signal.signal(signal.SIGHUP, end_view)
    signal.signal(signal.SIGTERM, end_view)
    signal.signal(signal.SIGINT, interrupts)
    # Now: the record of this one takes its place.
    _warn_of_interrupted(host)
    manager = Manager(host, view)
    future = submit(manager)
    interrupts.go_to(manager.cancel)
    result = future.result()
    manager.close()
    if not view.finish():
        # Python would wait for the terminal when it flushes at its end.
        os._exit(result.exit_code)
    with contextlib.suppress(OSError, ValueError):
        tell_result(result, as_json=as_json)
    for text in host.admission.take_news():
        warn(text)
    return result.exit_code


def _warn_of_interrupted(host: Engine) -> None:
    try:
        left = host.store.read().interrupted
    except StateUnavailable as error:
        # Whether it stands against the switch is for the manager to say.
        warn(str(error))
        return
    if left is not None:
        warn(
            f"the switch to {left.target} by pid {left.pid} was interrupted at step {left.step}"
            f" ({clock_time(left.started_at)}); going on from what systemd says"
        )


def tell_result(result: ModeResult, *, as_json: bool) -> None:
    """The end of a switch: stdout when it is done, stderr with reasons when it is not."""
    if as_json:
        print_json(result)
        return
    for warning in result.warnings:
        warn(warning)
    seconds = sum(result.timings.values())
    if result.success:
        say(f"{result.mode}: done in {seconds:.1f} s")
        return
    lead = {
        Outcome.REFUSED: "refused, nothing was touched",
        Outcome.BUSY: "busy, nothing was touched",
        Outcome.CANCELLED: "cancelled",
        Outcome.UNKNOWN_TARGET: "unknown",
    }.get(result.outcome, "failed")
    at = next((error.step for error in result.errors if error.step), "")
    say(f"gpumod: {result.mode}: {lead}{f' at {at}' if at else ''}", err=True)
    for error in result.errors:
        tell_error(error)
    if result.outcome in (Outcome.FAILED, Outcome.CANCELLED):
        stopped, started = (", ".join(names) or "nothing" for names in (result.stopped, result.started))
        more = f"; asleep: {', '.join(result.slept)}" if result.slept else ""
        say(f"  now: stopped: {stopped}; started: {started}{more}", err=True)


def tell_error(error: SwitchError) -> None:
    """What and why, who holds memory, the unit's last words, what to do next."""
    say(f"  {error}", err=True)
    for line in error.journal:
        say(f"    | {clock_time(line.at)} {line.identifier}: {line.message}", err=True)
    if error.hint:
        say(f"  next: {error.hint}", err=True)


def tell_plan(plan: SwitchPlan, *, as_json: bool) -> int:
    """What would happen; 3 if it would be refused."""
    if as_json:
        print_json(plan)
    else:
        say(f"plan for {plan.target}")
        say(f"  stop     {', '.join(plan.stop) or '–'}")
        if plan.sleep:
            say(f"  sleep    {', '.join(plan.sleep)}")
        say(f"  keep     {', '.join(plan.keep) or '–'}")
        if plan.wake:
            say(f"  wake     {', '.join(plan.wake)}")
        say(f"  restart  {', '.join(plan.restart) or '–'}")
        say(f"  start    {', then '.join(', '.join(wave) for wave in plan.start) or '–'}")
        for service, model, need_bytes in plan.loads:
            say(f"  load     {model} ({service}), {format_mib(need_bytes)}")
        for row in plan.arithmetic:
            say(f"  {row}")
        for warning in plan.warnings:
            say(f"  warning: {warning}")
    for blocker in plan.blockers:
        say(f"gpumod: would be refused: {blocker}", err=True)
        if blocker.hint:
            say(f"  next: {blocker.hint}", err=True)
    return 3 if plan.blockers else 0
