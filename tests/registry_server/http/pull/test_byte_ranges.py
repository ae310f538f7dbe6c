from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_server.http.pull.conditional_requests import RangeNotSatisfiable, parse_range

SIZE = 10_000


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        pytest.param("bytes=500-1499", range(500, 1500), id="both-ends"),
        pytest.param("bytes=500-", range(500, SIZE), id="from"),
        pytest.param("bytes=-500", range(SIZE - 500, SIZE), id="suffix"),
        pytest.param("bytes=0-0", range(1), id="first-byte"),
        pytest.param("bytes=9999-9999", range(9999, SIZE), id="last-byte"),
        pytest.param("bytes=2000-50000", range(2000, SIZE), id="end-is-cut"),
        pytest.param("bytes=-50000", range(SIZE), id="suffix-longer-than-all"),
        pytest.param("BYTES = 1-2", range(1, 3), id="case-and-blanks"),
    ],
)
def test_one_range_is_taken(header: str, expected: range) -> None:
    assert parse_range(header, SIZE) == expected


@pytest.mark.parametrize(
    "header",
    [
        "bytes=500-0", "bytes=10000-", "bytes=10000-20000", "bytes=50000-", "bytes=-0",
        "bytes=99999999999999999999-",
    ],
)  # fmt: skip
def test_a_range_without_a_byte_of_the_content_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range(header, SIZE)
    assert refused.value.size == SIZE


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="no-header"),
        pytest.param("", id="empty"),
        pytest.param("bytes=0-1,5-6", id="several"),
        pytest.param("bytes=" + "0-1," * 10_000, id="very-many"),
        pytest.param("items=0-1", id="another-unit"),
        pytest.param("bytes=-", id="no-numbers"),
        pytest.param("bytes=a-b", id="letters"),
        pytest.param("bytes=1--2", id="two-dashes"),
        pytest.param("bytes=+1-2", id="sign"),
        pytest.param("bytes=\u0663-\u0664", id="digits-of-another-script"),
        pytest.param("bytes=0x1-0x2", id="hexadecimal"),
        pytest.param("bytes=" + "9" * 5000 + "-", id="a-number-that-python-refuses-to-read"),
    ],
)
def test_what_is_no_single_range_is_ignored(header: str | None) -> None:
    assert parse_range(header, SIZE) is None


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-5", "bytes=5-"])
def test_empty_content_has_no_ranges(header: str) -> None:
    assert parse_range(header, 0) is None


@given(st.text(alphabet="bytes=0123456789-, ", max_size=40), st.integers(1, 10**6))
def test_a_range_is_never_outside_of_the_content(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except RangeNotSatisfiable:
        return
    assert found is None or (0 <= found.start < found.stop <= size)
