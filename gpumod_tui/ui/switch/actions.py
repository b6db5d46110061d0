"""Keys that have to do with switches past and to come: the history, and the mode at login."""

from typing import Final

from textual.binding import Binding
from textual.screen import Screen

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.core.units.login import LoginMode
from gpumod_tui.ui.background import errand
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.dashboard.header import HeaderLine
from gpumod_tui.ui.switch.history import SwitchesScreen

SWITCH_KEYS: Final = (
    Binding("h", "history", "history", id="mode.history", tooltip="the switches that ended, with their steps"),
    Binding("D", "login_mode", "at login", id="mode.login", tooltip="switch to this mode at every login, or no more"),
)


def login_sentence(login: LoginMode, mode: str) -> str:
    """What is so now, and what is asked."""
    if login.file == "missing":
        now = "No mode is switched to at login."
    else:
        failed = " The last time it failed." if login.failed else ""
        now = f"{login.mode or 'An unknown mode'} is switched to at login.{failed}"
    wish = "Take that back?" if login.mode == mode else f"Switch to {mode} at every login?"
    return f"{now} {wish}{f' Now {login.note}.' if login.note else ''}"


class SwitchKeys(Screen[None]):
    """A screen with a header; `may_NAME` says whether `action_NAME` is valid now."""

    header: HeaderLine

    def action_history(self) -> None:
        """The switches that ended."""
        self.app.push_screen(SwitchesScreen())

    def may_login_mode(self) -> bool:
        """A mode was reached."""
        return self._recorded is not None

    def action_login_mode(self) -> None:
        """Which one it is now, then the question."""
        self.post_message(errand("mode at login", lambda commands: commands.login_mode(), self._ask_login_mode))

    @property
    def _recorded(self) -> str | None:
        return self.header.snapshot.mode.mode if self.header.snapshot is not None else None

    def _ask_login_mode(self, login: LoginMode | GpumodError) -> None:
        mode = self._recorded
        if isinstance(login, GpumodError) or mode is None:
            self._tell_login_mode(login)
            return
        wanted = None if login.mode == mode else mode
        yes = f"at login: {mode}" if wanted else "no mode at login"

        def answered(agreed: bool | None) -> None:
            if agreed:
                name = "mode at login"
                work = errand(name, lambda commands: commands.set_login_mode(wanted), self._tell_login_mode)
                self.post_message(work)

        self.app.push_screen(QuestionScreen("Mode at login", login_sentence(login, mode), yes), answered)

    def _tell_login_mode(self, login: LoginMode | GpumodError) -> None:
        if isinstance(login, GpumodError):
            words = f"{login}\n{login.hint}" if login.hint else str(login)
            self.notify(words, title="mode at login", severity="error", markup=False)
        else:
            told = f"{login.mode} from the next login on" if login.mode else "no mode from the next login on"
            words = f"{told}\n{login.note}" if login.note else told
            self.notify(words, title="mode at login", markup=False)
