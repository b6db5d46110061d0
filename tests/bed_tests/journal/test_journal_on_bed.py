"""The journal adapter against a real journald: nothing lost, nothing twice, the reason of a failure always there."""

import functools
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from gpumod_tui.adapters.journal.follow import JournalctlJournal
from gpumod_tui.core.models import LogLine, LogPlace
from tests.bed.host import install_unit, run, systemctl, unit_properties, wait_until

pytestmark = pytest.mark.bed


def shell_unit(name: str, script: str, extra: str = "") -> None:
    program = Path.home() / f"{name}.sh"
    program.write_text(f"#!/bin/bash\n{script}\n")
    program.chmod(0o755)
    install_unit(f"{name}.service", f"[Service]\nType=exec\nSyslogIdentifier=%n\nExecStart={program}\n{extra}")


def messages(lines: tuple[LogLine, ...] | list[LogLine]) -> list[str]:
    return [line.message for line in lines]


def test_the_tail_holds_what_the_server_and_systemd_said() -> None:
    shell_unit("says", "echo out; echo err >&2; exit 3")
    systemctl("start", "says.service", check=False)
    journal = JournalctlJournal()
    wait_until(lambda: any("Failed with result" in message for message in messages(journal.tail("says.service", 50))))
    lines = journal.tail("says.service", 50)
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert {"out", "err"} < set(messages(lines))
    assert any("status=3" in message for message in messages(lines))
    assert {line.unit for line in lines} == {"says.service"}
    assert messages(journal.tail("says.service", 2)) == messages(lines)[-2:]
    failed = next(line for line in lines if "Failed with result" in line.message)
    assert failed.priority <= 4
    assert journal.tail("never.service", 5) == ()


def test_an_invocation_holds_its_own_lines_only() -> None:
    shell_unit("again", "echo run $(cat ~/run); sleep 1000")
    for number in ("one", "two"):
        (Path.home() / "run").write_text(number)
        systemctl("restart", "again.service")
        wait_until(lambda number=number: f"run {number}" in messages(JournalctlJournal().tail("again.service", 50)))  # type: ignore[misc]
    invocation = unit_properties("again.service", "InvocationID")["InvocationID"]
    lines = messages(JournalctlJournal().tail("again.service", 50, invocation_id=invocation))
    assert "run two" in lines
    assert "run one" not in lines
    assert any(line.startswith("Start") for line in lines)


def test_last_words_of_a_server_that_dies_at_once_are_found() -> None:
    """journald cannot tell whose a line was when its process was dead before it looked: one in twenty."""
    runs = 40
    server = "SyslogIdentifier=%n\nExecStart=/bin/sh -c 'echo why >&2; exit 1'\n"
    install_unit("brief.service", f"[Unit]\nStartLimitIntervalSec=0\n[Service]\n{server}")
    journal = JournalctlJournal()

    def said(invocation: str, text: str) -> bool:
        return any(text in message for message in messages(journal.tail("brief.service", 30, invocation_id=invocation)))

    for _ in range(runs):
        systemctl("start", "brief.service", check=False)
        invocation = unit_properties("brief.service", "InvocationID")["InvocationID"]
        wait_until(functools.partial(said, invocation, "Failed with result"))
        wait_until(functools.partial(said, invocation, "why"))
    assert messages(journal.tail("brief.service", 1000)).count("why") == runs


def test_odd_messages_arrive() -> None:
    shell_unit("odd", r"printf 'a\tb \033[31mred\n'; printf 'bad \xff\n'; head -c 9000 /dev/zero | tr '\0' x; echo")
    systemctl("start", "odd.service")
    wait_until(lambda: any(len(message) >= 9000 for message in messages(JournalctlJournal().tail("odd.service", 50))))
    lines = messages(JournalctlJournal().tail("odd.service", 50))
    assert "a\tb \x1b[31mred" in lines
    assert "bad \ufffd" in lines
    assert "x" * 9000 in lines


def test_a_follower_gives_the_backlog_and_what_comes() -> None:
    shell_unit("one", "echo old; sleep 1000")
    shell_unit("two", "echo young; sleep 1000")
    shell_unit("third", "echo hidden; sleep 1000")
    systemctl("start", "one.service", "third.service")
    wait_until(lambda: "old" in messages(JournalctlJournal().tail("one.service", 50)))
    lines: list[LogLine] = []
    with closing(JournalctlJournal().follow(["one.service", "two.service"], lines.append)):
        wait_until(lambda: "old" in messages(lines))
        systemctl("start", "two.service")
        wait_until(lambda: "young" in messages(lines))
        systemctl("stop", "one.service")
        wait_until(lambda: any(line.message.startswith("Stopped") and line.unit == "one.service" for line in lines))
    assert {line.unit for line in lines} == {"one.service", "two.service"}
    count = len(lines)
    systemctl("stop", "two.service")
    time.sleep(0.3)
    assert len(lines) == count


