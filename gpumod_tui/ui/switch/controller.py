"""What the app does about switches: wishes become plans, plans are shown or carried out, those that run cancelled."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from textual.app import App
from textual.notifications import SeverityLevel

from gpumod_tui.core.catalog.config import Confirm
from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.events import SwitchEnded, SwitchEvent
from gpumod_tui.core.models import Snapshot
from gpumod_tui.core.switch.records import SwitchRecord
from gpumod_tui.core.switch.results import Outcome, SwitchPlan
from gpumod_tui.ui.backend import Commands
from gpumod_tui.ui.common.confirm import cancel_screen
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.dashboard.screen import Dashboard
from gpumod_tui.ui.messages import Ask, PlanMade
from gpumod_tui.ui.switch.plan import PlanView
from gpumod_tui.ui.switch.plan_dialog import PlanScreen
from gpumod_tui.ui.switch.progress import Progress, fold, is_turned_away, title
from gpumod_tui.ui.theme.styles import UnitColours

DONE_SHOWN_S: Final = 8.0
"""How long a good end stays on screen; a bad one stays until it is closed."""
GUARD_S: Final = 0.3
"""For so long no key may have been pressed before a plan that has just opened is open to them: what was typed for
something else must not carry it out."""
REPLAN_S: Final = 1.0
"""Between two looks at the box for a plan that is on screen."""

InThread = Callable[[str, Callable[[], object], str], None]
"""(name, work, where its fault is told)"""


@dataclass(frozen=True, slots=True)
class _Next:
    """What waits for the end of a switch."""

    target: str
    do: Callable[[], None]
    is_planned: bool
    """It becomes a plan first, which can be shown."""


class SwitchDesk:
    """Knows which switch is on screen, what waits behind it, and which plan."""

    def __init__(
        self,
        app: App[None],
        dashboard: Dashboard,
        commands: Commands,
        in_thread: InThread,
        colours: UnitColours,
        confirm: Confirm,
        *,
        guard_s: float,
    ) -> None:
        """`guard_s`: as `GUARD_S`."""
        self._app = app
        self._dashboard = dashboard
        self._commands = commands
        self._in_thread = in_thread
        self._colours = colours
        self._confirm = confirm
        self._guard_s = guard_s
        self._next: _Next | None = None
        self._insists = False
        """The next plan is shown, whatever is configured."""
        self._now = 0.0
        self._ended_at: float | None = None
        """When a good end came on screen; None: there is none."""
        self._look = 0
        """Number of the newest look at the box for a plan; what an older one finds comes too late."""
        self._asked: Ask | None = None
        """The newest wish, until its plan is on screen."""
        self._planned_for: object = None
        """What the units were when the plan on screen was begun."""
        self._planned_at = 0.0
        self._screen: PlanScreen | None = None

    @property
    def running(self) -> str | None:
        """Target of a switch of this process that has not ended."""
        progress = self._dashboard.progress
        own = progress is not None and progress.running and progress.elsewhere is None
        return progress.target if own and progress is not None else None

    @property
    def then(self) -> str:
        """What waits for its end, in words; empty: nothing."""
        return self._dashboard.progress.then if self._dashboard.progress is not None else ""

    @property
    def elsewhere(self) -> SwitchRecord | None:
        """The switch of another process that runs."""
        progress = self._dashboard.progress
        return progress.elsewhere if progress is not None and progress.running else None

    # -- what happens ------------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot) -> None:
        """The newest look at the box: a good end is put away in time, and the plan on screen kept up to date."""
        self._now = snapshot.at
        if self._ended_at is not None and snapshot.at - self._ended_at > DONE_SHOWN_S:
            self._ended_at = None
            self._dashboard.progress = None
        if self._screen is not None and self.running is None and self.elsewhere is None:
            changed = _stands(snapshot) != self._planned_for
            if changed and abs(snapshot.at - self._planned_at) >= REPLAN_S:
                self._plan_for(self._screen.ask)

    def turns_away(self, event: SwitchEvent) -> bool:
        """Whether this one never began: there is none of that name, or one of another process runs. What is on screen
        stays there; says so then."""
        if not isinstance(event, SwitchEnded):
            return False
        unknown = event.result.outcome is Outcome.UNKNOWN_TARGET
        if not unknown and not (is_turned_away(event) and self.elsewhere is not None):
            return False
        text = "; ".join(error.message for error in event.result.errors)
        severity: SeverityLevel = "error" if unknown else "warning"
        self._app.notify(text, title=title(event.result.mode), severity=severity, markup=False)
        return True

    def follow(self, event: SwitchEvent) -> Progress | None:
        """One event of a switch; the switch, if that is how it ended."""
        before = self._dashboard.progress
        own = self.running is not None
        progress = fold(before, event, self._now)
        ended = progress.result is not None and progress is not before
        if progress is not before:
            progress = replace(progress, waiting=self._next.target if self._next and progress.running else "")
        self._dashboard.progress = progress
        good = progress.result is not None and progress.result.outcome is Outcome.DONE
        self._ended_at = self._now if ended and good else None
        began = before is None or not before.running or before.target != progress.target
        if self._screen is not None and (began or not progress.running):
            self._plan_for(self._screen.ask)
        if ended and own and self._next is not None:
            waited, self._next = self._next, None
            self._take_turn(waited, progress)
        return progress if ended else None

    def _take_turn(self, waited: _Next, ended: Progress) -> None:
        """Do what waited. After a bad end only what is planned first, and that plan is shown."""
        good = ended.result is not None and ended.result.outcome is Outcome.DONE
        if good or waited.is_planned:
            self._insists = not good
            waited.do()
        else:
            text = f"not done: {ended.title}: {ended.end_words}"
            self._app.notify(text, title=title(waited.target), severity="warning", markup=False)

    # -- what is wanted ----------------------------------------------------------------------------------------

    def ask(self, wish: Ask) -> None:
        """Plan it."""
        if self._screen is None:
            self._plan_for(wish)

    def when_free(self, target: str, do: Callable[[], None], *, is_planned: bool = False) -> None:
        """Do it now, or when the switch that runs here has ended. One thing waits at a time, the last one wanted."""
        if self.running is None:
            do()
            return
        before, self._next = self._next, _Next(target, do, is_planned)
        if before is not None and before.target != target:
            self._app.notify(f"instead of “{title(before.target)}”", title=f"next: {title(target)}", markup=False)
        self._show_next()

    def _show_next(self) -> None:
        if self._dashboard.progress is not None:
            waiting = self._next.target if self._next is not None else ""
            self._dashboard.progress = replace(self._dashboard.progress, waiting=waiting)

    def _let_wait(self, wish: Ask) -> None:
        self.when_free(_target(wish), lambda: self._plan_for(wish), is_planned=True)

    def made(self, message: PlanMade) -> None:
        """Show the plan and ask, unless the wish or the box is another one by now; or carry it out, as configured."""
        asked = self._asked
        if asked is None or message.look != self._look:
            return
        self._forget()
        if self.running is not None or self.elsewhere is not None:
            self._plan_for(asked)
            return
        insists, self._insists = self._insists, False
        screen = self._screen
        if screen is None and message.plan is not None and not (insists or must_ask(self._confirm, message.plan)):
            self._submit(asked)
        elif screen is None and self._app.screen is not self._dashboard:
            # A key meant for what was opened meanwhile must not carry it out.
            text = "another screen was opened before its plan was made: ask again"
            self._app.notify(text, title=title(asked.name), severity="warning", markup=False)
        elif screen is None or screen.ask is asked:
            (screen or self._open(asked)).show_plan(message.plan, message.reason, message.fitting)

    def drop(self) -> None:
        """What is being planned, or else what waits for the end of a switch, is not done."""
        if self._asked is not None and self._screen is None:
            self._forget()
            self._insists = False
        elif self._next is not None:
            self._app.notify("esc again cancels the switch", title=f"dropped: {title(self._next.target)}", markup=False)
            self._next = None
            self._show_next()

    def cancel(self) -> None:
        """Ask the switch that runs to end, which it does by itself. One of another process, and one that has stopped
        something, only when that is confirmed."""
        progress, elsewhere = self._dashboard.progress, self.elsewhere
        if elsewhere is not None:
            self._app.push_screen(
                cancel_screen(title(elsewhere.target), elsewhere),
                lambda agreed: self._cancel_elsewhere(elsewhere) if agreed else None,
            )
        elif progress is not None and progress.stopped and not progress.cancelling:
            self._app.push_screen(
                QuestionScreen("Cancel", cancel_sentence(progress), "cancel it"),
                lambda agreed: self._cancel_own(progress) if agreed else None,
            )
        elif progress is not None:
            self._cancel_own(progress)

    def _cancel_own(self, asked: Progress) -> None:
        progress = self._dashboard.progress
        if progress is not None and progress.running and (progress.target, progress.at) == (asked.target, asked.at):
            self._cancelling()
            self._in_thread("cancel", self._commands.cancel, "cancel")

    def _cancel_elsewhere(self, record: SwitchRecord) -> None:
        if self.elsewhere is not None and self.elsewhere.id == record.id:
            self._cancelling()
            self._in_thread("cancel", lambda: self._commands.cancel_elsewhere(record.id), "cancel")

    def _cancelling(self) -> None:
        if self._dashboard.progress is not None:
            self._dashboard.progress = replace(self._dashboard.progress, cancelling=True)

    # -- plans -------------------------------------------------------------------------------------------------

    def _plan_for(self, wish: Ask) -> None:
        """Not while a switch runs: what that has half done is gone when this one's turn comes."""
        running, elsewhere = self.running, self.elsewhere
        if running is None and elsewhere is None:
            self._look_for(wish)
            return
        self._forget()
        if self._screen is None and running is not None and not wish.is_blank:
            self._let_wait(wish)
            return
        if self._screen is None and self._confirm is Confirm.NEVER and wish.is_blank:
            self._submit(wish)
            return
        screen = self._screen or self._open(wish)
        if elsewhere is not None:
            screen.show_elsewhere(title(elsewhere.target), elsewhere.pid)
        else:
            screen.show_later(title(running or ""))

    def _look_for(self, wish: Ask) -> None:
        """In a thread: a plan looks at the whole box, which may take long. It waits for no other look, for it may be
        the way back; nor is there a second one for the same."""
        if self._asked is not None and _target(self._asked) == _target(wish):
            return
        self._asked = wish
        self._look = look = self._look + 1
        self._planned_for, self._planned_at = _stands(self._dashboard.snapshot), self._now
        if self._screen is None:
            self._dashboard.planning.title = title(_target(wish))
        self._in_thread(f"plan {wish.name}", lambda: self._plan(wish, look), "plan")

    def _forget(self) -> None:
        """Whatever is being planned is wanted no more."""
        self._asked = None
        self._dashboard.planning.title = ""

    def _plan(self, wish: Ask, look: int) -> None:
        plan: SwitchPlan | None = None
        fitting: tuple[str, ...] | None = None
        reason = ""
        try:
            by_mode = wish.verb == "mode"
            plan = self._commands.plan(wish.name) if by_mode else self._commands.plan_service(wish.verb, wish.name)
            if plan.blockers:
                fitting = self._commands.fitting()
        except GpumodError as error:
            reason = f"{error} ({error.hint})" if error.hint else str(error)
        except Exception as error:  # noqa: BLE001 - a thread's exception is shown nowhere else
            reason = f"planning failed: {error!r}"
        self._app.post_message(PlanMade(look, plan, reason, fitting))

    def _open(self, wish: Ask) -> PlanScreen:
        what = f"Switch to {wish.name}" if wish.verb == "mode" else f"{wish.verb.capitalize()} {wish.name}"
        screen = self._screen = PlanScreen(wish, PlanView(what, self._colours), guard_s=self._guard_s)
        self._app.push_screen(screen, lambda agreed: self._close(wish, agreed=bool(agreed)))
        return screen

    def _close(self, wish: Ask, *, agreed: bool) -> None:
        self._forget()
        self._screen = None
        if agreed and self.running is not None and not wish.is_blank:
            self._let_wait(wish)
        elif agreed:
            self._submit(wish)

    def _submit(self, wish: Ask) -> None:
        if self.running is not None:
            # A blank: it makes that cancel, and nothing is to come after it.
            self._next = None
            self._show_next()
            self._cancelling()

        def submit() -> None:
            if wish.verb == "mode":
                self._commands.submit_mode(wish.name)
            else:
                self._commands.submit_service(wish.verb, wish.name)

        self._in_thread("submit", submit, "switch")


def _target(wish: Ask) -> str:
    """As events name it."""
    return wish.name if wish.verb == "mode" else f"service {wish.verb} {wish.name}"


def cancel_sentence(progress: Progress) -> str:
    """What a switch that has stopped something leaves when it is cancelled."""
    names = ", ".join(progress.stopped)
    return f"“{progress.title}” stops {names}: what is stopped by now stays so, what it has started is stopped again."


def must_ask(confirm: Confirm, plan: SwitchPlan) -> bool:
    """Whether the plan is shown before it is carried out. What stands against a plan is always shown."""
    if plan.blockers or confirm is Confirm.ALWAYS:
        return True
    return confirm is Confirm.WHEN_STOPS and bool(plan.stop or plan.restart or plan.sleep)


def _stands(snapshot: Snapshot | None) -> object:
    """What a plan depends on, as far as it is on screen: equal when a plan would be, but for memory that flows."""
    if snapshot is None:
        return None
    units = tuple(
        (
            view.id,
            view.state.active_state,
            view.state.invocation_id,
            view.is_ready,
            *((m.id, m.status) for m in view.models),
        )
        for view in snapshot.services
    )
    return units, snapshot.units_error, tuple(holder.pid for holder in snapshot.orphans)
