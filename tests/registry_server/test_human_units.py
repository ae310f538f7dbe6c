"""Sizes and durations as people read them."""

from __future__ import annotations

import pytest

from registry_server.human_units import human_bytes, human_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        pytest.param(1, "1 byte", id="one is singular"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        pytest.param(999_999, "1.0 MB", id="rounded up into the next unit"),
        (4_442_000_000, "4.4 GB"),
        pytest.param(2.5e15, "2.5 PB", id="beyond terabytes"),
    ],
)
def test_bytes_are_counted_in_decimal_units(count: float, text: str) -> None:
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (12, "12 s"),
        (200, "3 min 20 s"),
        pytest.param(120, "2 min", id="no part that is zero"),
        (7_500, "2 h 5 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_have_the_two_largest_units(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text
