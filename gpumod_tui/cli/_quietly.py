"""Whoever changes his mind while a command is still being imported gets no traceback: imported before all the rest.

The exit code is what Python makes of it: killed by SIGINT, 130 for a shell.
"""

import sys
from types import TracebackType


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = _tell
