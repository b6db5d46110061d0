"""The dashboard at a terminal of tmux: keys in, the screen as text out."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import pytest

from gpumod_tui.ui.switch.controller import GUARD_S
from tests.bed.host import wait_until

KITTY_ESCAPE = ("-H", "1b", "5b", "32", "37", "75")


class Tmux:
    """One program in a tmux of its own."""

    def __init__(self, *command: str, width: int = 120, height: int = 40) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("tmux is missing: apt-get install tmux")
        self._socket = f"gpumod-{os.getpid()}-{time.monotonic_ns()}"
        self._run("new-session", "-d", "-x", str(width), "-y", str(height), *command)

    def __enter__(self) -> Tmux:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(self.text())
        self._run("kill-server", check=False)

    def press(self, *keys: str) -> None:
        """As tmux names keys; Escape as a terminal with kitty's keyboard protocol sends it.

        The bare byte, read together with the next key, is that key with alt: no pause is sure to be long enough.
        """
        for key in keys:
            self._run("send-keys", *(KITTY_ESCAPE if key == "Escape" else (key,)))
            time.sleep(0.1)

    def agree(self) -> None:
        """To the plan on the screen: it takes no key as long as somebody may still be typing."""
        time.sleep(2 * GUARD_S)
        self.press("Enter")

    def record(self, file: Path) -> None:
        """From now on every byte that the program writes goes into the file, too."""
        self._run("pipe-pane", "-o", f"cat >{shlex.quote(str(file))}")

    def press_bare_escape(self) -> None:
        """As any other terminal sends it: what it does has to be on the screen before the next key is pressed."""
        self._run("send-keys", "Escape")

    def hang_up(self) -> None:
        """The terminal is gone, as when a connection breaks: SIGHUP, and end of file."""
        self._run("kill-server")

    def text(self) -> str:
        """What is on the screen."""
        return self._run("capture-pane", "-p", check=False)

    def wait(self, *words: str, timeout_s: float = 60.0) -> str:
        """Until all of these are on the screen at once; the screen."""
        seen: list[str] = []

        def there() -> bool:
            seen[:] = [self.text()]
            return all(word in seen[0] for word in words)

        wait_until(there, timeout_s, what=f"{words} on the screen", interval_s=0.03)
        return seen[0]

    def wait_gone(self, *words: str, timeout_s: float = 60.0) -> str:
        """Until none of these is on the screen; the screen."""
        seen: list[str] = []

        def gone() -> bool:
            seen[:] = [self.text()]
            return bool(seen[0].strip()) and not any(word in seen[0] for word in words)

        wait_until(gone, timeout_s, what=f"{words} off the screen", interval_s=0.03)
        return seen[0]

    def _run(self, *arguments: str, check: bool = True) -> str:
        command = ["tmux", "-L", self._socket, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def dashboard(width: int = 120, height: int = 40, *, environment: Iterable[str] = ()) -> Iterator[Tmux]:
    """The real program, once it shows the units. `environment`: what is added, each `NAME=VALUE`."""
    command = ("env", "-u", "COLUMNS", "-u", "LINES", *environment, "gpumod")
    with Tmux(*command, width=width, height=height) as terminal:
        terminal.wait("Units", "vllm-embedding", "1 blank")
        yield terminal
