"""All keys by topic, and what the signs mean."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.geometry import Size

from gpumod_tui.ui.common.dialog import Dialog
from gpumod_tui.ui.common.rows import Row, fit, width_of, wrap
from gpumod_tui.ui.common.scroll_text import Sheet
from gpumod_tui.ui.keys.hints import TOPICS, Hint
from gpumod_tui.ui.theme.legend import SIGNS, Sign
from gpumod_tui.ui.theme.styles import KEY, STRONG, TEXT

_KEYS: Final = 12
_COLUMN: Final = 58
"""Cells of a column; two where both fit."""


class HelpScreen(Dialog[None]):
    """One column or two, scrolled where it is longer than the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll(-1)", "line up", id="help.up"),
        Binding("down", "scroll(1)", "line down", id="help.down"),
        Binding("pageup", "page(-1)", "page up", id="help.page_up"),
        Binding("pagedown,space", "page(1)", "page down", id="help.page_down"),
        Binding("home", "scroll(-10000)", "to the top", id="help.top"),
        Binding("end", "scroll(10000)", "to the end", id="help.end"),
        Binding("tab", "topic(1)", "next topic", id="help.next"),
        Binding("shift+tab", "topic(-1)", "topic before", id="help.previous"),
        Binding("escape,q,question_mark", "leave", "close", id="help.close"),
    ]
    KEYS = (("help.next", "next topic"), ("help.close", "close"))

    def __init__(self, keys: Mapping[str, Sequence[Hint]]) -> None:
        self._sheet = Sheet("Keys")
        super().__init__(self._sheet)
        self._topics: list[tuple[str, Sequence[Sign]]] = [
            *((TOPICS[topic], [([(hint.key, KEY)], hint.words) for hint in hints]) for topic, hints in keys.items()),
            ("Signs", SIGNS),
        ]
        self._starts: tuple[int, ...] = ()
        """Lines in which topics begin, in either column."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002
        """There is another topic to go to only where not all of them are in sight."""
        return action != "topic" or self._sheet.overflows

    def wheel(self, lines: int) -> None:
        """Back or forth."""
        self.action_scroll(lines)

    def action_scroll(self, lines: int) -> None:
        """Look up (negative) or down."""
        self._sheet.go_to(self._sheet.top + lines)

    def action_page(self, pages: int) -> None:
        """By what fits."""
        self._sheet.go_to(self._sheet.top + pages * self._sheet.page)

    def action_topic(self, by: int) -> None:
        """The next topic, or the one before."""
        top = self._sheet.top
        ahead = [start for start in self._starts if start > top] if by > 0 else []
        behind = [start for start in self._starts if start < top] if by < 0 else []
        self._sheet.go_to(ahead[0] if ahead else behind[-1] if behind else top)

    def action_leave(self) -> None:
        """Close."""
        self.dismiss()

    def wanted(self, screen: Size) -> Size:
        """In columns where they fit."""
        lines = self._lines(screen.width)
        self._sheet.show(lines)
        # The height is known only after the next layout, and with it how far there is to go.
        self.call_after_refresh(self._measured)
        return Size(_COLUMN * 2 if screen.width >= _COLUMN * 2 else 78, len(lines) + 1)

    def _measured(self) -> None:
        self._sheet.go_to(self._sheet.top)
        self.offer()

    def _lines(self, width: int) -> list[Row]:
        if width < _COLUMN * 2:
            blocks = [_topic(*topic, min(78, width)) for topic in self._topics]
            self._starts = _starts(blocks)
            return [line for block in blocks for line in block]
        blocks = [_topic(*topic, _COLUMN) for topic in self._topics]
        split = min(range(len(blocks) + 1), key=lambda at: max(_rows(blocks[:at]), _rows(blocks[at:])))
        self._starts = tuple(sorted({*_starts(blocks[:split]), *_starts(blocks[split:])}))
        left = [line for block in blocks[:split] for line in block]
        right = [line for block in blocks[split:] for line in block]
        long = max(len(left), len(right))
        pairs = zip([*left, *[[]] * (long - len(left))], [*right, *[[]] * (long - len(right))], strict=True)
        return [[*fit(one, _COLUMN), *other] for one, other in pairs]


def _rows(blocks: Sequence[Sequence[Row]]) -> int:
    return sum(map(len, blocks))


def _starts(blocks: Sequence[Sequence[Row]]) -> tuple[int, ...]:
    return tuple(_rows(blocks[:at]) for at in range(len(blocks)))


def _topic(title: str, signs: Sequence[Sign], width: int) -> list[Row]:
    lines: list[Row] = [[(f" {title}", STRONG)]]
    for sign, meaning in signs:
        words = wrap(meaning, width - _KEYS - 4)
        if width_of(sign) >= _KEYS:
            lines.append([("   ", TEXT), *sign])
        else:
            lines.append([("   ", TEXT), *fit(sign, _KEYS), (words.pop(0), TEXT)])
        lines += [[(" " * (_KEYS + 3) + part, TEXT)] for part in words]
    return lines
