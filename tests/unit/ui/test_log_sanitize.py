"""No log line can do anything to the terminal, whatever is in it."""

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import Color

from gpumod_tui.ui.common.rows import chop
from gpumod_tui.ui.journal.sanitize import coloured, harmless
from gpumod_tui.ui.theme.styles import DIM

BAD_KINDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
ESCAPES = st.sampled_from(
    ["\x1b[31m", "\x1b[", "\x1b]52;c;cm0=\x07", "\x1b]0;t", "\x9b2J", "\x9d0;x\x9c", "\x1bP", "\x1b", "\x1b[38;5;9m"]
)
LINES = st.lists(st.one_of(ESCAPES, st.text(st.characters(codec=None), max_size=6)), max_size=20).map("".join)


@given(LINES)
@example("\x1b[31\x1b[32m")
@example("a\x1b]8;;http://x\x1b\\b\x1b]8;;\x1b\\c")
@example("\ud800\x1b(0\u202e\U000e0041")
def test_nothing_a_terminal_obeys_is_left(line: str) -> None:
    text, spans = coloured(line)
    assert text == harmless(line)
    assert not [char for char in text if unicodedata.category(char) in BAD_KINDS]
    text.encode("utf-8")
    assert harmless(text) == text
    for start, end, style in spans:
        assert 0 <= start < end <= len(text)
        assert not any((style.reverse, style.blink, style.conceal, style.bgcolor))


def test_every_character_is_looked_at() -> None:
    everything = "".join(map(chr, range(0x110000)))
    left = {
        unicodedata.category(char)
        for piece in range(0, 0x110000, 4096)
        for char in harmless(everything[piece : piece + 4096])
    }
    assert not left & BAD_KINDS


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("\x1b[31mred\x1b[0m plain", "red plain"),
        ("before\x1b]0;title\x1b\\after", "beforeafter"),
        ("soft\xadhyphen", "soft·hyphen"),
        ("e\u0301 ok", "e\u0301 ok"),
        ("e" + "\u0301" * 40, "e" + "\u0301" * 3),
        ("heart \u2764\ufe0f", "heart \u2764"),
        ("漢字 naïve", "漢字 naïve"),
        ("100 %|████| 5/5\r", "100 %|████| 5/5"),
        ("a\x1b[31", "a31"),
    ],
)
def test_what_is_shown_of_a_line(line: str, text: str) -> None:
    assert coloured(line)[0] == text


@pytest.mark.parametrize(
    ("codes", "colour"),
    [
        ("31", Color.from_ansi(1)),
        ("1;92", Color.from_ansi(10)),
        ("38;5;208", Color.from_rgb(255, 135, 0)),
        ("38;2;200;100;50", Color.from_rgb(200, 100, 50)),
        ("38:2::200:100:50", Color.from_rgb(200, 100, 50)),
        ("38:2:200:100:50", Color.from_rgb(200, 100, 50)),
        ("48;5;1;31", Color.from_ansi(1)),
        ("30", DIM.color),
    ],
)
def test_colours_are_kept(codes: str, colour: Color) -> None:
    (span,) = coloured(f"\x1b[{codes}mword\x1b[0m")[1]
    assert span[:2] == (0, 4)
    assert span[2].color == colour


@pytest.mark.parametrize(
    "codes", ["38;2;1;2;3", "38;5;16", "97", "41", "7", "8", "5", "38;2;255;255;255", "38", "99999"]
)
def test_colours_that_could_hide_the_text_are_not(codes: str) -> None:
    text, spans = coloured(f"\x1b[{codes}mword")
    assert text == "word"
    assert spans == ()


def test_attributes_begin_and_end_where_they_were_meant_to() -> None:
    text, spans = coloured("a\x1b[1mb\x1b[31mc\x1b[22md\x1b[me")
    assert text == "abcde"
    assert [(start, end, style.bold) for start, end, style in spans] == [(1, 2, True), (2, 3, True), (3, 4, None)]
    assert spans[-1][2].color == Color.from_ansi(1)


def test_a_line_of_many_colours_keeps_the_first() -> None:
    text, spans = coloured("".join(f"\x1b[3{number % 6 + 1}mx" for number in range(500)))
    assert text == "x" * 500
    assert len(spans) == 32


@pytest.mark.parametrize("piece", ["\x1b]", "\x1b[", "\x1b[1;", "\x9d", "\x1bP\n", "\u0301", "\x1b[31m"])
def test_the_longest_line_takes_no_time(piece: str) -> None:
    line = piece * (16384 // len(piece))
    began = time.process_time()
    coloured(line)
    assert time.process_time() - began < 0.5


@given(LINES, st.integers(1, 40), st.integers(1, 6))
def test_pieces_of_a_line_are_the_line(line: str, width: int, most: int) -> None:
    text = harmless(line)
    pieces = chop(text, width, most)
    assert "".join(pieces) == text[: len("".join(pieces))]
    assert 1 <= len(pieces) <= most
    if len(pieces) < most:
        assert "".join(pieces) == text
    for piece in pieces[:-1]:
        assert cell_len(piece) <= max(2, width)
        assert piece


def test_lines_are_cut_behind_spaces_where_there_are_some() -> None:
    assert chop("prompt eval time = 8.84 ms", 12, 5) == ["prompt eval ", "time = 8.84 ", "ms"]
    assert chop("漢字漢字 漢字漢字", 11, 5) == ["漢字漢字 ", "漢字漢字"]
    assert chop("x" * 25, 10, 5) == ["x" * 10, "x" * 10, "x" * 5]
    assert chop("", 10, 3) == [""]
