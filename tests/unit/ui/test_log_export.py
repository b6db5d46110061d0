"""Log lines as text for a clipboard or a file."""

from typing import Any

import pytest

from gpumod_tui.core.models import LogLine
from gpumod_tui.ui.journal.entry import Entry
from gpumod_tui.ui.journal.export import as_text, default_path, newest_that_fit


def entry(text: str, at: float = 1_790_000_000.25, **fields: Any) -> Entry:
    return Entry(0, LogLine(at, "a.service", text, **fields), text)


@pytest.mark.parametrize(
    ("fields", "head"),
    [({}, "a info"), ({"priority": 3, "pid": 12}, "a[12] err"), ({"priority": 0}, "a emerg"), ({"priority": 9}, "a 9")],
)
def test_a_line_tells_when_who_and_how_bad(fields: dict[str, int], head: str) -> None:
    text = as_text([entry("hi", **fields)])
    assert text.endswith(f" {head}: hi\n")
    assert text.startswith("2026-09-2")
    assert ".250" in text


@pytest.mark.parametrize("at", [1e300, float("inf"), float("nan")])
def test_odd_times_are_survived(at: float) -> None:
    assert as_text([entry("hi", at)]) == "– a info: hi\n"


def test_the_newest_lines_that_fit_are_taken_whole_and_in_order() -> None:
    entries = [entry(f"line {number}") for number in range(10)]
    size = len(as_text(entries[:1]).encode())
    copied = newest_that_fit(entries, 3 * size + 5)
    assert copied.text == as_text(entries[7:])
    assert copied.words.startswith("The newest 3 of 10 lines copied: the 0 KiB")
    assert newest_that_fit(entries, 100 * size).words == "10 lines copied"
    assert newest_that_fit([], 100).text == ""


def test_a_line_that_is_too_long_alone_is_cut() -> None:
    copied = newest_that_fit([entry("short"), entry("漢" * 1000)], 1024)
    text = copied.text
    assert copied.words == "The newest of 2 lines copied, cut to the 1 KiB that a terminal takes"
    assert 1020 <= len(text.encode()) <= 1024
    assert text.endswith("漢")


def test_a_file_is_named_by_unit_and_time() -> None:
    assert default_path(["glm"], 1_790_000_000.0).startswith("~/gpumod-glm-2026")
    assert default_path(["a", "b"], 1_790_000_000.0).startswith("~/gpumod-units-2026")
    assert default_path([], 1_790_000_000.0).startswith("~/gpumod-all-2026")
