"""Questions of screens to the `Commands`, asked in a thread."""

from collections.abc import Callable
from typing import TypeVar

from textual.message import Message

from gpumod_tui.core.errors import GpumodError
from gpumod_tui.ui.backend import Commands

_Answer = TypeVar("_Answer")


class Errand(Message):
    """A question to the `Commands` that may take its time: asked in a thread."""

    def __init__(self, name: str, ask: Callable[[Commands], Callable[[], object]]) -> None:
        super().__init__()
        self.name = name
        self.ask = ask
        """Asks, and gives what is to be called with the answer in the view's own thread."""


class ErrandDone(Message):
    """An errand is back."""

    def __init__(self, tell: Callable[[], object]) -> None:
        super().__init__()
        self.tell = tell


def errand(name: str, work: Callable[[Commands], _Answer], done: Callable[[_Answer | GpumodError], object]) -> Errand:
    """`done` is called with the answer, or with what was wrong."""

    def ask(commands: Commands) -> Callable[[], object]:
        try:
            answer: _Answer | GpumodError = work(commands)
        except GpumodError as error:
            answer = error
        except Exception as error:  # noqa: BLE001 - a thread's exception is shown nowhere else
            answer = GpumodError(f"{name} failed: {error!r}")
        return lambda: done(answer)

    return Errand(name, ask)
