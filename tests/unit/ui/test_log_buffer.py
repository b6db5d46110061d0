"""The lines that the journal pane holds: bounded, in order, nothing twice, whatever comes and is asked for."""

from hypothesis import given
from hypothesis import strategies as st

from gpumod_tui.core.models import LogLine, LogPage, LogPlace
from gpumod_tui.ui.journal import buffer as logbook
from gpumod_tui.ui.journal.buffer import GAP, LogBook
from gpumod_tui.ui.journal.entry import Batch, Choice
from gpumod_tui.ui.journal.follow import LineBuffer
from gpumod_tui.ui.journal.search import Pattern, pattern_of

PAGE = 10


def line(number: int, unit: str = "a.service", priority: int = 6) -> LogLine:
    return LogLine(float(number), unit, f"line {number}", priority, cursor=f"c{number}")


class Journal:
    """A journal of numbered lines: even ones of a, odd ones of b, every tenth an error."""

    def __init__(self, count: int) -> None:
        self.lines = [line(n, "ab"[n % 2] + ".service", 3 if n % 10 == 0 else 6) for n in range(count)]

    def page(self, choice: Choice, place: LogPlace, *, later: bool = False) -> LogPage:
        lines = [one for one in self.lines if choice.takes(one)]
        if later:
            found = [one for one in lines if one.at > place.at or (not place.cursor and one.at == place.at)]
            return LogPage(tuple(found[:PAGE]), _place(found[PAGE - 1]) if len(found) > PAGE else None)
        found = [one for one in lines if one.at < place.at]
        return LogPage(tuple(found[-PAGE:]), _place(found[-PAGE]) if len(found) > PAGE else None)


def _place(one: LogLine) -> LogPlace:
    return LogPlace(one.at, one.cursor)


def small(monkeypatch_lines: int = 20, older: int = 50) -> LogBook:
    book = LogBook()
    book._live.most_lines, book._older.most_lines = monkeypatch_lines, older
    return book


def numbers(book: LogBook) -> list[int]:
    return [int(entry.line.at) for entry in book.shown if not entry.is_mark]


def pattern(text: str) -> Pattern:
    found = pattern_of(text)
    assert isinstance(found, Pattern)
    return found


def decided(book: LogBook) -> LogBook:
    book.decide(lambda: True)
    return book


def test_the_newest_lines_are_held_and_the_oldest_go_when_nobody_looks_back() -> None:
    book = small()
    book.take(map(line, range(200)), looking_back=False)
    assert numbers(book) == list(range(130, 200))
    assert book.held == 70


def test_who_looks_back_keeps_what_he_sees_and_a_gap_is_told() -> None:
    book = small()
    book.take(map(line, range(60)), looking_back=True)
    book.take(map(line, range(60, 200)), looking_back=True)
    assert numbers(book) == [*range(50), *range(180, 200)]
    assert [entry.text for entry in book.shown if entry.is_mark] == [GAP]
    assert book.place_after == LogPlace(49.0, "c49")
    assert [entry.number for entry in book.shown] == sorted(entry.number for entry in book.shown)
    book.close_gap()
    assert numbers(book) == list(range(180, 200))


def test_lines_that_never_came_are_read_from_the_journal() -> None:
    journal, book = Journal(300), small(older=500)
    book.take(journal.lines[:15], looking_back=False)
    book.take(journal.lines[280:], looking_back=False, after_loss=True)
    assert numbers(book) == list(range(280, 300))
    while not book.begun:
        book.add_before(journal.page(book.choice, book.place_before(1e9)))
    assert numbers(book) == list(range(300))


def test_who_looks_back_while_lines_are_lost_reads_them_on_the_way_down() -> None:
    journal, book = Journal(300), small(older=500)
    book.take(journal.lines[:15], looking_back=True)
    book.take(journal.lines[100:110], looking_back=True, after_loss=True)
    book.take(journal.lines[280:], looking_back=True, after_loss=True)
    assert numbers(book) == [*range(15), *range(280, 300)]
    assert book.gap
    while (place := book.place_after) is not None:
        book.add_after(journal.page(book.choice, place, later=True))
    assert numbers(book) == list(range(300))


def test_long_lines_are_bounded_by_their_characters() -> None:
    book = LogBook()
    book.take((LogLine(float(n), "a.service", "x" * 16_384) for n in range(2000)), looking_back=False)
    assert book.chars <= logbook.LIVE_CHARS + logbook.OLDER_CHARS
    assert numbers(book)[-1] == 1999


def test_pages_back_go_to_the_beginning() -> None:
    journal, book = Journal(100), small(older=500)
    book.take(journal.lines[70:], looking_back=False)
    pages = 0
    while not book.begun:
        book.add_before(journal.page(book.choice, book.place_before(1e9)))
        pages += 1
        assert pages < 20
    assert numbers(book) == list(range(100))


def test_a_page_that_does_not_fit_pushes_out_the_newest_of_the_older_and_they_are_read_again() -> None:
    journal, book = Journal(200), small()
    book.take(journal.lines[180:], looking_back=False)
    for _ in range(8):
        book.add_before(journal.page(book.choice, book.place_before(1e9)))
    assert numbers(book) == [*range(100, 150), *range(180, 200)]
    while book.gap:
        place = book.place_after
        assert place is not None
        book.add_after(journal.page(book.choice, place, later=True))
    assert numbers(book) == list(range(130, 200))
    assert not book.begun


