from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.errors import Refusal
from profiles.values.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6h", 21600), ("5m", 300), ("1h30m", 5400), ("500ms", 0.5), ("1.5h", 5400), ("30", 30), (30, 30),
     (0.5, 0.5), ("0", 0), ("2d", 172800), ("1w", 604800), (" 5m ", 300), (".5s", 0.5), ("100us", 1e-4),
     ("100µs", 1e-4)],
)  # fmt: skip
def test_a_duration_is_so_many_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "6 h",
        "h",
        "-5m",
        -1,
        "5 minutes",
        "1h-5m",
        "nan",
        float("nan"),
        float("inf"),
        True,
        None,
        [],
        "6H",
    ],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(Refusal, match="write '6h'"):
        parse_duration(text)


def test_nanoseconds_are_not_taken_for_seconds() -> None:
    """Go programs dump `6h` as 21600000000000."""
    with pytest.raises(Refusal, match="nanoseconds"):
        parse_duration(21600000000000)


@given(milliseconds=st.integers(0, 10**11))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)
