"""The journal pane under an operator's fingers, at the two sizes that everybody has."""

import threading
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from gpumod_tui.core.errors import FileNotSaved, JournalUnavailable
from gpumod_tui.core.models import LogLine, LogPage, LogPlace
from gpumod_tui.ui.app import DEFAULTS
from gpumod_tui.ui.common.question import QuestionScreen
from gpumod_tui.ui.journal.dialogs import UnitsScreen
from gpumod_tui.ui.journal.pane import JournalView
from gpumod_tui.ui.options import ViewOptions
from tests.ui.dashboard.test_screens import SIZES, _id, shown
from tests.ui.played import Box, until

PAGE = 100
START = 1_790_000_000.0


def text_of(number: int) -> str:
    return f"line {number} {'cudaMalloc failed' if number % 50 == 0 else 'slot release'}"


class Archive:
    """A journal of a line every ten seconds, of two units, and a disk."""

    def __init__(self, count: int = 1000) -> None:
        self.lines = [
            LogLine(
                START + 10 * n,
                ("glm-code", "vllm-embedding")[n % 2] + ".service",
                text_of(n),
                3 if n % 50 == 0 else 4 if n % 20 == 0 else 6,
                7,
                cursor=f"c{n}",
            )
            for n in range(count)
        ]
        self.files: dict[Path, str] = {}
        self.fault = ""
        self.asked: list[tuple[LogPlace, bool, int]] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def page(self, units: frozenset[str], place: LogPlace, *, later: bool, priority: int) -> LogPage:
        self.asked.append((place, later, priority))
        self.may_answer.wait(60.0)
        if self.fault:
            raise JournalUnavailable(self.fault)
        lines = [one for one in self.lines if (not units or one.unit in units) and one.priority <= priority]
        if later:
            found = [one for one in lines if one.at >= place.at and one.cursor != place.cursor]
            found, more = found[:PAGE], len(found) > PAGE
        else:
            found = [one for one in lines if one.at < place.at]
            found, more = found[-PAGE:], len(found) > PAGE
        edge = found[-1 if later else 0] if more else None
        return LogPage(tuple(found), LogPlace(edge.at, edge.cursor) if edge else None)

    def save(self, path: Path, text: str, *, replace: bool) -> bool:
        if self.fault:
            raise FileNotSaved(self.fault)
        if path in self.files and not replace:
            return False
        self.files[path] = text
        return True


class Logs:
    """An app with the last lines of such a journal on screen, the pane in focus."""

    def __init__(self, live: int = 200, options: ViewOptions = DEFAULTS, count: int = 1000) -> None:
        self.archive = Archive(count)
        self.box = Box("glm-code", options=options)
        self.box.archive = self.archive
        self.box.app = self.box.make(type(self.box.app))
        self.live = live

    async def open(self, pilot: Pilot[Any]) -> JournalView:
        self.pilot = pilot
        self.box.lines.clear()
        await shown(self.box, pilot)
        journal = self.box.app.dashboard.journal
        journal.now = self.archive.lines[-1].at + 5
        self.feed(self.archive.lines[len(self.archive.lines) - self.live :])
        journal.focus()
        await pilot.pause()
        return journal

    def feed(self, lines: list[LogLine]) -> None:
        for line in lines:
            self.box.journal.sink(line)
        self.box.app.flush()

    async def type(self, key: str, text: str, *, enter: bool = True) -> None:
        await self.pilot.press(key)
        for char in text:
            await self.pilot.press(
                {" ": "space", "/": "slash", "(": "left_parenthesis", ")": "right_parenthesis", "~": "tilde"}.get(
                    char, char
                )
            )
        if enter:
            await self.pilot.press("enter")
        await self.decided()

    async def decided(self) -> None:
        """Patterns are tried in slices of time: until all lines have been."""
        book = self.box.app.dashboard.journal.reader.book
        await until(self.pilot, lambda: not book.is_deciding)
        await self.pilot.pause()

    @property
    def toasts(self) -> str:
        return "\n".join(notice.message for notice in self.box.app._notifications)


def title(journal: JournalView) -> str:
    return journal.text().splitlines()[0]


def lines_of(journal: JournalView) -> list[str]:
    return [row for row in journal.text().splitlines()[1:] if row]


def asks(journal: JournalView) -> bool:
    return bool(journal.prompt.display)


both = pytest.mark.parametrize("size", SIZES, ids=_id)


