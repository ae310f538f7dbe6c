"""The names of a folder in order, in little memory: a fifth of what a list of texts takes."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEPARATOR: Final = "/"  # no file name has it


class SortedNames:
    """Made once of all names; a page of them costs as much as the page is long, and never changes."""

    __slots__ = ("_joined", "_starts")

    def __init__(self, joined: bytes, starts: array[int]) -> None:
        self._joined, self._starts = joined, starts

    @classmethod
    def of(cls, names: Iterable[str]) -> Self:
        """In the order of their code points, which is that of their bytes in UTF-8."""
        encoded = sorted(name.encode() for name in names)
        starts = array("I", accumulate((len(name) + 1 for name in encoded), initial=0))
        return cls(_SEPARATOR.encode().join(encoded), starts)

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def memory(self) -> int:
        """Bytes."""
        return len(self._joined) + self._starts.itemsize * len(self._starts)

    def page(self, *, last: str = "", limit: int | None = None) -> list[str]:
        """At most `limit` names after `last`, which need not be one of them."""
        first = bisect_right(range(len(self)), last.encode(errors="surrogatepass"), key=self._name)
        stop = len(self) if limit is None else min(len(self), first + limit)
        if first >= stop:
            return []
        return self._joined[self._starts[first] : self._starts[stop] - 1].decode().split(_SEPARATOR)

    def _name(self, number: int) -> bytes:
        return self._joined[self._starts[number] : self._starts[number + 1] - 1]