def followers() -> list[int]:
    return [int(pid) for pid in run("pgrep", "-x", "journalctl").stdout.split()]


def test_a_killed_journalctl_loses_and_repeats_nothing() -> None:
    total = 3000
    count = f"for i in $(seq {total}); do echo n$i; [ $((i % 50)) = 0 ] && sleep 0.05; done"
    shell_unit("counts", f"echo begin; sleep 0.5; {count}; sleep 1000")
    lines: list[LogLine] = []
    with closing(JournalctlJournal().follow(["counts.service"], lines.append)):
        systemctl("start", "counts.service")
        wait_until(lambda: "begin" in messages(lines))
        killed = 0
        while killed < 4:
            time.sleep(0.5)
            for pid in followers():
                os.kill(pid, signal.SIGKILL)
                killed += 1
        wait_until(lambda: lines[-1].message == f"n{total}")
    assert [message for message in messages(lines) if message.startswith("n")] == [f"n{i}" for i in range(1, total + 1)]
    wait_until(lambda: not followers())


def test_a_flood_arrives_whole_and_fast() -> None:
    total = 50_000
    shell_unit("floods", f"echo begin; sleep 1; seq -f 'n%.0f' {total}; sleep 1000")
    lines: list[LogLine] = []
    with closing(JournalctlJournal().follow(["floods.service"], lines.append)):
        systemctl("start", "floods.service")
        wait_until(lambda: "n1" in messages(lines[:200]), interval_s=0.001)
        began = time.monotonic()
        wait_until(lambda: bool(lines) and lines[-1].message == f"n{total}", timeout_s=60)
        print(f"{total / (time.monotonic() - began):.0f} lines a second reach the sink")
    assert [message for message in messages(lines) if message.startswith("n")] == [f"n{i}" for i in range(1, total + 1)]


def test_paging_back_reaches_the_beginning_and_repeats_and_loses_nothing() -> None:
    total = 500
    shell_unit("past", f"for i in $(seq {total}); do echo n$i; done; printf 'bad \\xff\\n'; sleep 1000")
    shell_unit("beside", "for i in $(seq 50); do echo m$i; sleep 0.01; done; echo '<3>broken'; sleep 1000")
    systemctl("start", "beside.service", "past.service")
    journal = JournalctlJournal()
    units = ["past.service", "beside.service"]
    wait_until(lambda: "bad \ufffd" in messages(journal.tail("past.service", 5)))
    wait_until(lambda: "broken" in messages(journal.tail("beside.service", 5)))
    place: LogPlace | None = LogPlace(time.time() + 10)
    lines: list[LogLine] = []
    while place is not None:
        page = journal.page(units, place, 60)
        lines = [*page.lines, *lines]
        place = page.edge
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert [line for line in messages(lines) if line.startswith("n")] == [f"n{i}" for i in range(1, total + 1)]
    assert [line for line in messages(lines) if line.startswith("m")] == [f"m{i}" for i in range(1, 51)]
    assert messages(lines).count("bad \ufffd") == 1

    middle = lines[len(lines) // 2]
    here = LogPlace(middle.at, middle.cursor)
    after = journal.page(units, here, 40, later=True)
    number = lines.index(middle)
    assert list(after.lines) == lines[number + 1 : number + 41]
    assert after.edge is not None
    assert list(journal.page(units, here, 40).lines) == lines[number - 40 : number]

    # The record of the place need not be among those asked for.
    first = next(line for line in lines if line.message == "m1")
    other = [line for line in lines[: lines.index(first)] if line.unit == "past.service"]
    assert list(journal.page(["past.service"], LogPlace(first.at, first.cursor), 10_000).lines) == other
    errors = journal.page(units, LogPlace(time.time() + 10), 100, priority=3)
    assert messages(list(errors.lines)) == ["broken"]
    assert errors.edge is None
    since = journal.page(units, LogPlace(middle.at), 10, later=True)
    assert since.lines[0].at >= middle.at
    assert journal.page(units, LogPlace(middle.at), 1).lines[-1].at < middle.at
