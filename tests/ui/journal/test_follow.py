"""Units that nobody knew of when the dashboard opened: their lines are shown like all others'."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.adapters.journal.follow import JournalctlJournal
from gpumod_tui.core.errors import SystemdUnavailable
from gpumod_tui.core.models import LogLine, Snapshot
from gpumod_tui.ui.app import GpumodApp
from gpumod_tui.ui.journal.follow import LogFeed
from tests.ui.journal.test_logs import START, Logs, lines_of, title
from tests.ui.played import Box, Follower, until

NEW = "late.service"


def with_new_unit(snapshot: Snapshot) -> Snapshot:
    view = snapshot.services[0]
    late = replace(view, id="late", service=None, state=replace(view.state, unit=NEW))
    return replace(snapshot, services=(*snapshot.services, late))


def line(at: float, text: str, unit: str = NEW) -> LogLine:
    return LogLine(START + at, unit, text, 6, 7, cursor=f"new-{at}")


async def appear(logs: Logs, pilot: Pilot[Any]) -> None:
    follower = logs.box.journal
    logs.box.snapshots.push(logs.box.look())
    await pilot.pause()
    before = len(follower.followed)
    logs.box.snapshots.push(with_new_unit(logs.box.look()))
    await until(pilot, lambda: len(follower.followed) > before)


async def test_a_unit_that_appears_later_is_followed_with_what_it_said_before() -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        await appear(logs, pilot)
        assert NEW in logs.box.journal.followed[-1]
        assert logs.box.journal.closed
        logs.feed([*logs.archive.lines[-5:], line(9992, "hello from the new one")])
        assert "hello from the new one" in lines_of(journal)[-1]
        assert "following" in title(journal)
        assert sum("line 999 " in row for row in lines_of(journal)) == 1
        await until(pilot, lambda: "line 992 " in journal.text())
        logs.box.snapshots.push(with_new_unit(logs.box.look()))
        await pilot.pause()
        assert len(logs.box.journal.followed) == 2


async def test_who_looks_back_meanwhile_stays_where_he_is() -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        await pilot.press("pageup", "pageup")
        seen = lines_of(journal)
        await appear(logs, pilot)
        logs.feed([*logs.archive.lines[-5:], line(9992, "hello from the new one")])
        # The table of units has another row now, and the journal one less.
        shown = lines_of(journal)
        assert shown == seen[: len(shown)]
        assert len(shown) >= len(seen) - 1
        await pilot.press("end")
        assert "hello from the new one" in lines_of(journal)[-1]


class Threads:
    """Runs work when the test says."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    def __call__(self, name: str, work: Callable[[], object], where: str) -> None:
        del name, where
        try:
            work()
        except SystemdUnavailable as error:
            self.faults.append(str(error))


def test_a_journal_that_could_not_be_followed_at_the_start_is_followed_as_soon_as_units_are_known() -> None:
    threads, follower = Threads(), Follower()
    told: list[str] = []
    down = [True]

    def follow(units: frozenset[str], sink: Callable[[LogLine], None], report: Callable[[str], object]) -> Follower:
        if down[0]:
            raise SystemdUnavailable("no user bus")
        return follower(units, sink, report)

    feed = LogFeed(follow, threads, told.append)
    feed.begin()
    feed.see(frozenset())
    assert threads.faults == ["no user bus"]
    assert not told
    down[0] = False
    feed.see(frozenset(["a.service"]))
    assert follower.followed == [frozenset(["a.service"])]
    assert told == [""]
    feed.see(frozenset(["a.service"]))
    assert len(follower.followed) == 1
    feed.close()
    feed.see(frozenset(["b.service"]))
    assert len(follower.followed) == 1
    assert follower.closed


JOURNALCTL = """#!/bin/bash
[ -e {works} ] || {{ echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1; }}
case $* in *--follow*) exec sleep 60 ;; esac
echo '{record}'
"""


async def test_a_journal_that_cannot_be_read_is_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = {"__REALTIME_TIMESTAMP": "1500000", "__CURSOR": "c", "MESSAGE": "back", "_SYSTEMD_USER_UNIT": "a.service"}
    program, works = tmp_path / "journalctl", tmp_path / "works"
    program.write_text(JOURNALCTL.format(works=works, record=json.dumps(record)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    box = Box("glm-code")
    box.journal = lambda units, sink, report: JournalctlJournal().follow(  # type: ignore[assignment]
        ["a.service"], sink, report=report
    )
    box.app = box.make(GpumodApp)
    async with box.app.run_test(size=(100, 40)) as pilot:
        box.snapshots.push(box.look())
        journal = box.app.dashboard.journal
        await until(pilot, lambda: journal.fault)
        assert "Journal ─ the journal cannot be read: No journal files were opened" in title(journal)
        words = " ".join(journal.text().split())
        assert "insufficient permissions" in words
        assert "gpumod needs per-user journals" in words
        assert "no lines yet" not in words
        works.touch()
        await until(pilot, lambda: not journal.fault)
        box.app.flush()
        await until(pilot, lambda: "back" in journal.text())
        assert "following" in title(journal)


async def test_a_journal_of_the_demo_tells_how_it_is() -> None:
    box = Box("glm-code")
    told: list[str] = []
    box.host.journal.error = "No journal files were found."
    box.host.journal.follow(["a.service"], lambda line: None, report=told.append)
    assert "No journal files were found. (journalctl" in told[0]
    box.host.journal.error = None
    assert told[1:] == [""]
