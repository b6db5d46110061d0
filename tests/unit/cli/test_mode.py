"""`gpumod mode history` and `gpumod mode default`, as they read."""

import json
from dataclasses import replace
from typing import Any

import click.testing
import pytest

from gpumod_tui.cli import mode as mode_cli
from gpumod_tui.core.errors import GpuUnavailable
from gpumod_tui.core.models import GpuReading
from gpumod_tui.core.status.mode_status import Recorded
from gpumod_tui.core.units.login import LOGIN_UNIT, LoginMode
from gpumod_tui.demo.host import DemoHost
from gpumod_tui.demo.others import past


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> DemoHost:
    played = DemoHost()
    monkeypatch.setattr(mode_cli, "real_host", lambda **_: played)
    return played


def run(*arguments: str, expect: int = 0) -> click.testing.Result:
    result = click.testing.CliRunner().invoke(mode_cli.mode, arguments)
    assert result.exit_code == expect, result.output
    return result


def test_the_mode_that_was_reached_is_marked_and_none_after_a_switch_without_an_end(host: DemoHost) -> None:
    def marked() -> list[str]:
        return [row.split()[1] for row in run("list").stdout.splitlines() if row.startswith("*")]

    assert marked() == []
    host.store.record(Recorded("code", since=host.clock.time()))
    assert marked() == ["code"]
    lock = host.store.acquire("rag")
    assert lock is not None
    assert marked() == ["code"], "nothing was touched yet"
    lock.write(replace(lock.record, touched=True))
    assert marked() == []
    lock.release()
    assert marked() == []


def test_the_history_is_a_table_the_newest_first(host: DemoHost) -> None:
    assert "no switch has ended yet" in run("history").stdout
    host.store.remember(past(host.clock.time()))
    rows = run("history").stdout.splitlines()
    assert rows[0].split() == ["WHEN", "TARGET", "OUTCOME", "TOTAL", "STEPS", "IN", "SECONDS"]
    assert next(row.split("  ")[1].strip() for row in rows[1:]) == "rag"
    assert "start 2.1 ✖, rollback 0.3" in rows[2]
    assert len(run("history", "--limit", "2").stdout.splitlines()) == 3
    run("history", "--limit", "0", expect=2)
    run("history", "--limit", "201", expect=2)


def test_the_history_as_json_has_everything(host: DemoHost) -> None:
    host.store.remember(past(host.clock.time()))
    told: dict[str, Any] = json.loads(run("history", "--json", "--limit", "2").stdout)
    failed = told["switches"][1]
    assert told["problem"] is None
    assert (failed["outcome"], failed["steps"][-1]["step"]) == ("failed", "rollback")
    assert failed["errors"][0]["journal"][0]["message"].endswith("out of memory")


def test_the_mode_at_login_is_shown_set_and_cleared(host: DemoHost) -> None:
    assert "no mode at login" in run("default").stdout
    told = run("default", "code")
    assert f"mode at login: code ({LOGIN_UNIT}: current)" in told.stdout
    assert "loginctl enable-linger" in told.stderr
    assert json.loads(run("default", "--json").stdout)["mode"] == "code"
    assert "no mode at login any more" in run("default", "--clear").stdout
    assert "there was no mode at login" in run("default", "--clear").stdout
    assert run("default", "code", "--clear", expect=2).stdout == ""


def test_what_keeps_it_from_happening_is_told(host: DemoHost, monkeypatch: pytest.MonkeyPatch) -> None:
    login = LoginMode("gone", "outdated", enabled=False, failed=True, lingers=True)
    monkeypatch.setattr(host.login_mode, "read", lambda: login)
    told = run("default").stderr
    for words in ("gone is no mode", "is not enabled", "the last time it failed"):
        assert words in told


def test_a_switch_waits_for_gpus_that_answer_late_and_not_for_ever(host: DemoHost) -> None:
    class Late:
        """No NVIDIA driver for the first seconds of the clock."""

        def __init__(self, seconds: float) -> None:
            self.until = host.clock.monotonic() + seconds
            self.asked = 0

        def read(self, *, processes: bool = True) -> GpuReading:
            self.asked += 1
            if host.clock.monotonic() < self.until:
                raise GpuUnavailable("no NVIDIA driver")
            return GpuReading(0.0, "580", ())

    for late_s, limit_s, waited_s in ((5.0, 120.0, 5.0), (300.0, 120.0, 120.0), (5.0, 0.0, 0.0)):
        gpus = Late(late_s)
        host.gpus = gpus  # type: ignore[assignment]
        began = host.clock.monotonic()
        mode_cli.wait_for_gpus(host, limit_s)
        assert host.clock.monotonic() - began == waited_s
