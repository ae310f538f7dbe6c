"""Pages of tags and repositories (distribution-spec, "Listing Tags")."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import urlencode

from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Name = TypeVar("_Name", bound=str)
# Clients exist that never follow Link, so a page without `n` is as long as a page may get.
LONGEST_PAGE = 10_000
_NUMBER = re.compile(r"[0-9]+", re.ASCII)


class PageInvalid(MirrorflowError, ValueError):
    """`n` is not a number. The code is distribution's; the specification has none for it."""

    code = "PAGINATION_NUMBER_INVALID"


@dataclass(frozen=True, slots=True)
class Page:
    """At most `limit` names after `last`, which need not exist. A `limit` of 0 asks for nothing."""

    limit: int = LONGEST_PAGE
    last: str = ""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Self:
        """From `n` and `last` of a query. A larger `n` than we serve is cut. Raises `PageInvalid`."""
        number = query.get("n")
        last = query.get("last", "")
        if number is None:
            return cls(last=last)
        if not _NUMBER.fullmatch(number):
            raise PageInvalid(f"n={number[:40]!r} is not a number of names; expected e.g. n=100")
        # Compared by length first: int() refuses numbers of thousands of digits.
        limit = LONGEST_PAGE if len(number.lstrip("0")) > 9 else min(int(number), LONGEST_PAGE)
        return cls(limit, last)

    @property
    def wanted(self) -> int:
        """How many names to ask the store for: one more than a page shows whether there is a next page."""
        return self.limit + 1 if self.limit else 0

    def cut(self, names: Sequence[_Name]) -> list[_Name]:
        return list(names[: self.limit])

    def after(self, names: Sequence[_Name]) -> list[_Name]:
        """The page of a whole sorted list, with the one name more of `wanted`."""
        return [name for name in names if name > self.last][: self.wanted]

    def link(self, path: str, names: Sequence[str], more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The Link header to the next page, if `names` (asked for with `wanted`) show that there is one.

        `more` goes into its query.
        """
        if len(names) <= self.limit or not self.limit:
            return {}
        query = urlencode({"n": self.limit, "last": names[self.limit - 1], **(more or {})})
        return {"Link": f'<{path}?{query}>; rel="next"'}
