"""The journal of all units, of some, or of one: followed, or looked back through."""

import time
from dataclasses import replace
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.reactive import var
from textual.strip import Strip

from gpumod_tui.ui.common.input import Prompt, Question
from gpumod_tui.ui.common.row_widget import Pane
from gpumod_tui.ui.common.rows import Row, strip, wrap
from gpumod_tui.ui.journal.entry import Batch, Entry
from gpumod_tui.ui.journal.export import as_text, default_path, newest_that_fit
from gpumod_tui.ui.journal.messages import ChooseUnits, LogRead, SaveLog, WantLog
from gpumod_tui.ui.journal.pager import LogReader
from gpumod_tui.ui.journal.rows import WHOLE, LogPainter
from gpumod_tui.ui.journal.search import BadPattern, Pattern, pattern_of
from gpumod_tui.ui.journal.time_input import EXPECTED, BadMoment, moment
from gpumod_tui.ui.journal.title import TitleFacts, title
from gpumod_tui.ui.keys.hints import MOVE
from gpumod_tui.ui.theme.styles import BAD, DIM, UnitColours

COPIED_BYTES: Final = 48 * 1024
"""Terminals take about 64 KiB of OSC 52, in base64."""
_LEVELS: Final = (7, 6, 5, 4, 3)
_WRAPS: Final = {3: "Lines take three rows at most", WHOLE: "Lines are shown whole", 1: "One row a line"}
_WRAPPED: Final = 4
"""Rows of the pane from which on a long line may take several: in fewer its beginning could not be seen."""
_PAUSE_S: Final = 0.01
"""Between two slices of work on patterns."""


