"""The plan of a switch, and the question whether to do it."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.timer import Timer

from gpumod_tui.core.switch.results import SwitchPlan
from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.messages import Ask
from gpumod_tui.ui.switch.plan import PlanView


class PlanScreen(Dialog[bool]):
    """Ends with True when it is to be done."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "go", "do it", id="plan.go"),
        Binding("up", "move(-1)", "up", id="plan.up", show=False),
        Binding("down", "move(1)", "down", id="plan.down", show=False),
        Binding("escape,n,q", "leave", "leave it", id="plan.leave"),
    ]

    def __init__(self, ask: Ask, view: PlanView, *, guard_s: float) -> None:
        """`guard_s`: for how long no key must have been pressed before one is taken for agreement."""
        super().__init__(view)
        self.ask = ask
        self._view = view
        self._open = False
        """A key is taken for agreement."""
        self._guard_s = guard_s
        self._guard: Timer | None = None
        self._asks: object = None
        """What would be agreed to; None: nothing is shown yet."""

    def on_mount(self) -> None:
        """Shut for what was typed before it was there."""
        self._shut()

    def _shut(self) -> None:
        """Until nobody has typed for a while."""
        if self._guard is not None:
            self._guard.stop()
            self._guard = None
        self._open = not self._guard_s
        if self._guard_s:
            self._guard = self.set_timer(self._guard_s, self.open_to_keys)

    def _ask(self, what: object) -> None:
        """Agreement to something else is no agreement to this."""
        if self._asks is not None and self._asks != what:
            self._shut()
        self._asks = what
        self.offer()
        self.fit()

    def open_to_keys(self) -> None:
        """From now on a key is meant for it."""
        self._guard = None
        self._open = True
        self.offer()

    def on_key(self) -> None:
        """Somebody is still typing."""
        if self._guard is not None:
            self._guard.reset()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """Only who can have read it agrees, and only to what nothing stands against."""
        return action != "go" or (self._open and self._view.allowed)

    def keys(self) -> tuple[tuple[str, str], ...]:
        """What agreement means now."""
        go = "do it after that" if self._view.is_later else "do it"
        return ("plan.go", go), ("plan.leave", "leave it" if self._view.allowed else "close")

    def wheel(self, lines: int) -> None:
        """See the rest of it."""
        self._view.scroll(lines)

    def show_plan(self, plan: SwitchPlan | None, reason: str, fitting: tuple[str, ...] | None = None) -> None:
        """A newer plan; None: it cannot be made, and `reason` says why. `fitting`: modes that would fit instead."""
        self._view.show_plan(plan, reason, fitting)
        does = plan is not None and (plan.stop, plan.sleep, plan.wake, plan.start, plan.loads)
        self._ask((does, plan is not None and bool(plan.blockers)))

    def show_elsewhere(self, running: str, pid: int) -> None:
        """A switch of that title runs in another process: only blank can take over from it."""
        if self.ask.is_blank:
            self._view.show_later(
                f"“{running}” runs in pid {pid}: it is asked to cancel.",
                "This is planned and checked when that has ended.",
            )
        else:
            self._view.show_plan(None, f"“{running}” runs in pid {pid}. The plan is made when that has ended.", None)
        self._ask(running)

    def show_later(self, running: str) -> None:
        """A switch of that title runs: planning against what it has half done would tell nothing."""
        if self.ask.is_blank:
            self._view.show_later(
                f"“{running}” runs: it is asked to cancel.", "This is planned and checked when that has ended."
            )
        else:
            self._view.show_later(f"“{running}” runs.", "This is planned and checked when that has ended.")
        self._ask(running)

    def action_go(self) -> None:
        """Yes."""
        self.dismiss(True)

    def action_move(self, by: int) -> None:
        """See the rest of it, on a small screen."""
        self._view.scroll(by)

    def action_leave(self) -> None:
        """No."""
        self.dismiss(False)

    def wanted(self, screen: Size) -> Size:
        """A plan as wide as is read well."""
        width = min(96, screen.width - 4)
        return Size(width, self._view.wanted_height(width))