@both
async def test_units_are_told_apart_and_levels_have_a_sign(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        await logs.type("slash", "line 9[58]0")
        assert [line.split()[1:3] for line in lines_of(journal)[-2:]] == [["E", "glm-code"], ["W", "glm-code"]]
        assert "following" in title(journal)


@both
async def test_looking_back_reads_older_pages_until_the_journal_begins(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        assert not logs.archive.asked
        for _ in range(200):
            await pilot.press("pageup")
            await until(pilot, lambda: not journal.reader.is_reading)
            if journal.reader.book.begun:
                break
        await pilot.press("home")
        await pilot.pause()
        assert "the journal begins here" in lines_of(journal)[0]
        assert "line 0 " in lines_of(journal)[1]
        assert "standing still" in title(journal)
        held = [entry.line for entry in journal.reader.book.shown]
        assert held == logs.archive.lines
        await pilot.press("end")
        await pilot.pause()
        assert "line 999" in lines_of(journal)[-1]


async def test_keys_go_on_while_a_page_is_read_and_a_page_that_cannot_be_read_says_why() -> None:
    logs = Logs(live=30)
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        logs.archive.may_answer.clear()
        await pilot.press("home")
        await pilot.pause()
        assert journal.reader.is_reading
        assert "older lines are being read" in lines_of(journal)[0]
        await pilot.press("end")
        assert journal.following
        logs.archive.fault = "No journal files were found"
        logs.archive.may_answer.set()
        await until(pilot, lambda: not journal.reader.is_reading)
        assert "Older lines cannot be read: No journal files were found" in logs.toasts
        logs.archive.fault = ""
        await pilot.press("home")
        await until(pilot, lambda: journal.reader.book.held > 30)


@both
async def test_a_filter_says_while_typed_what_is_wrong_and_the_old_one_stays(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        await logs.type("slash", "cuda")
        assert all("cudaMalloc" in line for line in lines_of(journal))
        assert "/cuda/" in title(journal)
        await logs.type("slash", "(slot", enter=False)
        assert "missing )" in journal.text()
        assert "the old one stays" in journal.text()
        await pilot.press("enter")
        await pilot.pause()
        assert asks(journal)
        await pilot.press("escape")
        await pilot.pause()
        assert not asks(journal)
        assert journal.has_focus
        assert "/cuda/" in title(journal)
        logs.feed(
            [LogLine(START + 20_000, "glm-code.service", "slot"), LogLine(START + 20_001, "glm-code.service", "CUDA")]
        )
        await logs.decided()
        assert "CUDA" in lines_of(journal)[-1]
        assert "slot" not in lines_of(journal)[-2]
        await pilot.press("backspace")
        await pilot.pause()
        assert "/cuda/" not in title(journal)


async def test_a_filter_that_lets_little_through_looks_further_back_by_itself_but_not_for_ever() -> None:
    logs = Logs(live=40)
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        await logs.type("slash", "line 0 ")
        await until(pilot, lambda: journal.reader.book.begun)
        await until(pilot, lambda: "/line 0 / 1 line " in title(journal))
        await logs.type("slash", "no such thing")
        await until(pilot, lambda: "no such line among 1000; the journal holds no older ones" in journal.text())


async def test_a_filter_does_not_read_for_ever() -> None:
    logs = Logs(live=40, count=5000)
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        await logs.type("slash", "no such thing")
        await until(pilot, lambda: not journal.reader.is_reading and len(logs.archive.asked) >= 10)
        await until(pilot, lambda: "no such line among 1040; pgup looks further back" in journal.text())
        await pilot.pause(0.1)
        assert len(logs.archive.asked) == 10
        await pilot.press("pageup")
        await until(pilot, lambda: len(logs.archive.asked) == 20)


async def test_a_page_for_other_units_is_not_taken() -> None:
    logs = Logs(live=30)
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        logs.archive.may_answer.clear()
        await pilot.press("home")
        await pilot.pause()
        journal.unit = "glm-code"
        await pilot.pause()
        logs.archive.may_answer.set()
        await until(pilot, lambda: journal.reader.book.held > 30 and not journal.reader.is_reading)
        await pilot.pause(0.1)
        numbers = [int(entry.text.split()[1]) for entry in journal.reader.book.shown]
        assert numbers == sorted(set(numbers))
        assert {number % 2 for number in numbers} == {0}


@both
async def test_a_search_marks_counts_and_goes_round_over_older_pages(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        assert not journal.check_action("match", (1,))
        await logs.type("ctrl+f", "cuda")
        assert "“cuda” 4/4 matches" in title(journal)
        assert any(line.startswith("▸") and "line 950" in line for line in lines_of(journal))
        assert not journal.following
        await pilot.press("N")
        await pilot.pause()
        assert "3/4 matches" in title(journal)
        assert any(line.startswith("▸") and "line 900" in line for line in lines_of(journal))
        if size[0] > 100:
            assert "older not loaded" in title(journal)
        await pilot.press("n", "n")
        await pilot.pause()
        assert "1/" in title(journal)
        await pilot.press("N")
        await until(pilot, lambda: any(line.startswith("▸") and "line 750" in line for line in lines_of(journal)))
        await pilot.press("backspace")
        await pilot.pause()
        assert "cuda" not in title(journal)


async def test_a_search_without_a_match_says_so() -> None:
    logs = Logs(live=20)
    async with logs.box.app.run_test(size=(80, 24)) as pilot:
        await logs.open(pilot)
        await logs.type("ctrl+f", "nowhere")
        await until(pilot, lambda: "No match among 20 lines; older ones are not loaded" in logs.toasts)
        await pilot.press("N")
        await until(pilot, lambda: "No earlier match among 1000 lines: the journal begins there" in logs.toasts)


async def test_levels_are_asked_for_one_after_the_other() -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        for words in ("info and worse", "notice and worse", "warning and worse", "err and worse", "all levels"):
            await pilot.press("L")
            await pilot.pause()
            assert words in title(journal)
            if words.startswith("err"):
                await until(pilot, lambda: len(journal.reader.book.shown) == 20)
                assert {priority for _, _, priority in logs.archive.asked} >= {3}


@both
async def test_units_are_chosen_from_a_list(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(logs.box.app.screen, UnitsScreen))
        names = logs.box.app.dashboard.log_names
        for _ in range(names.index("vllm-embedding")):
            await pilot.press("down")
        await pilot.press("space", "enter")
        await until(pilot, lambda: journal.unit == "vllm-embedding")
        assert "vllm-embedding" in title(journal)
        assert {entry.line.unit for entry in journal.reader.book.shown} == {"vllm-embedding.service"}
        await pilot.press("i")
        await pilot.press("a", "enter")
        await pilot.pause()
        assert journal.units == frozenset()
        await pilot.press("i", "space", "escape")
        await pilot.pause()
        assert journal.units == frozenset()


@both
async def test_a_moment_is_gone_to_and_the_way_back_is_read_too(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        await logs.type("t", "soon")
        assert "expected 14:30, -10m, yesterday 14:00" in journal.text()
        await pilot.press("escape")
        await logs.type("t", "-90m")
        await until(pilot, lambda: not journal.following and not journal.reader.is_reading)
        wanted = next(n for n, line in enumerate(logs.archive.lines) if line.at >= journal.now - 5400)
        assert f"line {wanted} " in lines_of(journal)[0]
        for _ in range(100):
            await pilot.press("pagedown")
            await until(pilot, lambda: not journal.reader.is_reading)
            if journal.following:
                break
        assert journal.following
        numbers = [int(entry.text.split()[1]) for entry in journal.reader.book.shown]
        assert numbers == list(range(numbers[0], 1000))
        assert wanted in numbers


@both
async def test_long_lines_take_three_rows_or_all_or_one(size: tuple[int, int]) -> None:
    logs = Logs(live=1)
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        width = size[0]
        logs.feed([LogLine(START + 20_000, "glm-code.service", "word " * (width // 5 * 5))])
        rows = [len([line for line in lines_of(journal) if "word" in line])]
        for _ in range(3):
            await pilot.press("W")
            await pilot.pause()
            rows.append(len([line for line in lines_of(journal) if "word" in line]))
        assert rows[0] == rows[3] == 3
        assert rows[1] >= 5
        assert rows[2] == 1
        assert "One row a line" in logs.toasts


async def test_a_line_taller_than_the_pane_is_read_row_by_row() -> None:
    logs = Logs(live=1)
    async with logs.box.app.run_test(size=(80, 24)) as pilot:
        journal = await logs.open(pilot)
        message = "".join(f"<{number}>" for number in range(300))
        logs.feed([LogLine(START + 20_000, "glm-code.service", message)])
        await pilot.press("W", "home")
        left = next(row for row in lines_of(journal) if "<0>" in row).index("<0>")
        seen: dict[str, None] = {}
        for _ in range(60):
            seen |= dict.fromkeys(row[left:] for row in lines_of(journal) if "<" in row)
            await pilot.press("down")
            await pilot.pause()
        assert journal.following
        assert "".join(seen) == message


async def test_standing_still_keeps_the_lines_and_counts_the_new_ones() -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=(80, 24)) as pilot:
        journal = await logs.open(pilot)
        await pilot.press("f")
        before = lines_of(journal)
        logs.feed([LogLine(START + 20_000 + n, "glm-code.service", f"new {n}") for n in range(7000)])
        await pilot.pause()
        assert lines_of(journal) == before
        assert "standing still, 5000 new" in title(journal)
        assert "2000 dropped" in title(journal)
        await pilot.press("f")
        await pilot.pause()
        assert "new 6999" in lines_of(journal)[-1]


@both
async def test_what_is_on_screen_is_copied(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        await pilot.press("y")
        await pilot.pause()
        copied = logs.box.app.clipboard.splitlines()
        assert len(copied) == len(lines_of(journal))
        assert copied[-1].endswith("vllm-embedding[7] info: line 999 slot release")
        assert f"{len(copied)} lines copied" in logs.toasts
        logs.feed([LogLine(START + 20_000 + n, "glm-code.service", "漢" * 16_000) for n in range(4)])
        await pilot.press("y")
        await pilot.pause()
        assert len(logs.box.app.clipboard.encode()) <= 48 * 1024
        assert "lines copied: the 48 KiB that a terminal takes, where" in logs.toasts


@both
async def test_all_that_passes_the_filter_is_copied_the_newest_if_it_is_too_much(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        await logs.type("slash", "slot")
        await pilot.press("Y")
        copied = logs.box.app.clipboard.splitlines()
        assert len(copied) == 196 > len(lines_of(journal))
        assert all("slot release" in line for line in copied)
        assert "196 lines copied, where" in logs.toasts
        await pilot.press("backspace")
        logs.feed([LogLine(START + 20_000 + n, "glm-code.service", f"{n} " + "x" * 1000) for n in range(100)])
        await pilot.press("Y")
        copied = logs.box.app.clipboard.splitlines()
        assert copied[-1].split()[3] == "99"
        assert f"The newest {len(copied)} of 300 lines copied: the 48 KiB that a terminal takes" in logs.toasts


@both
async def test_what_is_loaded_is_saved_and_no_file_is_lost(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        journal.unit = "glm-code"
        await pilot.pause()
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert journal.prompt.value.startswith("~/gpumod-glm-code-20")
        assert journal.prompt.value.endswith(".log")
        await logs.type("backspace", "")
        path = Path("/logs/a.log")
        journal.prompt.value = str(path)
        await pilot.press("ctrl+s")
        journal.prompt.value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: path in logs.archive.files)
        text = logs.archive.files[path]
        assert text.splitlines()[-1].endswith("glm-code[7] info: line 998 slot release")
        assert len(text.splitlines()) == len(journal.reader.book.shown)
        logs.archive.files[path] = "mine"
        await pilot.press("ctrl+s")
        journal.prompt.value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(logs.box.app.screen, QuestionScreen))
        await pilot.press("escape")
        await pilot.pause()
        assert logs.archive.files[path] == "mine"
        await pilot.press("ctrl+s")
        journal.prompt.value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(logs.box.app.screen, QuestionScreen))
        await pilot.press("y")
        await until(pilot, lambda: logs.archive.files[path] == text)
        logs.archive.fault = "/logs/a.log cannot be written: No space left on device"
        await pilot.press("ctrl+s")
        journal.prompt.value = str(path)
        await pilot.press("enter")
        await until(pilot, lambda: "No space left on device" in logs.toasts)


LONG = "slot print_timing: prompt eval time = 8.84 ms / 54 tokens, and much more of it than one row can hold"


def lines_on(journal: JournalView) -> list[str]:
    """Below the title."""
    return journal.text().splitlines()[1:]


async def test_a_narrow_screen_shows_the_beginnings_of_lines() -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=(40, 10)) as pilot:
        journal = await logs.open(pilot)
        logs.feed([LogLine(START + 10_000 + n, "vllm-embedding.service", LONG, 4) for n in range(4)])
        await pilot.pause()
        assert [row[6:31] for row in lines_on(journal)] == [" W vl…ng slot print_timin"] * 2
        assert all(row.endswith("…") for row in lines_on(journal))
        await pilot.press("W")
        assert journal.line_rows == 3, "there is no room for another way"
        await pilot.press("z")
        await until(pilot, lambda: len(lines_on(journal)) > 4)
        assert lines_on(journal)[-3][6:] == " W vl…ng slot print_timing:"
        assert "prompt eval time" in lines_on(journal)[-2]
        journal.unit = "vllm-embedding"
        await until(pilot, lambda: lines_on(journal)[-3][6:] == " W slot print_timing: prompt eval")
        assert "Journal ━ vllm-embedding ━" in journal.text(), "rows do not name it"
        await pilot.resize_terminal(60, 10)
        await until(pilot, lambda: lines_on(journal)[-3][9:].startswith(" W slot print_timing: "))


async def test_what_is_typed_reaches_no_other_key() -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=(80, 24)) as pilot:
        journal = await logs.open(pilot)
        await logs.type("slash", "1bqxsLWnNyitfzg?", enter=False)
        assert journal.prompt.value == "1bqxsLWnNyitfzg?"
        assert logs.box.app.screen is logs.box.app.dashboard
        assert logs.box.commands.asked == []
        await pilot.press("escape")
        assert journal.has_focus


async def test_the_journal_alone_has_the_whole_screen() -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=(80, 24)) as pilot:
        journal = await logs.open(pilot)
        await pilot.press("z")
        await pilot.pause()
        assert journal.size.height >= 20
        assert len(lines_of(journal)) >= 19


@pytest.mark.parametrize("size", [(40, 10), (80, 24), (120, 40), (200, 60)])
async def test_titles_fit_whatever_is_asked(size: tuple[int, int]) -> None:
    logs = Logs()
    async with logs.box.app.run_test(size=size) as pilot:
        journal = await logs.open(pilot)
        await logs.type("slash", "slot")
        await logs.type("ctrl+f", "line")
        journal.units = frozenset(["glm-code", "vllm-embedding"])
        journal.priority = 6
        journal.dropped = 1234
        journal.repaint()
        await until(pilot, lambda: not journal.reader.is_reading)
        assert len(title(journal)) <= size[0]
        assert "Journal" in title(journal)
        if size[0] >= 80:
            assert "1234 dropped" in title(journal)
        if size[0] >= 200:
            for part in ("info and worse", "/slot/", "“line”", "standing still", "glm-code, vllm-embedding"):
                assert part in title(journal)


async def test_colours_of_lines_are_painted_and_marks_lie_over_them() -> None:
    logs = Logs(live=1)
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        logs.feed(
            [LogLine(START + 20_000, "glm-code.service", "a \x1b[32mgreen\x1b[0m \x1b[41;5;8mplain\x1b[2J\x07 end")]
        )
        strip = journal._strips[2]
        styles = {segment.text: segment.style for segment in strip}
        assert "a green plain· end" in strip.text
        assert styles["green"] is not None
        assert styles["green"].color is not None
        assert styles["green"].color.number == 2
        await logs.type("ctrl+f", "plain")
        styles = {segment.text: segment.style for segment in journal._strips[2]}
        assert styles["plain"] is not None
        assert styles["plain"].bgcolor != styles["green"].bgcolor  # type: ignore[union-attr]


async def test_days_are_told_where_they_begin() -> None:
    logs = Logs(live=1)
    async with logs.box.app.run_test(size=(120, 40)) as pilot:
        journal = await logs.open(pilot)
        logs.feed([LogLine(START + 86_400 * n, "glm-code.service", f"day {n}") for n in (1, 1, 2, 5)])
        texts = [entry.text for entry in journal.reader.entries]
        assert texts == [
            "line 999 slot release", "Tue 22 Sep", "day 1", "day 1", "Wed 23 Sep", "day 2", "Sat 26 Sep", "day 5"
        ]  # fmt: skip
        assert "── Sat 26 Sep ──" in journal.text()
        numbers = [entry.number for entry in journal.reader.entries]
        assert numbers == sorted(set(numbers))
        logs.feed([LogLine(at, "glm-code.service", "odd") for at in (1e18, float("nan"), float("inf"))])
        assert "odd" in journal.text()


async def test_a_search_keeps_its_count_at_80_columns_when_another_day_is_on_screen() -> None:
    logs = Logs(live=1000)
    async with logs.box.app.run_test(size=(80, 24)) as pilot:
        journal = await logs.open(pilot)
        journal.now = START + 86_400 * 30
        await pilot.press("home")
        await pilot.pause()
        assert " at " in title(journal)
        await logs.type("ctrl+f", "cudaMalloc")
        await until(pilot, lambda: "20 matches" in title(journal))
        assert "standing still" in title(journal)
