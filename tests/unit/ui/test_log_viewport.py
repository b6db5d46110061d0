"""Scrolling: no row is skipped, none is shown twice, and what is held fast stays."""

from hypothesis import given
from hypothesis import strategies as st

from gpumod_tui.core.models import LogLine
from gpumod_tui.ui.journal.entry import Entry
from gpumod_tui.ui.journal.viewport import LogWindow

HEIGHTS = st.lists(st.integers(1, 9), min_size=1, max_size=30)


def entries_of(heights: list[int]) -> list[Entry]:
    return [Entry(10 * n, LogLine(float(n), "a.service", str(rows)), str(rows)) for n, rows in enumerate(heights)]


def rows_of(entry: Entry) -> int:
    return int(entry.text)


def all_rows(entries: list[Entry]) -> list[tuple[int, int]]:
    return [(index, row) for index, entry in enumerate(entries) for row in range(rows_of(entry))]


@given(HEIGHTS, st.integers(1, 20), st.lists(st.integers(-30, 30), max_size=10))
def test_what_is_visible_is_a_piece_of_all_rows_as_far_as_it_was_scrolled(
    heights: list[int], room: int, moves: list[int]
) -> None:
    entries, window = entries_of(heights), LogWindow()
    rows = all_rows(entries)
    last = top = max(0, len(rows) - room)
    for by in moves:
        missing = window.scroll(by, entries, room, rows_of)
        assert missing == max(0, -(top + by)) if by < 0 else missing == 0
        top = min(last, max(0, top + by))
        assert window.visible(entries, room, rows_of) == rows[top : top + room]
        assert window.follows == (top == last)


@given(HEIGHTS, st.integers(1, 20), st.integers(1, 40), HEIGHTS)
def test_lines_that_come_before_and_after_do_not_move_what_is_on_screen(
    heights: list[int], room: int, back: int, before: list[int]
) -> None:
    entries, window = entries_of(heights), LogWindow()
    window.scroll(-back, entries, room, rows_of)
    window.stop(entries, room, rows_of)
    seen = [(entries[index], row) for index, row in window.visible(entries, room, rows_of)]
    older = [Entry(-10 * n, LogLine(0.0, "a.service", ""), str(rows)) for n, rows in enumerate(before, 1)][::-1]
    newer = [Entry(10**6 + n, LogLine(9.0, "a.service", ""), "1") for n in range(room)]
    grown = [*older, *entries, *newer]
    now = [(grown[index], row) for index, row in window.visible(grown, room, rows_of)]
    assert now[: len(seen)] == seen


def test_nothing_is_survived() -> None:
    window = LogWindow()
    assert window.visible([], 5, rows_of) == []
    assert window.scroll(-3, [], 5, rows_of) == 3
    assert window.scroll(3, [], 5, rows_of) == 0
    window.stop([], 5, rows_of)
    entries = entries_of([1, 1, 1])
    assert window.visible(entries, 2, rows_of) == [(0, 0), (1, 0)]
