"""The time axis: every mark has its sign, and words where they fit."""

import pytest

from gpumod_tui.core.status.markers import Mark, MarkKind
from gpumod_tui.ui.gpus.time_axis import axis_cells
from gpumod_tui.ui.theme.styles import BAD

NEWEST = 1000
CELL_S = 5.0


def at(cells_ago: int) -> float:
    return (NEWEST - cells_ago) * CELL_S + 1.0


def axis(count: int, *marks: Mark) -> str:
    row = axis_cells(count, NEWEST, CELL_S, marks, [])
    text = "".join(part for part, _ in row)
    assert len(text) == count
    return text


def test_words_stand_to_the_right_of_their_sign() -> None:
    text = axis(60, Mark(at(50), MarkKind.ENDED, "code"), Mark(at(30), MarkKind.REFUSED, "Nemotron"))
    assert text[9:15] == "▲code "
    assert text[29:48] == "⊘refused Nemotron  "


def test_words_at_the_right_edge_stand_to_the_left() -> None:
    assert axis(40, Mark(at(2), MarkKind.ENDED, "nemotron")).endswith(" nemotron▲  ")


@pytest.mark.parametrize("count", range(1, 60))
def test_what_does_not_fit_is_cut_or_left_out_and_the_sign_stays(count: int) -> None:
    marks = [Mark(at(place), MarkKind.ENDED, f"mode-{place}") for place in range(0, 60, 6)]
    text = axis(count, *marks)
    assert text.count("▲") == len(range(0, min(count, 60), 6))


def test_of_two_marks_in_one_cell_the_worse_one_is_seen() -> None:
    marks = [Mark(at(20), kind, kind.value) for kind in MarkKind]
    text = axis(60, *marks)
    assert "✖failed" in text
    assert not {"▲", "△", "⊘"} & set(text)
    row = axis_cells(60, NEWEST, CELL_S, marks, [])
    assert next(style for part, style in row if "✖" in part) == BAD


def test_marks_outside_the_window_are_not_drawn() -> None:
    assert "▲" not in axis(20, Mark(at(20), MarkKind.ENDED, "old"), Mark(at(-1), MarkKind.ENDED, "next"))


def test_the_clock_stands_where_marks_leave_room() -> None:
    bare = axis(60)
    assert bare.count("╵") == 2
    assert "╵01:22" in bare
    full = axis(60, *(Mark(at(place), MarkKind.BEGAN, "x") for place in range(60)))
    assert full == "△" * 60


def test_the_newest_switch_is_named_left_of_its_beginning() -> None:
    began, ended = Mark(96.0, MarkKind.BEGAN, "nemotron"), Mark(98.0, MarkKind.ENDED, "nemotron")
    row = axis_cells(40, 99, 1.0, (began, ended), [])
    assert "".join(text for text, _ in row).endswith("nemotron△ ▲ ")
