"""The real host: each adapter is built when it is first asked for, and once, whoever asks."""

import threading
from pathlib import Path

import pytest

from gpumod_tui.core.catalog.config import Config
from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.wiring import RealHost

THREADS = 8


def ask_at_once(host: RealHost) -> list[object]:
    start, found = threading.Barrier(THREADS), list[object]()

    def ask() -> None:
        start.wait()
        found.append(host.units)

    threads = [threading.Thread(target=ask) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_threads_that_ask_at_once_share_one_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    others = threading.Event()

    def connect() -> object:
        # Time enough for all others to ask, too.
        others.wait(0.2)
        built.append(object())
        return built[-1]

    monkeypatch.setattr("gpumod_tui.adapters.systemd.manager.connect_units", connect)
    found = ask_at_once(RealHost())
    assert found == built * THREADS


def test_what_could_not_be_built_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> object:
        raise SystemdUnavailable("no user bus")

    host = RealHost()
    monkeypatch.setattr("gpumod_tui.adapters.systemd.manager.connect_units", refuse)
    with pytest.raises(SystemdUnavailable):
        _ = host.units
    monkeypatch.setattr("gpumod_tui.adapters.systemd.manager.connect_units", lambda: "bus")
    assert host.units == "bus"  # type: ignore[comparison-overlap]


def test_a_reload_takes_the_place_of_what_was_read_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    host = RealHost()
    before: Config = host.config
    assert host.config is before
    (tmp_path / ".config/gpumod").mkdir(parents=True)
    (tmp_path / ".config/gpumod/config.yaml").write_text("vram_margin_mb: 100\n")
    host.reload()
    assert host.settings.vram_margin_bytes == 100 * 1024**2