class JournalView(Pane):
    """What is held, and where the operator is in it, is the `LogReader`'s; pages are asked for by `WantLog`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "look(-1)", "line up", id="log.up", show=False, group=MOVE),
        Binding("down", "look(1)", "line down", id="log.down", show=False, group=MOVE),
        Binding("pageup", "page(-1)", "look back", id="log.page_up", show=False, group=MOVE),
        Binding("pagedown", "page(1)", "look forth", id="log.page_down", show=False, group=MOVE),
        Binding("home", "oldest", "oldest line", id="log.oldest", show=False, group=MOVE),
        Binding("end", "newest", "newest line", id="log.newest", show=False, group=MOVE),
        Binding("slash", "filter", "filter", id="log.filter", tooltip="only lines that match a regular expression"),
        Binding("ctrl+f", "search", "search", id="log.search", tooltip="mark what matches, and go to it"),
        Binding("n", "match(1)", "next match", id="log.next_match"),
        Binding("N", "match(-1)", "previous match", id="log.previous_match"),
        Binding("backspace", "clear", "clear", id="log.clear", show=False, tooltip="take back search, then filter"),
        Binding("L", "level", "level", id="log.level", tooltip="all levels, info, notice, warning or err and worse"),
        Binding("i", "choose", "units", id="log.units", tooltip="choose whose lines are shown"),
        Binding("t", "jump", "time", id="log.time", tooltip="go to a moment"),
        Binding(
            "y", "copy", "copy", id="log.copy", show=False, tooltip="the lines on screen, to your terminal's clipboard"
        ),
        Binding(
            "Y",
            "copy_all",
            "copy all",
            id="log.copy_all",
            show=False,
            tooltip="all lines loaded and asked for, to your terminal's clipboard",
        ),
        Binding("ctrl+s", "save", "save", id="log.save", show=False, tooltip="what is loaded and asked for, to a file"),
        Binding("W", "wrap", "wrap", id="log.wrap", show=False, tooltip="long lines: three rows, whole, or one row"),
    ]

    following: var[bool] = var(True)
    fault: var[str] = var("")
    """Why there are no lines."""
    units: var[frozenset[str]] = var(frozenset(), init=False)
    """Show only these services' lines; empty: all."""
    priority: var[int] = var(7, init=False)
    """The largest journal priority that is shown."""

    def __init__(
        self,
        colours: UnitColours,
        name_width: int,
        *,
        read_only: bool = False,
        id: str | None = None,  # noqa: A002
    ) -> None:
        """`read_only`: no file is written."""
        super().__init__(id=id)
        self._read_only = read_only
        self._colours = colours
        self._painter = LogPainter(colours, name_width)
        self.reader = LogReader(
            lambda entry: self._painter.rows_of(entry, self.size.width),
            lambda request: self.post_message(WantLog(request)),
            lambda words: self.notify(words, timeout=3.0, markup=False),
            lambda: self.key("log.previous_match"),
        )
        self.prompt = Prompt()
        self.dropped = 0
        """Lines that came faster than they could be shown, since the start."""
        self.now = 0.0
        """The box's clock; 0: not known yet."""
        self._resumes = False
        self._valid: tuple[bool, ...] = ()
        """What the keys depend on, as they were last offered."""

    def compose(self) -> ComposeResult:
        """Rows are painted; what is typed has a widget."""
        yield self.prompt

    @property
    def unit(self) -> str:
        """The one service whose lines are shown; empty: all, or several."""
        return next(iter(self.units)) if len(self.units) == 1 else ""

    @unit.setter
    def unit(self, service_id: str) -> None:
        self.units = frozenset([service_id] if service_id else [])

    @property
    def pattern(self) -> str:
        """The regular expression that lines are to match; empty: none. What is none is not taken."""
        return _text(self.reader.book.choice.pattern)

    @pattern.setter
    def pattern(self, text: str) -> None:
        self._filter(text)

    # -- lines in ------------------------------------------------------------------------------------------------

    def take(self, batch: Batch) -> None:
        """What came."""
        self.dropped += batch.lost
        self.reader.take(batch.lines, after_loss=batch.lost > 0, is_anew=batch.is_anew)
        self._settle()

    def take_pages(self, read: LogRead) -> None:
        """The answer to a `WantLog`; it may come when there is nobody left to see it."""
        if not self.is_attached:
            return
        self.reader.take_pages(read.request, read.back, read.forth, read.fault)
        self._settle()

    # -- what changes --------------------------------------------------------------------------------------------

    def watch_following(self) -> None:
        """It stops where it is, or goes to the end."""
        if self.following:
            self.reader.follow()
        else:
            self.reader.stop()
        self._settle()

    def watch_fault(self) -> None:
        """The journal was lost, or came back."""
        self.repaint()

    def watch_units(self) -> None:
        """Another choice of lines."""
        self._choose()

    def watch_priority(self) -> None:
        """Another level."""
        self._choose()

    def on_mount(self) -> None:
        """What was chosen before there was a screen."""
        self._choose()

    def on_resize(self) -> None:
        """Other rows."""
        self._measure()
        self.reader.decide()
        super().on_resize()

    def on_prompt_moved(self) -> None:
        """Its words stand below it."""
        self._measure()
        self.repaint()
        self.refresh_bindings()

    # -- actions -------------------------------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing lies below the newest line, nothing is found that was not searched for, one thing is asked at a
        time."""
        del parameters
        book = self.reader.book
        if self.prompt.question is not None:
            return action in ("look", "page")
        if action == "save":
            return not self._read_only
        if action == "wrap":
            return not self._painter.tight
        if action == "newest":
            return not self.following
        if action == "match":
            return book.search is not None
        if action == "clear":
            return book.search is not None or book.choice.pattern is not None
        return True

    def action_look(self, rows: int) -> None:
        """Look back (negative) or forth."""
        self.reader.scroll(rows)
        self._settle()

    def action_page(self, pages: int) -> None:
        """Look back (negative) or forth by what fits."""
        self.action_look(pages * max(1, self.reader.room))

    def action_oldest(self) -> None:
        """As far back as lines are loaded."""
        self.reader.go_to_oldest()
        self._settle()

    def action_newest(self) -> None:
        """Follow again."""
        self.following = True

    def action_filter(self) -> None:
        """Ask for a pattern."""
        words = "filter: only lines that match this regular expression; nothing: all lines"
        self.prompt.ask(Question(words, _text(self.reader.book.choice.pattern), _pattern_fault, self._filter))

    def action_search(self) -> None:
        """Ask for a pattern."""
        words = "search: lines that match this regular expression are marked; nothing: none"
        self.prompt.ask(Question(words, _text(self.reader.book.search), _pattern_fault, self._search))

    def action_match(self, by: int) -> None:
        """Go to the next or the previous match."""
        self.reader.next_match(by)
        self._settle()

    def action_clear(self) -> None:
        """Search first."""
        if self.reader.book.search is not None:
            self._search("")
        else:
            self._filter("")

    def action_level(self) -> None:
        """The next threshold."""
        self.priority = next((level for level in _LEVELS if level < self.priority), _LEVELS[0])

    def action_choose(self) -> None:
        """Ask whose lines."""
        self.post_message(ChooseUnits(self.units))

    def action_jump(self) -> None:
        """Ask for a moment."""
        self.prompt.ask(Question(f"go to a moment: {EXPECTED}", "", self._moment_fault, self._jump))

    def action_wrap(self) -> None:
        """Another way with long lines."""
        ways = list(_WRAPS)
        self._painter.most_rows = ways[(ways.index(self._painter.most_rows) + 1) % len(ways)]
        self.notify(_WRAPS[self._painter.most_rows], timeout=2.0)
        self._settle()

    @property
    def line_rows(self) -> int:
        """At most so many for one line."""
        return self._painter.most_rows

    def show_line_rows(self, rows: int) -> None:
        """So many from the first; a number that is not to be chosen changes nothing."""
        if rows in _WRAPS:
            self._painter.most_rows = rows

    def action_copy(self) -> None:
        """What is on screen."""
        self._copy(self.reader.on_screen)

    def action_copy_all(self) -> None:
        """What units, level and filter let through of all that is loaded."""
        self._copy(self._asked_for)

    def action_save(self) -> None:
        """Ask for a path."""
        lines = self._asked_for
        path = default_path(self.units, self._clock())

        def save(value: str) -> None:
            self.post_message(SaveLog(value.strip(), as_text(lines), len(lines)))

        self.prompt.ask(Question(f"save {len(lines)} lines to the file:", path, _path_fault, save))

    def wheel(self, lines: int) -> None:
        """Look back or forth."""
        self.action_look(lines)

    # -- painting ------------------------------------------------------------------------------------------------

    def rows(self, width: int, height: int) -> list[Strip]:
        """Title, lines, and what is asked."""
        reader, painter = self.reader, self._painter
        painter.names = len(self.units) != 1
        painter.search, painter.current = reader.book.search, reader.current
        done = [strip(title(self._facts(), self._colours, width), width)]
        if self.prompt.question is not None:
            done.append(strip([], width))
            if height > 2:
                words, style = (self.prompt.fault, BAD) if self.prompt.fault else (self.prompt.question.words, DIM)
                done.append(strip([(f" {words}", style)], width))
        entries, visible = reader.entries, reader.visible
        done += [strip(painter.row(entries[index], row, width), width) for index, row in visible]
        if not visible:
            instead = self._instead(width, cut=self.fault not in done[0].text)
            done += [strip([(f"  {words}", style)], width) for words, style in instead[: reader.room]]
        return done

    def _measure(self) -> None:
        self._painter.tight = self.size.height < _WRAPPED
        asks = self.prompt.question is not None
        self.reader.room = max(0, self.size.height - 1 - (0 if not asks else 2 if self.size.height > 2 else 1))

    def _instead(self, width: int, *, cut: bool) -> Row:
        """What stands where no line does; `cut`: the title has no room for all of the fault."""
        if cut:
            return [(words, BAD) for words in wrap(self.fault, width - 3)]
        return [(self._nothing(), DIM)]

    def _nothing(self) -> str:
        book, choice = self.reader.book, self.reader.book.choice
        if book.is_deciding or self.reader.is_reading:
            return "looking…"
        if not (choice.pattern or choice.units or choice.priority < 7):
            return "no lines yet"
        back = self.key("log.page_up")
        rest = f"{back} looks further back" if back else "older ones are not loaded"
        if book.begun:
            rest = "the journal holds no older ones"
        if self.reader.page_fault:
            rest = f"older ones cannot be read: {self.reader.page_fault}"
        return f"no such line among {book.held}; {rest}"

    def _facts(self) -> TitleFacts:
        reader, book = self.reader, self.reader.book
        first = reader.on_screen[:1]
        return TitleFacts(
            units=tuple(sorted(self.units)),
            priority=self.priority,
            fault=self.fault,
            following=self.following,
            new=0 if self.following else min(reader.below, book.newer_than(reader.stopped_at)),
            shown_from=first[0].line.at if first and not self.following else None,
            now=self._clock(),
            filter=_text(book.choice.pattern),
            lines=len(book.shown) - book.gap,
            search=_text(book.search),
            matches=len(book.matches),
            match=book.matches.index(reader.current) + 1 if reader.current in book.matches else 0,
            all_loaded=book.begun and not book.gap,
            is_deciding=book.is_deciding,
            dropped=self.dropped,
        )

    @property
    def _asked_for(self) -> list[Entry]:
        return [entry for entry in self.reader.book.shown if not entry.is_mark]

    # -- parts ---------------------------------------------------------------------------------------------------

    def _copy(self, lines: list[Entry]) -> None:
        copied = newest_that_fit(lines, COPIED_BYTES)
        if copied.text:
            self.app.copy_to_clipboard(copied.text)
            self.notify(f"{copied.words}, where the terminal takes it (OSC 52)", markup=False)

    def _choose(self) -> None:
        if (_names(self.units), self.priority) == (self.reader.book.choice.units, self.reader.book.choice.priority):
            return
        choice = replace(self.reader.book.choice, units=_names(self.units), priority=self.priority)
        self.reader.choose(choice)
        self._settle()

    def _filter(self, text: str) -> None:
        pattern = pattern_of(text)
        if not isinstance(pattern, BadPattern) and _text(pattern) != self.pattern:
            self.reader.choose(replace(self.reader.book.choice, pattern=pattern))
            self._settle()

    def _search(self, text: str) -> None:
        pattern = pattern_of(text)
        if not isinstance(pattern, BadPattern):
            self.reader.find(pattern)
            self._settle()

    def _jump(self, text: str) -> None:
        self.reader.go_to_moment(moment(text, self._clock()))
        self._settle()

    def _moment_fault(self, text: str) -> str:
        try:
            moment(text, self._clock())
        except BadMoment as error:
            return str(error)
        return ""

    def _clock(self) -> float:
        return self.now or time.time()

    def _settle(self) -> None:
        """Show what the reader came to; patterns may need another slice."""
        self.following = self.reader.follows
        if self.reader.book.is_deciding and not self._resumes:
            self._resumes = True
            self.set_timer(_PAUSE_S, self._resume)
        self.repaint()
        valid = (self.following, bool(self.reader.book.search), bool(self.reader.book.choice.pattern))
        if valid != self._valid:
            self._valid = valid
            self.refresh_bindings()

    def _resume(self) -> None:
        self._resumes = False
        self.reader.decide()
        self._settle()


def _names(service_ids: frozenset[str]) -> frozenset[str]:
    return frozenset(f"{service_id}.service" for service_id in service_ids)


def _text(pattern: Pattern | None) -> str:
    return pattern.text if pattern else ""


def _pattern_fault(text: str) -> str:
    pattern = pattern_of(text)
    return f"{pattern.reason}; the old one stays" if isinstance(pattern, BadPattern) else ""


def _path_fault(text: str) -> str:
    return "" if text.strip() else "a path is needed"
