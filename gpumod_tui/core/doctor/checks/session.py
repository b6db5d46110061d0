"""The user's session: journal, linger, folders, the ledger, and the switch."""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Final

from gpumod_tui.core.doctor.facts import Finding, Folder, LedgerLook, error, fine, warning
from gpumod_tui.core.switch.records import StoredState
from gpumod_tui.core.units.login import LOGIN_UNIT, LoginMode

MANAGERS_UNIT: Final = "init.scope"
"""Where systemd's own words about user units come from: it has said something if the journal can be read."""
_SESSION: Final = "session"
_STATE: Final = "state"


def check_journal(lines: int, *, is_persistent: bool) -> Iterator[Finding]:
    """`lines`: how many of the manager's own lines were found when one was asked for."""
    keep = "sudo mkdir -p /var/log/journal && sudo systemctl restart systemd-journald"
    if not is_persistent:
        why = "there is no journal of the user's own then: logs stay empty, and failures come without their reason"
        yield warning(_SESSION, "journald does not keep journals on disk", why, keep)
    if not lines:
        why = "logs stay empty, and failures come without their reason"
        yield warning(
            _SESSION, "the user's journal holds nothing", why, "journalctl --user -n 5" if is_persistent else keep
        )
    elif is_persistent:
        yield fine(_SESSION, "the user's journal can be read and is kept on disk")


def check_linger(lingers: bool | None, user: str) -> Finding:
    """None: there is no logind, and nobody ends the user manager."""
    if lingers is None:
        return fine(_SESSION, "linger is unknown: there is no logind here")
    if lingers:
        return fine(_SESSION, f"units of {user} live on without a login (linger)")
    return warning(
        _SESSION,
        f"no linger for {user}",
        "all services end when the last login of this user ends, and none starts at boot",
        f"loginctl enable-linger {user}",
    )


def check_login_mode(login: LoginMode, modes: Collection[str]) -> Finding:
    """`modes`: those that are defined."""
    if login.file == "missing":
        return fine(_SESSION, "no mode is switched to at login")
    again = f"gpumod mode default {login.mode}" if login.mode in modes else "gpumod mode default MODE, or --clear"
    if login.file in ("hand-edited", "foreign"):
        why = "what it does at login is not known"
        return warning(_SESSION, f"{LOGIN_UNIT} is {login.file}", why, "remove the file, then gpumod mode default MODE")
    if login.mode not in modes:
        what = f"{login.mode or 'an unknown mode'} is to be switched to at login, and is no mode"
        return error(_SESSION, what, "nothing runs after a login or a boot", again)
    if login.failed:
        why = "the mode was not reached"
        todo = f"journalctl --user -u {LOGIN_UNIT} --no-pager -n 20"
        return warning(_SESSION, f"the switch to {login.mode} at login failed", why, todo)
    if not login.enabled or login.file != "current":
        what = f"{LOGIN_UNIT} is {login.file}{'' if login.enabled else ' and not enabled'}"
        return warning(_SESSION, what, f"the switch to {login.mode} at login may not happen as meant", again)
    return fine(_SESSION, f"{login.mode} is switched to at login")


def check_folders(runtime: Folder, state: Folder) -> Iterator[Finding]:
    """Where locks and sockets lie is closed to others; what must outlive a reboot can be written."""
    before = None
    if runtime.exists and not runtime.is_ours:
        before = error(
            _STATE,
            f"{runtime.path} belongs to another user",
            "no lock can be taken, so nothing is switched or admitted",
            f"sudo chown -R $(id -u):$(id -g) {runtime.path}",
        )
    elif runtime.exists and runtime.mode & 0o077:
        before = error(
            _STATE,
            f"{runtime.path} is open to others (mode {runtime.mode:o})",
            "other users could talk to the servers' sockets past the guard",
            f"chmod 700 {runtime.path}",
        )
    elif not runtime.is_writable:
        before = error(_STATE, f"{runtime.path} cannot be written", "no lock can be taken", f"chmod 700 {runtime.path}")
    yield before or fine(_STATE, f"{runtime.path} is ours alone" if runtime.exists else f"{runtime.path}: not used yet")
    if state.is_writable:
        yield fine(_STATE, f"{state.path} can be written")
    else:
        yield error(
            _STATE,
            f"{state.path} cannot be written",
            "no switch can record how far it is, how it ended, or the mode that it reached",
            f"chmod u+rwx {state.path}, or make room (df {state.path.parent})",
        )


def check_ledger(look: LedgerLook, holder: str) -> Finding:
    """`holder`: who holds its lock, for people; empty: nobody."""
    if look.problem:
        return error(
            _STATE,
            f"the ledger of commitments: {look.problem}",
            "a damaged one is set aside and rebuilt from what runs; one that cannot be read refuses every start",
            "gpumod mode switch blank --dry-run, which settles it and changes nothing else; then gpumod doctor again",
        )
    if holder:
        return fine(_STATE, f"the ledger of commitments holds {look.entries} and is held by {holder} right now")
    return fine(_STATE, f"the ledger of commitments holds {look.entries}")


def check_set_aside(look: LedgerLook) -> Iterator[Finding]:
    """Ledgers that could not be read: what was done about them, and when."""
    for one in look.set_aside:
        at = datetime.fromtimestamp(one.at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        yield warning(
            _STATE,
            f"{one.path} was set aside at {at}: it was a ledger of commitments that could not be read",
            "the ledger was rebuilt from what ran, each at its full need; promises that nobody had taken up were lost",
            f"nothing more for VRAM; once you know what damaged it: rm -r {one.path}",
        )


def check_switch(stored: StoredState) -> Finding:
    """A switch in progress, or one that was killed."""
    if stored.running:
        run = stored.running
        what = f"a switch to {run.target} runs (pid {run.pid}, at step {run.step})"
        return warning(_STATE, what, "other findings may be of the moment", "gpumod doctor, once it has ended")
    if stored.interrupted:
        run = stored.interrupted
        what = f"the switch to {run.target} by pid {run.pid} was interrupted at step {run.step}"
        if run.touched:
            return error(_STATE, what, "the box is in no mode", "gpumod mode switch blank")
        return warning(_STATE, what, "it had changed nothing", "gpumod mode switch blank, or any other mode")
    return fine(_STATE, "no switch is under way or was interrupted")
