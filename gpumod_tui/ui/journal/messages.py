"""What the journal pane asks of the app, and what it is told."""

from textual.message import Message

from gpumod_tui.core.models import LogPage
from gpumod_tui.ui.journal.entry import LogRequest


class WantLog(Message):
    """The journal pane wants pages."""

    def __init__(self, request: LogRequest) -> None:
        super().__init__()
        self.request = request


class LogRead(Message):
    """The answer: the pages that were asked for, or what was wrong."""

    def __init__(
        self, request: LogRequest, back: LogPage | None = None, forth: LogPage | None = None, fault: str = ""
    ) -> None:
        super().__init__()
        self.request = request
        self.back = back
        self.forth = forth
        self.fault = fault


class ChooseUnits(Message):
    """The operator wants to choose whose journal is shown; `chosen` are service ids."""

    def __init__(self, chosen: frozenset[str]) -> None:
        super().__init__()
        self.chosen = chosen


class SaveLog(Message):
    """Lines for a file; `replace`: the operator knows that there is one of that name."""

    def __init__(self, path: str, text: str, lines: int, *, replace: bool = False) -> None:
        super().__init__()
        self.path = path
        self.text = text
        self.lines = lines
        self.replace = replace


class LogSaved(Message):
    """How that went: written, `taken` by another file, or what was wrong."""

    def __init__(self, asked: SaveLog, *, taken: bool = False, fault: str = "") -> None:
        super().__init__()
        self.asked = asked
        self.taken = taken
        self.fault = fault
