"""Patterns as doublestar v4 reads them."""

from __future__ import annotations

import pytest

from profiles.errors import Refusal
from profiles.patterns.globs import Glob, sample_names


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("**", "a", True),
        ("**", "a/b", True),
        ("*", "a/b", False),
        ("a/**", "a", True),  # no segment at all is a number of segments
        ("a/**", "a/b/c", True),
        ("a/**", "ab", False),
        ("a/**/c", "a/c", True),
        ("a/**/c", "a/b/b/c", True),
        ("a/**/b/**/c", "a/b/x/b/c", True),
        ("a/**/**/c", "a/x/c", True),
        ("a**", "a/b", False),  # glued to text, two stars are one
        ("a**", "abc", True),
        ("a**/c", "a/b/c", False),
        ("**/x", "x", True),
        ("**/x", "a/b/x", True),
        ("**/x", "ax", False),
        ("[^a]", "b", True),
        ("[!a]", "b", True),
        ("[!a]", "a", False),
        ("a[^b]c", "a/c", False),  # a class never takes the slash
        ("[a-]", "-", True),
        ("[a-c]x", "bx", True),
        (r"[\]]", "]", True),
        ("?", "a", True),
        ("a?c", "a/c", False),
        ("A", "a", False),
        ("{a,b/c}/d", "b/c/d", True),
        ("{a,{b,c}}", "c", True),
        ("{a,}b", "b", True),
        ("x{**,a}", "xa", True),
        (r"\*", "*", True),
        (r"\{a", "{a", True),
        ("a.c", "abc", False),  # a dot is a dot
        ("*a*a*a", "xaxaxa", True),
        ("*-*", "a-b-c", True),
        ("repo*", "repo/x", False),
        ("", "a", False),
    ],
)
def test_a_pattern_takes(pattern: str, name: str, *, wanted: bool) -> None:
    assert Glob.parse(pattern).matches(name) is wanted


@pytest.mark.parametrize("pattern", ["[repo%^&", "a{b", "a[b", "\\", "a\\", "[]a]", "a}b", "[", "[^"])
def test_a_broken_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Refusal):
        Glob.parse(pattern)


@pytest.mark.parametrize("pattern", ["a//b", "", "[a-]", "{a,{b,c}}", "repo**"])
def test_an_odd_pattern_is_none_the_less_one(pattern: str) -> None:
    assert str(Glob.parse(pattern)) == pattern


def test_choices_do_not_multiply_without_end() -> None:
    with pytest.raises(Refusal, match="1000 choices"):
        Glob.parse("{a,b}" * 12)


def test_many_stars_cost_no_more_than_their_number() -> None:
    """Backtracking over twenty stars would not end in this life."""
    assert not Glob.parse("*a" * 20 + "b").matches("a" * 250)
    assert not Glob.parse("**/a/" * 20 + "b").matches("/".join("a" * 100))


@pytest.mark.parametrize(
    ("pattern", "base", "static"),
    [
        ("a/b", "a/b", True),
        ("a/b*", "a", False),
        ("a*", "", False),
        ("a/{b,c}/d", "a", False),
        ("**", "", False),
        ("a/b/**", "a/b", False),
    ],
)
def test_the_base_is_what_stands_before_the_first_meta_segment(
    pattern: str, base: str, *, static: bool
) -> None:
    assert (Glob.parse(pattern).base, Glob.parse(pattern).static) == (base, static)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a/**", ("a/x",)),
        ("a**b", ("axb",)),
        ("{a,b}/[c-d]?", ("a/cx", "b/cx")),
        ("Upper", ()),
        (".*", ()),
        ("a//b", ()),
        (r"a\b", ("ab",)),
    ],
)
def test_samples_are_names_that_the_pattern_takes(pattern: str, names: tuple[str, ...]) -> None:
    assert sample_names(Glob.parse(pattern), "x") == names
