"""Whether a process of no managed unit is to end: it is shown whole before anything is sent to it."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.geometry import Size

from gpumod_tui.core.closer_look import ProcessView
from gpumod_tui.ui import format as fmt
from gpumod_tui.ui.messages import Found
from gpumod_tui.ui.palette import BAD, DIM, KEY, STRONG, TEXT, WARN
from gpumod_tui.ui.rows import Row
from gpumod_tui.ui.screens.dialog import Dialog
from gpumod_tui.ui.widgets.sheet import Sheet
from gpumod_tui.ui.wrap import wrap


class EndScreen(Dialog[ProcessView]):
    """Ends with the process, if it is to be signalled; with None if it is not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "go", "end it", id="end.go"),
        Binding("escape,n,q,enter", "leave", "leave it", id="end.leave"),
    ]

    def __init__(self, pid: int, now: float, *, force: bool, said: str = "") -> None:
        """`said`: how the first signal ended; `now`: Unix time."""
        self._sheet = Sheet(f"End pid {pid}")
        super().__init__(self._sheet)
        self.pid = pid
        self._now = now
        self._force = force
        self._said = said
        self._process: ProcessView | None = None
        self._reason = "looking…"

    def on_found(self, message: Found) -> None:
        """What it is."""
        self._process = message.value if isinstance(message.value, ProcessView) else None
        self._reason = message.reason or "it has ended"
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
        """Yes, unless something stands against it."""
        if not self.why_not and self._process is not None:
            self.dismiss(self._process)

    def action_leave(self) -> None:
        """No."""
        self.dismiss(None)

    def wanted(self, screen: Size) -> Size:
        """All that is known of it."""
        width = min(84, max(38, screen.width - 4))
        lines = self._lines(width)
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
            command = fmt.harmless(process.arguments or process.command)
            for number, part in enumerate(wrap(command, width - 10)[:6]):
                lines.append([(f" {'command' if not number else '':<8}", DIM), (part, STRONG)])
        lines.append([])
        why_not = self.why_not
        if why_not:
            lines += [[(f" {part}", BAD)] for part in wrap(why_not, width - 2)]
            return [*lines, [(" esc", KEY), (" close", DIM)]]
        signal = "SIGKILL" if self._force else "SIGTERM"
        if width >= 60:
            signal += ": it cannot save anything" if self._force else ": it may end in order"
        go: Row = [(" y", KEY), (f" end it ({signal})", TEXT)]
        leave: Row = [("esc", KEY), (" leave it", DIM)]
        return [*lines, go, [(" ", TEXT), *leave]] if width < 60 else [*lines, [*go, ("   ", TEXT), *leave]]
