"""Ranges as npm, Helm and Flux write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.errors import Refusal
from profiles.patterns.versions import VersionRange, parse_version


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=1.2 <2", "1.2.0 1.10.0 1.99.99", "1.1.9 2.0.0 2.0.0-rc.1 1.5.0-rc.1"),
        (">=1.2, <2", "1.2.0", "2.0.0"),
        (">=1.2<2", "1.2.0", "2.0.0"),
        (">= 1.2", "1.2.0", "1.1.0"),
        ("1.x", "1.0.0 1.99.0", "2.0.0 0.9.0 1.5.0-rc"),
        ("1.2.*", "1.2.0 1.2.9", "1.3.0"),
        ("1.2", "1.2.0 1.2.9", "1.3.0"),
        ("=1.2.3", "1.2.3", "1.2.4 1.2.2"),
        ("==1.2.3", "1.2.3", "1.2.4"),
        ("v1.2.3", "1.2.3", "1.2.4"),
        ("*", "0.0.0 99.0.0", "1.0.0-rc"),
        ("x", "1.0.0", "1.0.0-rc"),
        ("^1.2", "1.2.0 1.9.9", "1.1.9 2.0.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2"),
        ("^0.0.3", "0.0.3", "0.0.4"),
        ("^0.0", "0.0.9", "0.1.0"),
        ("^0", "0.9.9", "1.0.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
        ("~1.2", "1.2.0 1.2.9", "1.3.0"),
        ("~1", "1.0.0 1.9.0", "2.0.0"),
        ("~>1.2", "1.2.9", "1.3.0"),
        (">1.2", "1.3.0", "1.2.9"),
        (">1.2.3", "1.2.4", "1.2.3"),
        ("<=1.2", "1.2.9 0.1.0", "1.3.0"),
        ("<=1.2.3", "1.2.3", "1.2.4"),
        ("<1.2", "1.1.9", "1.2.0"),
        ("!=1.2.3", "1.2.2 1.2.4", "1.2.3"),
        ("!=1.2", "1.1.0 1.3.0", "1.2.5"),
        ("1.2 - 2.3", "1.2.0 2.3.9", "2.4.0 1.1.9"),
        ("1.2.3 - 2.3.4", "1.2.3 2.3.4", "2.3.5"),
        ("<1 || >=2", "0.9.0 2.0.0", "1.5.0"),
        ("^1.2 || ^2.3", "1.9.0 2.3.0", "2.2.0"),
        # a range that names a pre-release takes pre-releases, but none of the version that ends it
        (">=1.2-0", "1.2.0-alpha 1.2.0 1.9.0-rc.1", "1.1.0"),
        ("^1.2.0-0", "1.2.0-rc 1.9.9-rc", "2.0.0-rc"),
        ("1.2.0-rc.1", "1.2.0-rc.1", "1.2.0 1.2.0-rc.2 1.2.0-rc.1.1"),
        ("3.19-alpine", "3.19-alpine", "3.19 3.19-slim"),
        (">1.2.0-rc.1", "1.2.0-rc.2 1.2.0", "1.2.0-rc.1"),
        ("<=1.2.0-rc.1", "1.2.0-rc.1 1.1.0", "1.2.0-rc.1.1 1.2.0"),
        ("<1 || >=2-0", "2.0.0-rc", "0.9.0-rc"),  # only the alternative that names one
        (">2 <1", "", "0.5.0 1.5.0 3.0.0"),
        (">*", "", "1.0.0"),
        ("<=*", "1.0.0", ""),
    ],
)
def test_a_range_holds(text: str, inside: str, outside: str) -> None:
    versions = VersionRange.parse(text)
    for tag in inside.split():
        assert parse_version(tag) in versions, tag  # type: ignore[operator]  # the tags of the table are versions
    for tag in outside.split():
        assert parse_version(tag) not in versions, tag  # type: ignore[operator]  # the tags of the table are versions


@pytest.mark.parametrize(
    "text", ["", " ", "||", "1 ||", ">=", "latest", ">=1.2.3.4", "1.2 -", "=>1", "1..2", "a - b"]
)
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match=r"range|comparator"):
        VersionRange.parse(text)


@pytest.mark.parametrize(
    ("text", "empty"), [(">2 <1", True), ("<1 || >2", False), ("*", False), ("!=1", False)]
)
def test_an_empty_range_is_known_as_such(text: str, *, empty: bool) -> None:
    assert VersionRange.parse(text).empty is empty


_NUMBERS = st.tuples(*[st.integers(0, 3)] * 3).map(lambda numbers: ".".join(map(str, numbers)))


@given(low=_NUMBERS, high=_NUMBERS, tag=_NUMBERS)
def test_a_range_is_the_numbers_between_its_bounds(low: str, high: str, tag: str) -> None:
    def key(text: str) -> list[int]:
        return [int(number) for number in text.split(".")]

    version = parse_version(tag)
    assert version is not None
    assert (version in VersionRange.parse(f">={low} <{high}")) is (key(low) <= key(tag) < key(high))
    assert (version in VersionRange.parse(f"{low} - {high}")) is (key(low) <= key(tag) <= key(high))
    assert (version in VersionRange.parse(f"<={low} || >{low}")) is True