def test_another_moment_is_joined_to_the_live_end_by_pages_forth() -> None:
    journal, book = Journal(200), small(older=500)
    book.take(journal.lines[180:], looking_back=False)
    here = LogPlace(42.0)
    assert not book.holds(42.0)
    book.begin_at(journal.page(book.choice, here), journal.page(book.choice, here, later=True))
    assert numbers(book)[:20] == list(range(32, 52))
    assert book.shown[book.index_at(42.0)].line.at == 42.0
    assert book.holds(42.0)
    assert not book.holds(100.0)
    assert book.holds(190.0)
    for _ in range(20):
        if (place := book.place_after) is not None:
            book.add_after(journal.page(book.choice, place, later=True))
    assert numbers(book) == list(range(32, 200))
    assert [entry.number for entry in book.shown] == sorted(entry.number for entry in book.shown)


def test_other_units_and_levels_are_read_anew() -> None:
    journal, book = Journal(100), small()
    book.take(journal.lines[80:], looking_back=False)
    book.add_before(journal.page(book.choice, book.place_before(1e9)))
    book.choose(Choice(frozenset(["b.service"])))
    assert numbers(book) == list(range(81, 100, 2))
    book.add_before(journal.page(book.choice, book.place_before(1e9)))
    assert numbers(book) == list(range(61, 100, 2))
    book.choose(Choice(priority=3))
    assert numbers(book) == [80, 90]
    book.add_before(journal.page(book.choice, book.place_before(1e9)))
    assert numbers(book) == list(range(0, 100, 10))
    assert book.begun


def test_a_filter_counts_for_old_and_new_lines_and_loses_none() -> None:
    book = small()
    book.take(map(line, range(15)), looking_back=False)
    book.choose(Choice(pattern=pattern("[37]$")))
    assert numbers(decided(book)) == [3, 7, 13]
    book.take(map(line, range(15, 20)), looking_back=False)
    assert numbers(decided(book)) == [3, 7, 13, 17]
    book.look_for(pattern("1"))
    assert [int(entry.line.at) for entry in decided(book).matches] == [13, 17]
    book.choose(Choice())
    assert len(numbers(decided(book))) == 20
    assert len(book.matches) == 11


def test_patterns_are_tried_in_slices_the_newest_line_first() -> None:
    book = small()
    book.take(map(line, range(20)), looking_back=False)
    book.choose(Choice(pattern=pattern("line")))
    left = iter([True, True, True])
    book.decide(lambda: next(left, False))
    assert book.is_deciding
    assert numbers(book) == [17, 18, 19]
    assert len(numbers(decided(book))) == 20


def test_what_waits_for_a_pattern_is_bounded_too() -> None:
    book = LogBook()
    book.choose(Choice(pattern=pattern("x")))
    for start in range(0, 40_000, 4000):
        book.take(map(line, range(start, start + 4000)), looking_back=False)
    assert len(book._undecided) <= logbook.LIVE_LINES + logbook.OLDER_LINES


ACTS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["take", "lose"]), st.integers(1, 60)),
        st.tuples(st.sampled_from(["back", "forth", "close"]), st.just(0)),
        st.tuples(st.just("jump"), st.integers(0, 400)),
        st.tuples(st.just("choose"), st.integers(0, 3)),
    ),
    max_size=30,
)


@given(ACTS, st.booleans())
def test_whatever_is_done_lines_stand_in_order_once(acts: list[tuple[str, int]], looking_back: bool) -> None:
    journal, book, taken = Journal(600), small(), 300
    book.take(journal.lines[:taken], looking_back=looking_back)
    choices = [Choice(), Choice(frozenset(["a.service"])), Choice(priority=3), Choice(pattern=pattern("5"))]
    for act, value in acts:
        if act == "take":
            book.take(journal.lines[taken : taken + value], looking_back=looking_back)
            taken = min(600, taken + value)
        elif act == "lose":
            book.take(journal.lines[taken + value : taken + value + 10], looking_back=looking_back, after_loss=True)
            taken = min(600, taken + value + 10)
        elif act == "back" and not book.begun:
            book.add_before(journal.page(book.choice, book.place_before(1e9)))
        elif act == "forth" and (place := book.place_after) is not None:
            past = Journal(taken)
            book.add_after(past.page(book.choice, place, later=True))
        elif act == "close":
            book.close_gap()
        elif act == "choose":
            book.choose(choices[value])
        elif act == "jump" and not book.holds(float(value)):
            past, place = Journal(taken), LogPlace(float(min(value, taken - 1)))
            book.begin_at(past.page(book.choice, place), past.page(book.choice, place, later=True))
        shown = numbers(decided(book))
        assert shown == sorted(set(shown))
        assert all(book.choice.takes(entry.line) for entry in book.shown if not entry.is_mark)
        marks = [entry.number for entry in book.shown]
        assert marks == sorted(set(marks))
        assert book.held <= 70
        if not book.gap and book.choice == Choice():
            assert shown == list(range(shown[0] if shown else taken, taken))


def test_the_queue_before_the_screen_is_bounded_in_lines_and_characters() -> None:
    queue = LineBuffer(capacity=10, chars=1000)
    for number in range(15):
        queue.put(line(number))
    batch = queue.drain()
    assert ([int(one.at) for one in batch.lines], batch.lost) == (list(range(5, 15)), 5)
    for _ in range(5):
        queue.put(LogLine(0.0, "a.service", "x" * 400))
    batch = queue.drain()
    assert (len(batch.lines), batch.lost) == (2, 3)
    assert queue.drain() == Batch((), 0)


def test_a_queue_that_begins_again_says_so_with_the_first_lines_of_the_new_begin() -> None:
    queue = LineBuffer()
    queue.put(line(1))
    queue.begin_again()
    assert queue.drain() == Batch((), 0)
    queue.put(line(2))
    assert queue.drain() == Batch((line(2),), 0, is_anew=True)
    queue.put(line(3))
    assert queue.drain() == Batch((line(3),), 0)
