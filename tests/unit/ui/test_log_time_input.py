"""Moments as they are typed into the journal's time jump."""

from datetime import datetime

import pytest

from gpumod_tui.ui.journal.time_input import BadMoment, moment

NOW = datetime(2026, 11, 23, 14, 30, 15)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("14:02", datetime(2026, 11, 23, 14, 2)),
        ("9:05:30", datetime(2026, 11, 23, 9, 5, 30)),
        ("18:00", datetime(2026, 11, 22, 18, 0)),
        ("-10m", datetime(2026, 11, 23, 14, 20, 15)),
        (" - 2h ", datetime(2026, 11, 23, 12, 30, 15)),
        ("-1d", datetime(2026, 11, 22, 14, 30, 15)),
        ("yesterday", datetime(2026, 11, 22)),
        ("Yesterday 14:00", datetime(2026, 11, 22, 14, 0)),
        ("today 09:00", datetime(2026, 11, 23, 9, 0)),
        ("2026-11-20 23:59", datetime(2026, 11, 20, 23, 59)),
        ("11-20 23:59", datetime(2026, 11, 20, 23, 59)),
        ("2026-11-20", datetime(2026, 11, 20)),
    ],
)
def test_a_moment(text: str, expected: datetime) -> None:
    assert moment(text, NOW.timestamp()) == expected.timestamp()


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "12:60", "10m", "-10y", "2026-13-01", "2026-02-30 10:00", "14", "0-0-0"]
)
def test_what_is_none_says_what_is_expected(text: str) -> None:
    with pytest.raises(BadMoment, match=r"expected 14:30, -10m"):
        moment(text, NOW.timestamp())


@pytest.mark.parametrize("text", ["today 18:00", "2027-01-01"])
def test_the_future_is_not_looked_at(text: str) -> None:
    with pytest.raises(BadMoment, match="yet to come"):
        moment(text, NOW.timestamp())


def test_far_away_is_survived() -> None:
    assert moment("-999999d", NOW.timestamp()) < 0
