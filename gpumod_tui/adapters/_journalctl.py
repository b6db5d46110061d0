"""How journalctl is called, and what is asked of it."""

import os
import subprocess
from typing import IO, Final

from gpumod_tui.adapters._journal_records import FIELDS, Record, decode
from gpumod_tui.core.errors import JournalUnavailable

ANSWER_S: Final = 10.0
LINE_BYTES: Final = 4 * 1024 * 1024
HINT: Final = (
    "gpumod needs per-user journals: `journalctl --user` should print something"
    " (persistent storage: `sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald`)"
)
_ENDS_BYTES: Final = 64 * 1024


def matches_of(units: tuple[str, ...]) -> list[str]:
    """What the units' processes say, what systemd says about them, and what lost its unit (see `log_line`)."""
    own = [f"_SYSTEMD_USER_UNIT={unit}" for unit in units]
    about = [f"USER_UNIT={unit}" for unit in units]
    named = [f"SYSLOG_IDENTIFIER={unit}" for unit in units]
    return [*own, "+", *about, "+", *named]


def command(*options: str) -> list[str]:
    """A call that prints records."""
    # --all: without it every value above 4 KiB, such as a long traceback, is printed as null.
    return [
        "journalctl",
        "--user",
        "--no-pager",
        "--quiet",
        "--all",
        "--output=json",
        f"--output-fields={','.join(FIELDS)}",
        *options,
    ]


def environment() -> dict[str, str]:
    """Ours, but for what changes the output."""
    return {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}


def run(*options: str) -> list[Record]:
    """All that a call prints. Raises: JournalUnavailable."""
    try:
        done = subprocess.run(
            command(*options),
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=ANSWER_S,
            check=False,
        )
    except OSError as error:
        raise not_run(error) from error
    except subprocess.TimeoutExpired as error:
        raise JournalUnavailable(f"journalctl gave no answer within {ANSWER_S:g} s", hint=HINT) from error
    if done.returncode:
        raise not_read(done.returncode, done.stderr)
    return [record for line in done.stdout.splitlines() if (record := decode(line)) is not None]


def not_run(error: OSError) -> JournalUnavailable:
    """There is no journalctl, or it cannot be started."""
    return JournalUnavailable(f"journalctl cannot be run: {error.strerror}", hint=HINT)


def not_read(code: int, stderr: bytes) -> JournalUnavailable:
    """It ended with an error."""
    said = " ".join(stderr.decode(errors="replace").split())
    return JournalUnavailable(f"the journal cannot be read: {said or f'journalctl exited {code}'}", hint=HINT)


def ends_of_overlong(stream: IO[bytes], head: bytes) -> bytes:
    """Read a line of more than `LINE_BYTES` to its end; its first and last bytes, where its fields are."""
    tail = head
    while tail and not tail.endswith(b"\n"):
        tail = stream.readline(LINE_BYTES)
    return head[:_ENDS_BYTES] + tail[-_ENDS_BYTES:]
