"""Everything about one unit, on a screen of its own."""

from collections.abc import Callable
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import var

from gpumod_tui.core.models import ServiceView
from gpumod_tui.core.status.details import UnitDetails
from gpumod_tui.ui.common.dialog import FullScreen
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.keys.footer import FooterLine
from gpumod_tui.ui.messages import Ask, Found, UnitWish
from gpumod_tui.ui.theme.styles import BAD, DIM, UnitColours
from gpumod_tui.ui.units.actions import ACTING, UNIT_KEYS, UnitActions
from gpumod_tui.ui.units.details_rows import SECTIONS, Page, page_of

_PARTS: Final = Binding.Group("part")
_STAYING: Final = ("enable", "disable", "reset-failed")
"""What is done at once: there is nothing to plan and to watch."""


class DetailsScreen(FullScreen[Ask | UnitWish], UnitActions[Ask | UnitWish]):
    """Reads again while it is open; where it is looked at stays. Ends with what is to be planned and watched on the
    dashboard, if anything is."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "leave", "close", id="details.leave", show=False),
        *(
            Binding(str(number), f"jump({number})", SECTIONS[number - 1], id=f"details.{number}", group=_PARTS)
            for number in range(1, len(SECTIONS) + 1)
        ),
        *UNIT_KEYS,
        Binding("tab", "section(1)", "next part", id="details.next"),
        Binding("shift+tab", "section(-1)", "part before", id="details.previous", show=False),
        Binding("up", "move(-1)", "up", id="details.up", show=False),
        Binding("down", "move(1)", "down", id="details.down", show=False),
        Binding("pageup", "page(-1)", "page up", id="details.page_up", show=False),
        Binding("pagedown,space", "page(1)", "page down", id="details.page_down", show=False),
        Binding("home", "first", "begin", id="details.first", show=False),
        Binding("end", "last", "end", id="details.last", show=False),
    ]
    DEFAULT_CSS = "DetailsScreen > Sheet { height: 1fr; }"

    view: var[ServiceView | None] = var(None)
    """As it is now; None: it is gone from the catalog."""

    def __init__(self, service: str, colours: UnitColours, *, read_only: bool = False) -> None:
        super().__init__()
        self.service = service
        self._read_only = read_only
        self.asking = False
        """A thread looks."""
        self.now = 0.0
        """Unix time when it was asked to."""
        self._colours = colours
        self._details: UnitDetails | None = None
        self._reason = ""
        self._page = Page((), {})
        self._sheet = Sheet(service)
        self._footer = FooterLine(ends=("details.leave",))

    def compose(self) -> ComposeResult:
        """The page, and its keys."""
        yield self.header
        yield self._sheet
        yield self._footer

    def on_mount(self) -> None:
        """Before anything is known."""
        self._show()

    def on_resize(self) -> None:
        """Words break elsewhere."""
        self.call_after_refresh(self._show)

    @property
    def unit(self) -> ServiceView | None:
        """The one it shows."""
        return self.view

    def watch_view(self) -> None:
        """Other actions may be valid."""
        self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is not valid now is neither offered nor done."""
        if action not in ACTING:
            return True
        may: Callable[..., bool] = getattr(self, f"may_{action}")
        return not self._read_only and may(*parameters)

    def ask(self, wish: Ask | UnitWish) -> None:
        """What is planned first is shown on the dashboard, and so are its steps."""
        if isinstance(wish, UnitWish) and wish.verb in _STAYING:
            self.post_message(wish)
        else:
            self.dismiss(wish)

    def on_found(self, message: Found) -> None:
        """A newer look, or why there is none."""
        self.asking = False
        if isinstance(message.value, UnitDetails):
            self._details = message.value
        self._reason = message.reason
        self._show()

    def action_move(self, by: int) -> None:
        """By lines."""
        self._sheet.go_to(self._sheet.top + by)

    def action_page(self, by: int) -> None:
        """By pages."""
        self._sheet.go_to(self._sheet.top + by * self._sheet.page)

    def action_first(self) -> None:
        """The beginning."""
        self._sheet.go_to(0)

    def action_last(self) -> None:
        """The end."""
        self._sheet.go_to(len(self._page.lines))

    def action_section(self, by: int) -> None:
        """The next part, or the one before."""
        starts = sorted(self._page.starts.values())
        top = self._sheet.top
        ahead = [start for start in starts if start > top] if by > 0 else [start for start in starts if start < top]
        if ahead:
            self._sheet.go_to(ahead[0] if by > 0 else ahead[-1])

    def action_jump(self, number: int) -> None:
        """To a part by its number."""
        self._sheet.go_to(self._page.starts.get(SECTIONS[number - 1], self._sheet.top))

    def action_leave(self) -> None:
        """Back."""
        self.dismiss(None)

    def _show(self) -> None:
        if not self.is_attached:
            return
        width = max(20, self.app.size.width)
        if self._details is None:
            words, style = (self._reason, BAD) if self._reason else ("looking…", DIM)
            self._sheet.show([[(f" {words}", style)]])
            return
        self._page = page_of(self._details, width, self.now, self._colours, fault=self._reason)
        self._sheet.show(self._page.lines)
