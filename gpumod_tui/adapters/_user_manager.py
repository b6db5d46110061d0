"""systemctl, run with a limit, and what is said where the user manager cannot be asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from gpumod_tui.core.errors import SystemdUnavailable

if TYPE_CHECKING:
    from subprocess import CompletedProcess

CALL_S: Final = 10.0
"""A manager that has not answered by then hangs: it takes milliseconds."""
_HINT: Final = (
    "log in through a systemd user session (ssh, or machinectl shell) and check XDG_RUNTIME_DIR;"
    " `loginctl enable-linger` keeps the user manager running without a login"
)
_NO_MANAGER: Final = ("Failed to connect to bus", "Failed to connect to user scope bus", "Connection refused")


def unavailable(reason: str) -> SystemdUnavailable:
    """The user manager cannot be asked, with what to do about it."""
    return SystemdUnavailable(f"the systemd user manager cannot be asked: {reason}", hint=_HINT)


def systemctl(*arguments: str, timeout_s: float = CALL_S) -> CompletedProcess[str]:
    """`systemctl --user`, in English and without colours, whatever it exits with.

    Raises: SystemdUnavailable when systemctl is not there, hangs, or finds no manager.
    """
    import subprocess  # not for those who have a bus

    environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"}
    environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    try:
        done = subprocess.run(
            ["systemctl", "--user", "--no-pager", "--no-ask-password", *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except OSError as error:
        raise unavailable(f"systemctl: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise unavailable(f"systemctl gave no answer within {timeout_s:g} s") from error
    if done.returncode and any(sign in done.stderr for sign in _NO_MANAGER):
        raise unavailable(done.stderr.strip())
    return done


def shown(*arguments: str) -> str:
    """What `systemctl --user show` prints. Raises: SystemdUnavailable."""
    done = systemctl("show", *arguments)
    if done.returncode:
        raise unavailable(done.stderr.strip() or f"systemctl exited {done.returncode}")
    return done.stdout
