"""Patterns that operators type: they answer at once, whatever they are."""

import time

import pytest

from gpumod_tui.ui.journal.search import BadPattern, Pattern, pattern_of


def good(text: str) -> Pattern:
    pattern = pattern_of(text)
    assert isinstance(pattern, Pattern)
    return pattern


def test_lower_case_finds_both_and_upper_case_itself_alone() -> None:
    assert good("error").matches("an ERROR here")
    assert not good("Error").matches("an error here")
    assert good(r"\W\Serror").matches("an -ERROR")


def test_spans_are_in_characters() -> None:
    assert list(good("ü|漢").spans("aü漢b漢")) == [(1, 2), (2, 3), (4, 5)]
    assert list(good("x*").spans("axxb")) == [(1, 3)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(", "missing )"),
        ("[a", "missing ]"),
        ("*", "no argument"),
        ("a{2,1}", "repetition"),
        ("(?<=a)b", "(?<="),
        ("x" * 201, "at most 200"),
    ],
)
def test_a_bad_pattern_says_why(text: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    pattern = pattern_of(text)
    assert isinstance(pattern, BadPattern)
    assert reason in pattern.reason
    assert capfd.readouterr().err == ""


def test_nothing_is_no_pattern() -> None:
    assert pattern_of("") is None
    assert pattern_of("\x1b[31m") is None


@pytest.mark.parametrize(
    "text",
    [r"(a|aa)+$", r"(a+)+$", r"(a*)*b", r"(.*.*.*.*){20}c", r".{1000}c", r"((.{1,30}){1,30})c", r"([ab]{0,200}a){5}c"],
)
def test_no_pattern_takes_long_for_the_longest_line(text: str) -> None:
    line = "a" * 16383 + "b!"
    began = time.process_time()
    good(text).matches(line)
    list(good(text).spans(line))
    assert time.process_time() - began < 2.0
