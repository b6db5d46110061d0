"""Journal lines from whatever journalctl prints, and a follower that outlives it."""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from gpumod_tui.adapters.journal.follow import _BACKOFF_S, JournalctlJournal
from gpumod_tui.adapters.journal.records import HINT, decode, log_line, overlong_line
from gpumod_tui.core.errors import JournalUnavailable
from gpumod_tui.core.models import LogLine, LogPlace
from tests.bed.host import wait_until

UNITS = ("a.service", "b.service")


def record(**fields: object) -> bytes:
    return json.dumps({"__CURSOR": "c", "__REALTIME_TIMESTAMP": "1500000", **fields}).encode()


def line_of(**fields: object) -> LogLine | None:
    decoded = decode(record(**fields))
    assert decoded is not None
    return log_line(decoded, UNITS)


def message_of(value: object) -> str:
    line = line_of(MESSAGE=value, _SYSTEMD_USER_UNIT="a.service")
    assert line is not None
    return line.message


def test_a_record_becomes_a_line() -> None:
    line = line_of(MESSAGE="hi", PRIORITY="3", _PID="12", SYSLOG_IDENTIFIER="srv", _SYSTEMD_USER_UNIT="a.service")
    assert line == LogLine(at=1.5, unit="a.service", message="hi", priority=3, pid=12, identifier="srv", cursor="c")
    assert line_of(MESSAGE="hi", USER_UNIT="b.service") == LogLine(at=1.5, unit="b.service", message="hi", cursor="c")


def test_messages_of_every_shape() -> None:
    assert message_of("tab\tand \x1b[31mred") == "tab\tand \x1b[31mred"
    assert message_of([104, 105, 255]) == "hi\ufffd"
    assert message_of(None) == "[too long to be shown]"
    assert message_of(["first", "second"]) == "first"
    assert message_of([[104, 105], [1]]) == "hi"
    assert message_of([]) == ""
    assert len(message_of("x" * 100_000)) == 16 * 1024


def test_a_line_belongs_to_the_unit_that_journald_saw() -> None:
    def unit(**fields: object) -> str | None:
        line = line_of(MESSAGE="m", **fields)
        return line.unit if line else None

    assert unit(_SYSTEMD_USER_UNIT="a.service", USER_UNIT="b.service") == "a.service"
    assert unit(_SYSTEMD_USER_UNIT="init.scope", USER_UNIT="b.service") == "b.service"
    assert unit(_SYSTEMD_USER_UNIT="other.service") is None
    assert unit(SYSLOG_IDENTIFIER="a.service") == "a.service"
    assert unit(_SYSTEMD_USER_UNIT="other.service", SYSLOG_IDENTIFIER="a.service") is None
    assert unit() is None


@pytest.mark.parametrize("odd", ["²", "٣", "9" * 5000, "-1", "5.0", ""], ids=lambda text: text[:3])
def test_what_is_no_number_is_passed_over(odd: str) -> None:
    line = line_of(MESSAGE="m", PRIORITY=odd, _PID=odd, __REALTIME_TIMESTAMP=odd, _SYSTEMD_USER_UNIT="a.service")
    assert line is not None
    assert (line.priority, line.pid, line.at) == (6, None, 0.0)


def test_a_priority_that_no_journal_has_is_the_lowest() -> None:
    line = line_of(MESSAGE="m", PRIORITY="99", _SYSTEMD_USER_UNIT="a.service")
    assert line is not None
    assert line.priority == 7


@pytest.mark.parametrize("line", [b"", b"{", b'{"MESSAGE": 5}', b"[]", b"\xff\xfe", record(MESSAGE="cut")[:-4]])
def test_what_is_no_record_is_skipped(line: bytes) -> None:
    assert decode(line) is None


