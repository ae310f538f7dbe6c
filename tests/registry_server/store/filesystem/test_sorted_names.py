"""A page of names is the same as that of a sorted list, in a fraction of the memory."""

from __future__ import annotations

from bisect import bisect_right

import pytest

from registry_server.store.filesystem.sorted_names import SortedNames

NAMES = ["latest", "1.10.0", "1.9.0", "V1", "_under", "v1.2.3", "v1.2", "v1.2-a"]


@pytest.mark.parametrize("limit", [0, 1, 3, 8, 9, None])
@pytest.mark.parametrize(
    "last",
    [
        pytest.param("", id="from the beginning"),
        pytest.param("1.10.0", id="after the first"),
        pytest.param("V2", id="after one that is not there"),
        pytest.param("v1.2", id="after one that others begin with"),
        pytest.param("v1.2.3", id="after the last"),
        pytest.param("\u00e9", id="not ASCII"),
        pytest.param("\ud800", id="half a surrogate pair, which a query may have"),
    ],
)
def test_a_page_is_that_of_a_sorted_list(last: str, limit: int | None) -> None:
    ordered = sorted(NAMES)
    rest = ordered[bisect_right(ordered, last) :]
    assert SortedNames.of(NAMES).page(last=last, limit=limit) == rest[:limit]


def test_of_nothing_there_is_no_page() -> None:
    assert SortedNames.of([]).page() == []
    assert len(SortedNames.of([])) == 0


def test_a_name_takes_its_length_and_five_bytes() -> None:
    names = SortedNames.of(f"v{number:07}" for number in range(1000))
    assert len(names) == 1000
    assert names.memory <= 1000 * (8 + 5) + 8


def test_names_beyond_ascii_are_in_the_order_of_their_code_points() -> None:
    assert SortedNames.of(["\u00e9", "z", "\U0001f600", "\uffff"]).page() == [
        "z",
        "\u00e9",
        "\uffff",
        "\U0001f600",
    ]
