"""What the app does when something is wanted of a unit or a process that is no switch."""

from collections.abc import Callable
from typing import Final

from textual.app import App
from textual.message_pump import MessagePump

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.events import ActEnded
from gpumod_tui.core.models import ServiceView, Snapshot
from gpumod_tui.core.status.details import ProcessView
from gpumod_tui.core.units.actions import EndProcess, UnitAct, Verb
from gpumod_tui.ui.backend import Commands
from gpumod_tui.ui.common import format as fmt
from gpumod_tui.ui.messages import Ask, Found, UnitWish
from gpumod_tui.ui.theme.styles import UnitColours
from gpumod_tui.ui.units.details import DetailsScreen
from gpumod_tui.ui.units.end_process import EndScreen
from gpumod_tui.ui.units.model_picker import PickerScreen

InThread = Callable[[str, Callable[[], object], str], None]
"""(name, work, where its fault is told)"""
WhenFree = Callable[[str, Callable[[], None]], None]
"""(target, what to do when no switch of this process runs)"""
REFRESH_S: Final = 2.0


class UnitDesk:
    """Opens screens, lets threads look for them, and hands on what was decided."""

    def __init__(
        self,
        app: App[None],
        commands: Commands,
        in_thread: InThread,
        colours: UnitColours,
        when_free: WhenFree,
        *,
        read_only: bool,
    ) -> None:
        self._app = app
        self._commands = commands
        self._in_thread = in_thread
        self._colours = colours
        self._when_free = when_free
        self._read_only = read_only
        self._snapshot: Snapshot | None = None
        self._details: DetailsScreen | None = None
        self._asked_at = float("-inf")

    def wish(self, wish: UnitWish) -> None:
        """A key was pressed on a unit."""
        if wish.verb == "details":
            self._open_details(wish.service)
        elif wish.verb in ("load", "unload") and wish.model:
            self._submit_model(wish.verb, wish.service, wish.model)
        elif wish.verb in ("load", "unload"):
            self._open_picker(wish.verb, wish.service)
        else:
            act = UnitAct(Verb(wish.verb), wish.service)
            self._in_thread(act.label, lambda: self._commands.submit_act(act), act.label)

    def end(self, pid: int, *, asks: bool = True, said: str = "") -> None:
        """A process is to end: show it, and ask, at once or, `asks` False, when that is wanted.

        `said`: how SIGTERM ended, if that was sent already.
        """
        screen = EndScreen(pid, self._now, asks=asks, may_end=not self._read_only, force=bool(said), said=said)

        def decided(process: ProcessView | None) -> None:
            if process is not None and process.start_time is not None:
                act = EndProcess(pid, process.start_time, process.command, force=bool(said))
                self._in_thread(act.label, lambda: self._commands.submit_act(act), act.label)

        self._app.push_screen(screen, decided)
        self._find(screen, lambda: self._commands.process(pid))

    def ended(self, event: ActEnded) -> None:
        """Say how it ended; who did not go is offered SIGKILL."""
        if event.survivor is not None:
            self.end(event.survivor[0], said=event.message)
            return
        words = f"{event.message}\n{event.hint}" if event.hint else event.message
        self._app.notify(words, title=event.label, severity="information" if event.ok else "error", markup=False)

    def show(self, snapshot: Snapshot) -> None:
        """The newest look at the box: what is open looks again, too."""
        self._snapshot = snapshot
        screen = self._details
        if screen is not None:
            screen.view = self._view_of(screen.service)
        if screen is not None and not screen.asking and abs(snapshot.at - self._asked_at) >= REFRESH_S:
            self._look(screen)

    @property
    def _now(self) -> float:
        return self._snapshot.at if self._snapshot is not None else 0.0

    def _open_details(self, service: str) -> None:
        if self._details is not None:
            # The key was pressed again before the screen was there: of two, only one would be kept up to date.
            return
        screen = DetailsScreen(service, self._colours, read_only=self._read_only)
        screen.set_reactive(DetailsScreen.view, self._view_of(service))
        self._details = screen

        def closed(wish: Ask | UnitWish | None) -> None:
            self._details = None
            if wish is not None:
                self._app.post_message(wish)

        self._app.push_screen(screen, closed)
        self._look(screen)

    def _view_of(self, service: str) -> ServiceView | None:
        views = self._snapshot.services if self._snapshot is not None else ()
        return next((view for view in views if view.id == service), None)

    def _look(self, screen: DetailsScreen) -> None:
        self._asked_at = self._now
        screen.asking = True
        screen.now = self._now
        self._find(screen, lambda: self._commands.details(screen.service))

    def _open_picker(self, verb: str, service: str) -> None:
        screen = PickerScreen(verb, service, self._free_words())

        def decided(model: str | None) -> None:
            if model:
                self._submit_model(verb, service, model)

        self._app.push_screen(screen, decided)
        self._find(screen, lambda: self._commands.models(service))

    def _submit_model(self, verb: str, service: str, model: str) -> None:
        submit = self._commands.submit_load if verb == "load" else self._commands.submit_unload
        what = f"{verb} {model}"
        self._when_free(
            f"service {verb} {service} {model}",
            lambda: self._in_thread(what, lambda: submit(service, model), what),
        )

    def _free_words(self) -> str:
        gpus = self._snapshot.gpus.gpus if self._snapshot is not None and self._snapshot.gpus is not None else ()
        free = ", ".join(f"GPU {gpu.index}: {fmt.gib(gpu.free_bytes)} GiB" for gpu in gpus)
        return f"free now: {free or fmt.UNKNOWN}"

    def _find(self, screen: MessagePump, look: Callable[[], object]) -> None:
        def run() -> None:
            try:
                found = Found(look())
            except GpumodError as error:
                found = Found(None, f"{error} ({error.hint})" if error.hint else str(error))
            except Exception as error:  # noqa: BLE001 - a thread's exception is shown nowhere else
                found = Found(None, f"looking failed: {error!r}")
            screen.post_message(found)

        self._in_thread("look", run, "look")
