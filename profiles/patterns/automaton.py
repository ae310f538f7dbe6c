"""Matching in linear time, for expressions on which Python's backtracking could take for ever.

zot's engine (RE2) is linear for every expression. Python's `re` is not: `(a+)+b` against thirty letters `a`
takes minutes. Such expressions are recognised by their shape, generously, and simulated as an automaton:
slower than `re` on friendly input, and never worse than length times size.
"""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from profiles.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# What `re.compile` itself builds on, and what deprecated `sre_parse` was renamed to in Python 3.11.
_parser: Any = importlib.import_module("re._parser")
_ops: Any = importlib.import_module("re._constants")


def _is_word(char: str) -> bool:
    return bool(char) and (char.isalnum() or char == "_")


_MANY = 4  # that many repetitions in a row cost length**4 steps at worst, for 128 characters too many
_MAX_STATES = 20_000
_REPEATS = {_ops.MAX_REPEAT, _ops.MIN_REPEAT}
_CATEGORIES = {
    _ops.CATEGORY_DIGIT: str.isdigit,
    _ops.CATEGORY_NOT_DIGIT: lambda char: not char.isdigit(),
    _ops.CATEGORY_SPACE: str.isspace,
    _ops.CATEGORY_NOT_SPACE: lambda char: not char.isspace(),
    _ops.CATEGORY_WORD: _is_word,
    _ops.CATEGORY_NOT_WORD: lambda char: not _is_word(char),
}  # fmt: skip
_ASSERTIONS: dict[Any, Callable[[str, str], bool]] = {
    _ops.AT_BEGINNING: lambda before, _: not before,
    _ops.AT_BEGINNING_STRING: lambda before, _: not before,
    _ops.AT_END: lambda _, after: not after,
    _ops.AT_END_STRING: lambda _, after: not after,
    _ops.AT_BOUNDARY: lambda before, after: _is_word(before) != _is_word(after),
    _ops.AT_NON_BOUNDARY: lambda before, after: _is_word(before) == _is_word(after),
}


def may_backtrack(text: str) -> bool:
    """Whether backtracking over `text` may be more than a few steps for each character."""
    tree = _parser.parse(text, re.ASCII)
    return _nested(tree, inside=False) or sum(1 for _ in _repeats(tree)) >= _MANY


def _repeats(tree: Iterable[Any]) -> Iterator[Any]:
    """Every repetition of no fixed count."""
    for op, argument in tree:
        if op in _REPEATS and argument[0] != argument[1] and argument[1] > 1:
            yield argument
        for part in _parts(op, argument):
            yield from _repeats(part)


def _nested(tree: Iterable[Any], *, inside: bool) -> bool:
    for op, argument in tree:
        repeats = op in _REPEATS
        if inside and (op is _ops.BRANCH or (repeats and argument[0] != argument[1])):
            return True
        deeper = inside or (repeats and argument[1] > 1)
        if any(_nested(part, inside=deeper) for part in _parts(op, argument)):
            return True
    return False


def _parts(op: Any, argument: Any) -> list[Any]:
    """The expressions inside of one."""
    if op is _ops.BRANCH:
        return list(argument[1])
    if op is _ops.SUBPATTERN:
        return [argument[3]]
    if op in (_ops.ASSERT, _ops.ASSERT_NOT):
        return [argument[1]]
    if op is _ops.ATOMIC_GROUP:
        return [argument]
    return [argument[2]] if op in (*_REPEATS, _ops.POSSESSIVE_REPEAT) else []


@dataclass(frozen=True, slots=True)
class _State:
    """Reads one character that passes `test`, or stands under a condition, or just leads on."""

    test: Callable[[str], bool] | None = None
    condition: Callable[[str, str], bool] | None = None
    to: tuple[int, ...] = ()