def test_an_overlong_record_is_named() -> None:
    line = overlong_line(record(MESSAGE="x" * 99, _SYSTEMD_USER_UNIT="b.service"), UNITS, 7.0)
    assert line is not None
    assert (line.unit, line.at) == ("b.service", 7.0)
    assert overlong_line(record(MESSAGE="x"), UNITS, 7.0) is None


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts a played journalctl on PATH; its arguments are appended to the file that comes back."""
    log = tmp_path / "calls"

    def play(script: str) -> Path:
        program = tmp_path / "bin" / "journalctl"
        program.parent.mkdir(exist_ok=True)
        written = tmp_path / "written"
        written.write_text(f'#!/bin/bash\necho "$@" >>{log}\ncall=$(wc -l <{log})\n{script}\n')
        written.chmod(0o755)
        written.rename(program)
        return log

    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return play


def printed(number: int) -> str:
    return record(MESSAGE=f"line {number}", _SYSTEMD_USER_UNIT="a.service", __CURSOR=f"c{number}").decode()


OTHERS = record(MESSAGE="hello", _SYSTEMD_USER_UNIT="other.service").decode()
SLEEPS_S = 60
"""What a played journalctl would go on for; half of it is time enough for everything else on any machine."""


def test_a_follower_goes_on_at_its_cursor_when_journalctl_dies(journalctl: Callable[[str], Path]) -> None:
    parts = "\n".join(f"{call}) echo '{printed(call)}' ;;" for call in (1, 2, 3))
    log = journalctl(f"case $call in {parts}\n*) exec sleep 60 ;; esac")
    lines: list[LogLine] = []
    follower = JournalctlJournal().follow(["a.service"], lines.append, backlog=7)
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 4)
    follower.close()
    assert [line.message for line in lines] == ["line 1", "line 2", "line 3"]
    backlog, *others = log.read_text().splitlines()[:4]
    assert "--lines=7" in backlog
    assert "--follow" not in backlog
    for call, other in enumerate(others, 1):
        assert f"--follow --no-tail --after-cursor=c{call} " in other


def test_a_journal_without_a_line_yet_is_followed_from_now(journalctl: Callable[[str], Path]) -> None:
    log = journalctl(f"case $call in 1) ;; 2) echo '{OTHERS}' ;; *) exec sleep 60 ;; esac")
    told: list[str] = []
    follower = JournalctlJournal().follow(["a.service"], lambda line: None, report=told.append)
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
    follower.close()
    assert told == [""]
    assert "--follow --no-tail --since=@" in log.read_text().splitlines()[2]


def test_closing_ends_process_and_thread(journalctl: Callable[[str], Path]) -> None:
    log = journalctl(f"[ $call = 1 ] && echo '{OTHERS}' || exec sleep {SLEEPS_S}")
    follower = JournalctlJournal().follow(UNITS, lambda line: None)
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 2)
    began = time.monotonic()
    follower.close()
    follower.close()
    assert time.monotonic() - began < SLEEPS_S / 2
    assert not [thread for thread in threading.enumerate() if thread.name == "gpumod-journal"]


def test_a_follower_that_cannot_begin_tries_again_without_haste(
    journalctl: Callable[[str], Path],
) -> None:
    log = journalctl("exit 1")
    began = time.monotonic()
    follower = JournalctlJournal().follow(UNITS, lambda line: None)
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
    follower.close()
    assert time.monotonic() - began >= sum(_BACKOFF_S[:2])


def test_nothing_to_follow_is_no_process(journalctl: Callable[[str], Path]) -> None:
    log = journalctl("exec sleep 60")
    told: list[str] = []
    JournalctlJournal().follow([], lambda line: None, report=told.append).close()
    assert not log.exists()
    assert told == [""]


def test_a_follower_says_once_why_it_cannot_begin_and_when_it_can(journalctl: Callable[[str], Path]) -> None:
    log = journalctl("echo 'insufficient permissions' >&2; exit 1")
    told: list[str] = []
    lines: list[LogLine] = []
    with closing(JournalctlJournal().follow(["a.service"], lines.append, report=told.append)):
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 3)
        assert told == [f"the journal cannot be read: insufficient permissions ({HINT})"]
        journalctl(f"echo '{printed(1)}'; case $* in *--follow*) exec sleep 60 ;; esac")
        wait_until(lambda: bool(lines))
        assert told[1:] == [""]


def test_a_journal_of_nobody_is_no_journal_without_a_line(journalctl: Callable[[str], Path]) -> None:
    log = journalctl("exit 0")
    told: list[str] = []
    with closing(JournalctlJournal().follow(["a.service"], lambda line: None, report=told.append)):
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 4)
    assert told == [f"the user's journal holds nothing ({HINT})"]
    assert "--follow" not in log.read_text()


def test_a_follower_without_a_program_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told: list[str] = []
    with closing(JournalctlJournal().follow(["a.service"], lambda line: None, report=told.append)):
        wait_until(lambda: bool(told))
    assert told[0].startswith("journalctl cannot be run: No such file")


def test_following_that_fails_later_is_told_and_ends_well(journalctl: Callable[[str], Path]) -> None:
    log = journalctl(
        f"case $call in 1) echo '{printed(1)}' ;; 2|3) echo 'odd cursor' >&2; exit 1 ;; *) exec sleep 60 ;; esac"
    )
    told: list[str] = []
    with closing(JournalctlJournal().follow(["a.service"], lambda line: None, report=told.append)):
        wait_until(lambda: len(told) >= 3)
    assert told == ["", f"the journal cannot be read: odd cursor ({HINT})", ""]
    assert len(log.read_text().splitlines()) == 4


def test_a_line_that_cannot_be_handed_on_is_told_and_passed_over(journalctl: Callable[[str], Path]) -> None:
    journalctl(f"[ $call = 1 ] && echo '{printed(1)}' && exit; echo '{printed(2)}'; exec sleep 60")
    told: list[str] = []
    lines: list[LogLine] = []

    def sink(line: LogLine) -> None:
        if line.message == "line 1":
            raise KeyError("odd")
        lines.append(line)

    with closing(JournalctlJournal().follow(["a.service"], sink, report=told.append)):
        wait_until(lambda: bool(lines))
    assert lines[0].message == "line 2"
    assert told == ["", "the journal cannot be followed: KeyError('odd')", ""]


def test_an_invocation_is_asked_for_on_both_sides(journalctl: Callable[[str], Path]) -> None:
    log = journalctl(f"[ $call = 1 ] && echo '{printed(1)}'; exit 0")
    (line,) = JournalctlJournal().tail("a.service", 5, invocation_id="f00")
    assert line.message == "line 1"
    arguments = log.read_text().splitlines()[0]
    wanted = "_SYSTEMD_USER_UNIT=a.service _SYSTEMD_INVOCATION_ID=f00 + USER_UNIT=a.service USER_INVOCATION_ID=f00"
    assert wanted in arguments
    assert "--lines=5" in arguments


def test_a_journal_that_cannot_be_read_says_why(
    journalctl: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journalctl("echo 'No journal files were opened due to insufficient permissions.' >&2; exit 1")
    with pytest.raises(JournalUnavailable, match="insufficient permissions") as caught:
        JournalctlJournal().tail("a.service", 5)
    assert "/var/log/journal" in caught.value.hint
    (tmp_path / "bin" / "journalctl").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JournalUnavailable, match="cannot be run"):
        JournalctlJournal().tail("a.service", 5)


PLACE = LogPlace(9.0, "c9")


def pages(numbers: str) -> str:
    return f"for n in {numbers}; do echo '{printed(7)}' | sed s/7/$n/g; done"


def numbers_of(lines: tuple[LogLine, ...]) -> list[str]:
    return [line.message.removeprefix("line ") for line in lines]


def test_a_page_back_is_asked_for_in_reverse_and_comes_oldest_first(journalctl: Callable[[str], Path]) -> None:
    log = journalctl(pages("9 8 7 6"))
    page = JournalctlJournal().page(["a.service"], PLACE, 3, priority=4)
    assert numbers_of(page.lines) == ["6", "7", "8"]
    assert page.edge == LogPlace(1.5, "c6")
    assert "--cursor=c9 --priority=4 --reverse --lines=4 _SYSTEMD_USER_UNIT=a.service" in log.read_text()


def test_a_page_shorter_than_asked_for_is_the_last_one(journalctl: Callable[[str], Path]) -> None:
    journalctl(pages("9 8 7"))
    page = JournalctlJournal().page(["a.service"], PLACE, 3)
    assert (numbers_of(page.lines), page.edge) == (["7", "8"], None)


def test_a_page_forwards_ends_journalctl_where_it_is_full(journalctl: Callable[[str], Path]) -> None:
    log = journalctl(f"{pages('9 10 11 12 13')}; exec sleep {SLEEPS_S}")
    began = time.monotonic()
    page = JournalctlJournal().page(["a.service"], PLACE, 3, later=True)
    assert time.monotonic() - began < SLEEPS_S / 2
    assert (numbers_of(page.lines), page.edge) == (["10", "11", "12"], LogPlace(1.5, "c12"))
    assert "--reverse" not in log.read_text()
    assert "--lines" not in log.read_text()


@pytest.mark.parametrize(("later", "option"), [(False, "--until=@99.999999"), (True, "--since=@100.000000")])
def test_a_page_from_a_moment(journalctl: Callable[[str], Path], later: bool, option: str) -> None:
    log = journalctl("exit 0")
    assert JournalctlJournal().page(["a.service"], LogPlace(100.0), 3, later=later).lines == ()
    assert option in log.read_text()


def test_a_huge_page_is_cut_short_and_goes_on_later(
    journalctl: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumod_tui.adapters.journal.pages.PAGE_BYTES", 400)
    journalctl(pages("8 7 6 5 4 3 2 1"))
    page = JournalctlJournal().page(["a.service"], PLACE, 100)
    assert 1 < len(page.lines) < 6
    assert page.edge == LogPlace(1.5, page.lines[0].cursor)


def test_a_slow_journal_gives_what_it_has_and_goes_on_later(
    journalctl: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpumod_tui.adapters.journal.pages.ANSWER_S", 5.0)
    journalctl(f"{pages('8 7')}; exec sleep 60")
    page = JournalctlJournal().page(["a.service"], PLACE, 100)
    assert (numbers_of(page.lines), page.edge) == (["7", "8"], LogPlace(1.5, "c7"))
    monkeypatch.setattr("gpumod_tui.adapters.journal.pages.ANSWER_S", 0.5)
    journalctl("exec sleep 60")
    with pytest.raises(JournalUnavailable, match="no answer"):
        JournalctlJournal().page(["a.service"], PLACE, 100)


def test_a_page_that_cannot_be_read_says_why(journalctl: Callable[[str], Path]) -> None:
    journalctl("echo 'Failed to seek to cursor' >&2; exit 1")
    with pytest.raises(JournalUnavailable, match="Failed to seek"):
        JournalctlJournal().page(["a.service"], PLACE, 5)
