"""JSON with places, and with errors that say what is missing.

The usual slips (a comma or a bracket too few or too many, the outer braces left out) are reported and then
read over, so that one look at the file is enough to mend them all.
"""

from __future__ import annotations

import bisect
import json
import re
from json.decoder import JSONDecoder
from typing import Any

from profiles.loading.document import MAX_DEPTH, Document, Member, Node, Position, SyntaxProblem, duplicate

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", re.ASCII)
_WORD = re.compile(r"[^\s,:{}\[\]\"]+")
_WORDS = {"true": True, "false": False, "null": None}
# RFC 8259 section 8.2: such a text is legal, and no UTF-8 can hold it.
_LONE_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DECODER = JSONDecoder()
_CLOSERS = {"{": "}", "[": "]"}


class _Unrecoverable(Exception):
    """Reading on would only produce nonsense; the problem is recorded already."""


def read_json(text: str) -> Document:
    """Never raises: what is wrong is in `problems`."""
    reader = _Reader(text)
    try:
        root = reader.document()
    except _Unrecoverable:
        root = None
    return Document(root, tuple(reader.problems))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.problems: list[SyntaxProblem] = []
        self._starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._open: list[tuple[str, Position]] = []

    def document(self) -> Node:
        self._skip()
        node = self._without_braces() if self._peek() == '"' else self._value()
        self._skip()
        if self.at < len(self.text):
            raise self._unrecoverable(
                f"{self._shown()} stands after the end", "delete it, or close what is open before it later"
            )
        return node

    def _without_braces(self) -> Node:
        """A piece of a configuration, cut out of a page: members without the object around them."""
        place = self._place()
        self._problem(
            place,
            "the profile does not begin with '{'",
            "put '{' before the first line and '}' after the last",
        )
        return self._members(place, "")

    def _value(self) -> Node:
        place, char = self._place(), self._peek()
        if char == "{":
            return self._nested(char, place)
        if char == "[":
            return self._nested(char, place)
        if char == '"':
            return Node(place, self._string())
        return Node(place, self._plain(place))

    def _nested(self, char: str, place: Position) -> Node:
        if len(self._open) >= MAX_DEPTH:
            raise self._unrecoverable(
                f"more than {MAX_DEPTH} levels, one inside the other", "a profile has some eight"
            )
        self._open.append((_CLOSERS[char], place))
        self.at += 1
        node = self._members(place, "}") if char == "{" else self._items(place)
        self._open.pop()
        return node

    def _members(self, place: Position, closer: str) -> Node:
        members: dict[str, Member] = {}
        while not self._closed(closer, place, first=not members):
            member = self._member()
            if member.key in members:
                self.problems.append(duplicate(member.key, members[member.key].place, member.place))
            members[member.key] = member
        return Node(place, members=tuple(members.values()))

    def _member(self) -> Member:
        place = self._place()
        if self._peek() != '"':
            raise self._unrecoverable(
                f"{self._shown()} stands where a key is expected", 'write "key": value, with double quotes'
            )
        key = self._string()
        self._skip()
        if self._peek() != ":":
            raise self._unrecoverable(
                f"{self._shown()} stands where the ':' after {key!r} is expected", f'write "{key}": value'
            )
        self.at += 1
        self._skip()
        return Member(key, place, self._value())

    def _items(self, place: Position) -> Node:
        items: list[Node] = []
        while not self._closed("]", place, first=not items):
            items.append(self._value())
        return Node(place, items=tuple(items))

    def _closed(self, closer: str, opened: Position, *, first: bool) -> bool:
        """Step over the comma or the closing bracket that stands here; whether it was the closing one."""
        before = self.at
        self._skip()
        char = self._peek()
        if char == closer:
            self.at += bool(closer)
            return True
        if char in ("", "}", "]"):
            return self._closed_wrongly(closer, opened, char)
        if first:
            if char == ",":
                raise self._unrecoverable("',' stands where the first value is expected", "delete the comma")
            return False
        return self._after_value(before, char, closer)

    def _after_value(self, before: int, char: str, closer: str) -> bool:
        if char != ",":
            self._missing_comma(before)
            return False
        comma = self._place()
        self.at += 1
        self._skip()
        if self._peek() in ("}", "]") or (not closer and not self._peek()):
            self._problem(comma, "',' stands before the end of a list or object", "delete the comma")
            return self._closed(closer, comma, first=True)
        return False

    def _missing_comma(self, before: int) -> None:
        if self._peek() not in '"{[-0123456789tfn':
            raise self._unrecoverable(
                f"{self._shown()} stands where ',' or a closing bracket is expected", ""
            )
        end = self._place(before)
        self._problem(
            self._place(),
            f"a comma is missing before {self._shown()}",
            f"write ',' after what ends on line {end.line}, column {max(end.column - 1, 1)}",
        )

    def _closed_wrongly(self, closer: str, opened: Position, char: str) -> bool:
        """Some other bracket, or the end of the text. What is open further out may be meant by it."""
        place = self._place()
        what = {"]": "the list", "}": "the object"}.get(closer, "the profile")
        found = f"{char!r}" if char else "the end of the file"
        outer = [bracket for bracket, _ in self._open[:-1]] if closer else []
        if closer and (not char or char in outer):
            # At the end of the text everything is still open: the innermost says enough.
            if char or not self.problems or self.problems[-1].place != place:
                self._problem(
                    place,
                    f"{closer!r} is missing: {what} that begins on line {opened.line}, column "
                    f"{opened.column} is still open at {found}",
                    f"write {closer!r} before it",
                )
            return True
        expected = f"{closer!r} is expected, for {what} that begins on line {opened.line}"
        raise self._unrecoverable(
            f"{found} stands where {expected}" if closer else f"{found} closes nothing that is open",
            f"write {closer!r}" if closer else "delete it",
        )

    def _string(self) -> str:
        place = self._place()
        try:
            text, end = _DECODER.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            where = self._place(error.pos) if not error.msg.startswith("Unterminated") else place
            self.problems.append(
                SyntaxProblem(
                    where, f"not a JSON text: {error.msg.lower()}", "close it with '\"' on the same line"
                )
            )
            raise _Unrecoverable from error
        self.at = end
        if _LONE_SURROGATE.search(text):
            self._problem(
                place, "half of a surrogate pair, which is no character", "write the character itself"
            )
        return _LONE_SURROGATE.sub("\ufffd", str(text))

    def _plain(self, place: Position) -> Any:
        number = _NUMBER.match(self.text, self.at)
        word = _WORD.match(self.text, self.at)
        if number and word and number.end() == word.end():
            self.at = number.end()
            return self._number(number[0], place)
        if word and word[0] in _WORDS:
            self.at = word.end()
            return _WORDS[word[0]]
        advice = "write true, false or null in lower case, and texts in double quotes"
        if word and word[0].startswith(("//", "/*", "#")):
            advice = "JSON has no comments; delete it, or write the profile in YAML"
        raise self._unrecoverable(f"{self._shown()} is not a JSON value", advice, place)

    def _number(self, text: str, place: Position) -> int | float:
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError:  # Python reads no integers of more than 4,300 digits
            raise self._unrecoverable("a number of that many digits", "write a smaller one", place) from None

    def _skip(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def _shown(self) -> str:
        """What stands here, a few characters of it; of a text only the beginning, which is a key mostly."""
        rest = self.text[self.at : self.at + 40].partition("\n")[0]
        key = re.match(r'"[^"]*"', rest)
        word = _WORD.match(rest)
        return (key or word)[0] if (key or word) else (repr(rest[:1]) if rest else "the end of the file")  # type: ignore[index]  # one of the two is there

    def _place(self, at: int | None = None) -> Position:
        at = self.at if at is None else at
        line = bisect.bisect_right(self._starts, at)
        return Position(line, at - self._starts[line - 1] + 1)

    def _problem(self, place: Position, found: str, write: str) -> None:
        self.problems.append(SyntaxProblem(place, found, write))

    def _unrecoverable(self, found: str, write: str, place: Position | None = None) -> _Unrecoverable:
        self._problem(place or self._place(), found, write)
        return _Unrecoverable()
