"""One user manager has one runtime folder: one lock, and one ledger."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from gpumod_tui.adapters.files.paths import find_places
from gpumod_tui.core.errors import StateUnavailable


def listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    return server


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The shell's own runtime folder, beside the manager's, `run`, with its bus."""
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
    with listen(tmp_path / "run" / "bus"):
        yield own


@pytest.mark.parametrize("address", ["unix:path={}", "unix:path={},guid=ab12", "unix:guid=ab12,path={};unix:path=/x"])
def test_a_runtime_folder_that_is_not_the_managers_is_refused(
    address: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    managers = folder.parent / "run"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address.format(managers / "bus"))
    with pytest.raises(StateUnavailable) as caught:
        find_places()
    assert f"the runtime folder is {folder}" in str(caught.value)
    assert caught.value.hint == f"set XDG_RUNTIME_DIR to {managers}, or unset it"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(managers))
    assert find_places().runtime == managers / "gpumod"


def test_a_link_to_the_managers_bus_is_the_managers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    (folder / "bus").symlink_to(folder.parent / "run" / "bus")
    with pytest.raises(StateUnavailable):
        find_places()


def test_a_bus_without_a_path_and_none_at_all_are_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("", "unix:abstract=/tmp/dbus-x", "tcp:host=localhost,port=1"):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        assert find_places().runtime == folder / "gpumod"


def test_with_a_manager_of_its_own_a_folder_is_its_own(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", f"unix:path={folder.parent / 'run' / 'bus'}")
    with listen(folder / "systemd" / "private"):
        assert find_places().runtime == folder / "gpumod"
