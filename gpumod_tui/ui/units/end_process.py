"""Whether a process of no managed unit is to end: it is shown whole before anything is sent to it."""

from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.geometry import Size

from gpumod_tui.core.status.details import ProcessView
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.common.rows import Row, chop, wrap
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.messages import Found
from gpumod_tui.ui.theme.styles import BAD, DIM, STRONG, TEXT, WARN

_WIDE: Final = 64
"""Columns of screen that have room for what a signal means."""
_WHOLE: Final = 10_000
"""Rows of a command line that is shown whole: more than any has."""


class EndScreen(Dialog[ProcessView]):
    """Ends with the process, if it is to be signalled; with None if it is not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "go", "end it", id="end.go"),
        Binding("K", "ask", "end it", id="end.ask"),
        Binding("up", "move(-1)", "up", id="end.up", show=False),
        Binding("down", "move(1)", "down", id="end.down", show=False),
        Binding("escape,n,q,enter", "leave", "leave it", id="end.leave"),
    ]

    def __init__(
        self, pid: int, now: float, *, asks: bool = True, may_end: bool = True, force: bool = False, said: str = ""
    ) -> None:
        """`asks`: whether to end it, at once; `may_end`: whether that can be asked at all; `force`: by SIGKILL;
        `said`: how the first signal ended; `now`: Unix time."""
        self._sheet = Sheet("")
        super().__init__(self._sheet)
        self.pid = pid
        self._now = now
        self._asks = asks
        self._may_end = may_end
        self._force = force
        self._said = said
        self._process: ProcessView | None = None
        self._reason = "looking…"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """It is asked about first, and ended if nothing stands against that."""
        if action not in ("ask", "go"):
            return True
        return self._may_end and not self.why_not and self._asks == (action == "go")

    def keys(self) -> tuple[tuple[str, str], ...]:
        """What a yes sends."""
        signal = "SIGKILL" if self._force else "SIGTERM"
        if self.app.size.width >= _WIDE:
            signal += ": it cannot save anything" if self._force else ": it may end in order"
        leave = "leave it" if self._asks and not self.why_not else "close"
        return ("end.go", f"end it ({signal})"), ("end.ask", "end it"), ("end.leave", leave)

    def on_found(self, message: Found) -> None:
        """What it is."""
        self._process = message.value if isinstance(message.value, ProcessView) else None
        self._reason = message.reason or "it has ended"
        self.offer()
        self.fit()

    @property
    def why_not(self) -> str:
        """Why it cannot be ended from here; empty: it can."""
        process = self._process
        if process is None:
            return self._reason
        if not process.is_ours:
            return f"it belongs to {process.user}: only {process.user} or root can end it"
        return "it has ended" if process.start_time is None else ""

    def action_go(self) -> None:
        """Yes."""
        self.dismiss(self._process)

    def action_ask(self) -> None:
        """Now it is meant."""
        self._asks = True
        self.offer()
        self.fit()

    def action_move(self, by: int) -> None:
        """See the rest of it, on a small screen."""
        self._sheet.go_to(self._sheet.top + by)

    def action_leave(self) -> None:
        """No."""
        self.dismiss(None)

    def wanted(self, screen: Size) -> Size:
        """All that is known of it."""
        width = min(84, max(38, screen.width - 4))
        lines = self._lines(width)
        self._sheet.title = f"{'End pid' if self._asks else 'Process'} {self.pid}"
        self._sheet.show(lines)
        return Size(width, len(lines) + 1)

    def _lines(self, width: int) -> list[Row]:
        lines: list[Row] = [[(f" {part}", WARN)] for part in wrap(self._said, width - 2) if self._said]
        process = self._process
        if process is not None:
            gpus = ", ".join(f"GPU {gpu}" for gpu in process.gpus) or "no GPU"
            facts = [("user", process.user), ("VRAM", f"{fmt.gib(process.used_bytes)} GiB on {gpus}")]
            if process.started_at is not None:
                since = f"{fmt.clock(process.started_at)}, {fmt.ago(process.started_at, self._now)}"
                facts.append(("since", since))
            if process.unit is not None:
                facts.append(("unit", process.unit))
            if process.state == "D":
                facts.append(("state", "D: it waits in the kernel"))
            lines += [[(f" {name:<8}", DIM), (text, TEXT)] for name, text in facts]
            command = chop(fmt.harmless(process.arguments or process.command), max(1, width - 10), _WHOLE)
            for number, part in enumerate(command):
                lines.append([(f" {'command' if not number else '':<8}", DIM), (part, STRONG)])
        why_not = self.why_not if self._may_end or process is None else ""
        return [*lines, [], *([(f" {part}", BAD)] for part in wrap(why_not, width - 2) if part)]