class Automaton:
    """One expression. Raises `Refusal` for what no automaton can do (look-around, references)."""

    def __init__(self, text: str) -> None:
        tree = _parser.parse(text, re.ASCII)
        self._states: list[_State] = [_State()]  # 0: the end
        self._start = self._sequence(tree, 0, ignore_case=bool(tree.state.flags & re.IGNORECASE))

    def fullmatch(self, text: str) -> bool:
        """Whether the whole of `text` matches."""
        return 0 in self._run(text, anywhere=False)

    def search(self, text: str) -> bool:
        """Whether some part of `text` matches."""
        return 0 in self._run(text, anywhere=True)

    def _run(self, text: str, *, anywhere: bool) -> set[int]:
        current: set[int] = {self._start}
        before = ""
        for char in text:
            here = self._reach(current, before, char)
            if anywhere and 0 in here:
                return here
            reading = (self._states[at] for at in here)
            current = {state.to[0] for state in reading if state.test is not None and state.test(char)}
            if anywhere:
                current.add(self._start)
            before = char
        return self._reach(current, before, "")

    def _reach(self, states: set[int], before: str, after: str) -> set[int]:
        """Every state that can be reached without reading."""
        reached, left = set(states), list(states)
        while left:
            state = self._states[left.pop()]
            if state.test is None and (state.condition is None or state.condition(before, after)):
                new = set(state.to) - reached
                reached |= new
                left += new
        return reached

    def _add(self, state: _State) -> int:
        if len(self._states) >= _MAX_STATES:
            raise Refusal("the expression is too large", "write smaller counts in {…}")
        self._states.append(state)
        return len(self._states) - 1

    def _sequence(self, tree: Iterable[Any], to: int, *, ignore_case: bool) -> int:
        """The state that reads `tree` and then goes on at `to`."""
        for op, argument in reversed(list(tree)):
            to = self._one(op, argument, to, ignore_case=ignore_case)
        return to

    def _one(self, op: Any, argument: Any, to: int, *, ignore_case: bool) -> int:
        if op in _REPEATS:
            return self._repeat(argument, to, ignore_case=ignore_case)
        if op is _ops.SUBPATTERN:
            _, added, removed, body = argument
            inner = (ignore_case or bool(added & re.IGNORECASE)) and not removed & re.IGNORECASE
            return self._sequence(body, to, ignore_case=inner)
        if op is _ops.BRANCH:
            starts = tuple(self._sequence(part, to, ignore_case=ignore_case) for part in argument[1])
            return self._add(_State(to=starts))
        if op is _ops.AT and argument in _ASSERTIONS:
            return self._add(_State(condition=_ASSERTIONS[argument], to=(to,)))
        return self._add(_State(test=_test(op, argument, ignore_case=ignore_case), to=(to,)))

    def _repeat(self, argument: Any, to: int, *, ignore_case: bool) -> int:
        low, high, body = argument
        if high is _ops.MAXREPEAT:
            loop = self._add(_State())
            again = self._sequence(body, loop, ignore_case=ignore_case)
            self._states[loop] = _State(to=(again, to))
            to = loop
        for _ in range(0 if high is _ops.MAXREPEAT else high - low):
            to = self._add(_State(to=(self._sequence(body, to, ignore_case=ignore_case), to)))
        for _ in range(low):
            to = self._sequence(body, to, ignore_case=ignore_case)
        return to


def _test(op: Any, argument: Any, *, ignore_case: bool) -> Callable[[str], bool]:
    """Whether one character passes."""
    exact = _exact_test(op, argument)
    if not ignore_case:
        return exact
    negated = op is _ops.NOT_LITERAL or (op is _ops.IN and argument[0][0] is _ops.NEGATE)
    both = all if negated else any
    return lambda char: both((exact(char.lower()), exact(char.upper())))


def _exact_test(op: Any, argument: Any) -> Callable[[str], bool]:
    if op is _ops.ANY:
        return lambda _: True
    if op is _ops.LITERAL:
        return lambda char: ord(char) == argument
    if op is _ops.NOT_LITERAL:
        return lambda char: ord(char) != argument
    if op is _ops.RANGE:
        return lambda char: argument[0] <= ord(char) <= argument[1]
    if op is _ops.CATEGORY:
        category: Callable[[str], bool] = _CATEGORIES[argument]
        return category
    if op is _ops.IN:
        negated = argument[0][0] is _ops.NEGATE
        members = [_exact_test(*member) for member in argument[negated:]]
        return lambda char: any(member(char) for member in members) is not negated
    raise Refusal(
        "look-around or references to groups, together with nested repetition, can take for ever",
        "say it without them: excludeRegex takes tags out again",
    )
