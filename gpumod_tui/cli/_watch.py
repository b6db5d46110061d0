"""The same thing printed again and again, on a terminal in place."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from gpumod_tui.cli._output import is_terminal, print_json_line, say
from gpumod_tui.core.text import in_one_line

_CLEAR: Final = "\x1b[H\x1b[2J"


class Painter:
    """Lines of a terminal, of which only the changed ones are written; the cursor stays below the last."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._size = (0, 0)

    def paint(self, lines: Sequence[str], columns: int, rows: int) -> str:
        """What to write; what does not fit is cut, and counted in the last row."""
        text = ""
        if (columns, rows) != self._size:
            self._shown, self._size, text = [], (columns, rows), _CLEAR
        room = max(1, rows - 1)
        fitting = [in_one_line(line)[:columns] for line in lines[:room]]
        if len(lines) > room:
            fitting[-1] = f"… {len(lines) - room + 1} more lines"[:columns]
        for y, line in enumerate(fitting):
            if y >= len(self._shown) or line != self._shown[y]:
                text += f"\x1b[{y + 1};1H{line}\x1b[K"
        below = len(fitting) < len(self._shown)
        self._shown = fitting
        end = f"\x1b[{len(fitting) + 1};1H"
        return f"{text}{end}\x1b[J" if below else text + end if text else ""


def watch(facts: Callable[[], object], lines: Callable[[], Sequence[str]], every_s: float, *, as_json: bool) -> None:
    """Until ctrl-c, which leaves as it leaves any command; the end of whoever reads ends it, too."""
    painter = Painter()
    while True:
        begun = time.monotonic()
        if as_json:
            print_json_line(facts())
        elif is_terminal():
            text = painter.paint(lines(), *shutil.get_terminal_size())
            if text:
                sys.stdout.write(text)
        else:
            for line in [*lines(), ""]:
                say(line)
        sys.stdout.flush()
        time.sleep(max(0.0, every_s - (time.monotonic() - begun)))
