"""What the app owes the operator's taste: themes, signs, keys, toasts, and lists of everything that keys do."""

import os
from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from textual.actions import parse
from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.notifications import Notify

from gpumod_tui.core.catalog.config import Theme
from gpumod_tui.ui.common.dialog import FullScreen
from gpumod_tui.ui.dashboard.screen import BOARD_ACTING, Dashboard
from gpumod_tui.ui.keys.help import HelpScreen
from gpumod_tui.ui.keys.hints import topics
from gpumod_tui.ui.keys.keymap import keymap, rebound
from gpumod_tui.ui.keys.scopes import PANES, scopes
from gpumod_tui.ui.notifications import desktop_notice
from gpumod_tui.ui.options import ViewOptions
from gpumod_tui.ui.palette.commands import Entry, entries
from gpumod_tui.ui.palette.screen import CommandScreen
from gpumod_tui.ui.theme.ascii import ASCII
from gpumod_tui.ui.theme.themes import PLAIN, SKINS, Look

_SIGNS: Final = {"error": "✖ ", "warning": "! "}
_WRITING: Final = frozenset(("save", "make_mode"))
"""Actions that lead to a file, wherever they are."""
MOST_TOASTS: Final = 2
"""At once: what is under them is to be read, too."""


class DressedApp(App[None]):
    """An app as config.yaml and the command line want it."""

    dashboard: Dashboard

    def __init__(self, options: ViewOptions, theme: Theme) -> None:
        """`theme`: the first one. Raises: ConfigInvalid, for keys that cannot be."""
        self.look = PLAIN
        """What all that is painted is dressed in."""
        # Without colour nothing may be left of it: Textual would make greys of it.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.options = options
        self.set_class(options.ascii_only, "-ascii")
        for skin in SKINS.values():
            self.register_theme(skin.theme)
        self._dress(theme)
        self._keys = keymap(options.keys, scopes(type(self)), options.keys_from)
        self.set_keymap(self._keys)

    @property
    @abstractmethod
    def mode_ids(self) -> tuple[str, ...]:
        """In the order of their numbers."""

    @property
    def theme_on(self) -> Theme:
        """The one that is on, or would be if there were colours."""
        return self._theme_on

    def _dress(self, theme: Theme) -> None:
        self._theme_on = theme
        skin = SKINS[Theme.ANSI if self.no_color else theme]
        self.look = Look(skin, ascii_only=self.options.ascii_only, colour=not self.no_color)
        self.theme = skin.theme.name

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where there is no colour, there are no themes; where no toast, none to dismiss."""
        if action == "dismiss":
            return len(self._notifications) > 0
        return not (action == "next_theme" and self.no_color) and super().check_action(action, parameters)

    def action_dismiss(self) -> None:
        """No toast any more."""
        self.clear_notifications()

    def on_notify(self, event: Notify) -> None:
        """Room for one more: first what told of no failure goes, then what is oldest."""
        del event
        told = sorted(self._notifications, key=lambda toast: (toast.severity == "error", toast.raised_at))
        for toast in told[: len(told) - MOST_TOASTS + 1]:
            self._unnotify(toast)

    def action_next_theme(self) -> None:
        """The one after this."""
        names = tuple(SKINS)
        self._dress(names[(names.index(self._theme_on) + 1) % len(names)])

    def get_key_display(self, binding: Binding) -> str:
        """In words where a sign would have to be guessed."""
        return "enter" if binding.key == "enter" else super().get_key_display(binding)

    def bindings_of_dashboard(self) -> Iterator[Binding]:
        """What keys do there, with the keys of config.yaml."""
        kinds: tuple[type[DOMNode], ...] = (Dashboard, *PANES, type(self))
        return rebound((binding for kind in kinds for binding in kind.BINDINGS), self._keys)

    def action_help(self) -> None:
        """All keys of the screen on top; who may only look is told of none that acts."""
        bindings = self.bindings_of_dashboard() if self.screen is self.dashboard else self._bindings_here()
        if self.options.read_only:
            bindings = (binding for binding in bindings if not _acts(binding))
        self.push_screen(HelpScreen(topics(bindings, self.get_key_display)))

    def _bindings_here(self) -> Iterator[Binding]:
        """Of the screen on top, what can have the focus there, and the app; a key that it takes itself means that."""
        nodes: tuple[DOMNode, ...] = (self.screen, *self.screen.focus_chain, self)
        taken: set[str] = set()
        for kind in dict.fromkeys(type(node) for node in nodes):
            own = [binding for binding in rebound(kind.BINDINGS, self._keys) if binding.key not in taken]
            taken.update(binding.key for binding in own)
            yield from own

    def action_palette(self) -> None:
        """Everything that can be done now, by name."""
        found = entries(self, self.dashboard, self.mode_ids, self._keys)
        self.push_screen(CommandScreen(found), self._do)

    def _do(self, entry: Entry | None) -> None:
        """What belongs to the dashboard is done there, once what covers it may be closed."""
        if entry is None:
            return
        screen = self.screen
        if entry.node is not self and isinstance(screen, FullScreen):
            screen.leave_for(partial(self._do_on_dashboard, entry))
        else:
            self.dashboard.call_next(self._act, entry)

    def _do_on_dashboard(self, entry: Entry) -> None:
        while isinstance(self.screen, FullScreen):
            self.screen.dismiss(None)
        # Not in the queue of a screen that is closed: what is asked there is answered to nobody.
        self.dashboard.call_next(self._act, entry)

    async def _act(self, entry: Entry) -> None:
        if entry.unit:
            self.dashboard.units.select(entry.unit)
        await self.run_action(entry.action, entry.node)

    def notify(self, message: str, **how: Any) -> None:
        """A toast; a sign tells how bad it is, where colour may not."""
        sign = _SIGNS.get(how.get("severity", ""), "")
        title = f"{sign}{how.pop('title', '')}"
        if self.options.ascii_only:
            message, title = message.translate(ASCII), title.translate(ASCII)
        super().notify(message, title=title, **how)

    def ring(self, words: str) -> None:
        """For somebody who looks elsewhere by now."""
        self.bell()
        notice = desktop_notice(f"gpumod: {words}", os.environ)
        if notice and self._driver is not None:
            self._driver.write(notice)


def _acts(binding: Binding) -> bool:
    """It changes something, or plans to."""
    _, action, parameters = parse(binding.action)
    return action in BOARD_ACTING | _WRITING and parameters != ("details",)
