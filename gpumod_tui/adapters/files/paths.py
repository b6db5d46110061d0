"""Where gpumod's files lie."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from gpumod_tui.core.errors import StateUnavailable


@dataclass(frozen=True, slots=True)
class Places:
    """Folders; none is created by asking."""

    config: Path
    """config.yaml, presets/"""
    state: Path
    """Switch in progress, last mode, history."""
    cache: Path
    units: Path
    """Unit files of the user manager."""
    runtime: Path
    """Locks, requests and sockets; gone after a reboot."""

    def socket(self, service_id: str) -> Path:
        """Where a guarded service listens; in a unit file `%t/gpumod/ID.sock`."""
        return self.runtime / f"{service_id}.sock"


_ROOTS: Final = ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")


def find_places() -> Places:
    """The user's folders after XDG. Raises: StateUnavailable where there is no runtime folder of ours."""
    for name in _ROOTS:
        text = os.environ.get(name)
        # Empty, those of XDG count as not set; an empty HOME would put everything into the root folder.
        if text is not None and not text.startswith("/") and (text or name == "HOME"):
            raise StateUnavailable(
                f"{name} is {text!r}, expected an absolute path", hint=f"set {name} to a folder of yours, or unset it"
            )
    return Places(
        config=platformdirs.user_config_path("gpumod"),
        state=platformdirs.user_state_path("gpumod"),
        cache=platformdirs.user_cache_path("gpumod"),
        units=platformdirs.user_config_path("systemd") / "user",
        runtime=_runtime_root() / "gpumod",
    )


def _runtime_root() -> Path:
    """A lock never lies elsewhere: two gpumods that look in different places would both switch."""
    uid = os.getuid()
    named = os.environ.get("XDG_RUNTIME_DIR")
    root = Path(named) if named else Path(f"/run/user/{uid}")
    try:
        status = root.stat()
    except OSError as error:
        raise StateUnavailable(
            f"no runtime folder: {root}: {error.strerror}",
            hint="log in through a systemd user session (ssh, or machinectl shell), or set XDG_RUNTIME_DIR",
        ) from error
    if status.st_uid != uid or stat.S_IMODE(status.st_mode) & 0o077:
        raise StateUnavailable(
            f"the runtime folder {root} is not ours alone"
            f" (owner {status.st_uid}, mode {stat.S_IMODE(status.st_mode):o})",
            hint="log in as the user whose services these are",
        )
    _check_bus(root)
    return root


def _check_bus(root: Path) -> None:
    """The manager whose units are started is that of this folder. Raises: StateUnavailable."""
    used = _used_bus(root)
    if used is None or used.parent.resolve() == root.resolve():
        return
    raise StateUnavailable(
        f"the runtime folder is {root}, and the user manager is asked through {used}: a gpumod that looks in"
        f" {used.parent} would hold another lock and another ledger",
        hint=f"set XDG_RUNTIME_DIR to {used.parent}, or unset it",
    )


def _used_bus(root: Path) -> Path | None:
    """The socket of the bus that is asked for units, links followed; None: it has no path, or none is named."""
    own = root / "bus"
    try:
        if own.is_socket() or (root / "systemd" / "private").is_socket():
            return own.resolve()
    except PermissionError:
        # Whoever wants to write there is told so; what is known is shown all the same.
        return None
    named = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "").partition(";")[0]
    kind, _, keys = named.partition(":")
    path = dict(key.partition("=")[::2] for key in keys.split(",")).get("path", "") if kind == "unix" else ""
    if "%" in path:
        from urllib.parse import unquote  # as rare as it is slow to import

        path = unquote(path)
    return Path(path).resolve() if path else None
