"""Regular expressions: Python's where they are quick, an automaton where they could take for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from profiles.errors import Refusal
from profiles.patterns.automaton import Automaton, may_backtrack
from profiles.patterns.regex import TagPattern, to_python

_LONG = "a" * 127 + "!"


@pytest.mark.parametrize(
    "text",
    [
        "(a+)+b",
        "(a|a)*b",
        "(a|ab|b)*c",
        "(a*)*b",
        "(.*)*b",
        ".*a.*a.*a.*a.*a.*b",
        "((a?){1,9})*b",
        "(a{1,60}){1,60}b",
    ],
)
def test_no_expression_takes_for_ever(text: str) -> None:
    """Each of these would keep Python's own engine busy for longer than this suite may run."""
    pattern = TagPattern.parse(text)
    assert not pattern.matches(_LONG)
    assert not pattern.is_found_in(_LONG)


@pytest.mark.parametrize(
    "text", [r"v\d+\.\d+", "4.*", ".*-alpine", "(a|b)c", r"^\d{8}$", "x*y*z*", "(abc){2}"]
)
def test_ordinary_expressions_are_left_to_python(text: str) -> None:
    assert not may_backtrack(text)


_ATOM = st.sampled_from(
    [
        "a",
        "b",
        ".",
        "[ab]",
        "[^a]",
        r"\d",
        r"\w",
        r"\W",
        r"\b",
        r"\B",
        "^",
        "$",
        "1",
        r"\s",
        r"\D",
        r"\S",
        "[^\\d]",
        r"\Z",
        r"\A",
    ]
)
_EXPRESSION = st.recursive(
    _ATOM,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        inner.map(lambda one: f"({one})*"),
        inner.map(lambda one: f"(?:{one})+?"),
        inner.map(lambda one: f"(?:{one}){{1,3}}"),
        inner.map(lambda one: f"(?i:{one})?"),
    ),
    max_leaves=6,
)


@given(text=_EXPRESSION, tag=st.text("abAB1-. ", min_size=1, max_size=6))
def test_the_automaton_matches_what_python_matches(text: str, tag: str) -> None:
    r"""No tag is empty; there Python before 3.14 differs from all others about `\B`."""
    automaton, compiled = Automaton(text), re.compile(text, re.ASCII)
    assert automaton.fullmatch(tag) is (compiled.fullmatch(tag) is not None)
    assert automaton.search(tag) is (compiled.search(tag) is not None)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("[[:alpha:]]+", "[A-Za-z]+"),
        ("[^[:digit:]x]", "[^0-9x]"),
        (r"v1\z", r"v1\Z"),
        (r"\Qa.b\E.*", r"a\.b.*"),
        ("(?<major>1)", "(?P<major>1)"),
        ("(?<=a)b", "(?<=a)b"),
        (r"\\z", r"\\z"),
        ("[a-z]", "[a-z]"),
    ],
)
def test_the_dialect_of_zot_is_understood(theirs: str, ours: str) -> None:
    assert to_python(theirs) == ours


@pytest.mark.parametrize(
    "text",
    ["[*", "*", "(", "a{2,1}", r"\pL", "(?<=a+)b", "(" * 500 + ")" * 500, "a" * 5000, "((a+)+b)(?=c)\\1"],
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        TagPattern.parse(text)


def test_an_expression_that_grows_out_of_bounds_is_refused() -> None:
    with pytest.raises(Refusal, match="too large"):
        TagPattern.parse("((a{1,500}){1,500})*")
