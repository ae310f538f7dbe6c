"""Counting what a bundled server was asked, from the access log of its process."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class RequestLog:
    """The access log of a server (`running_server(..., access_log=log.path)`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen = 0

    def all(self) -> list[dict[str, Any]]:
        """Every request that has ended so far, in the order of their ends."""
        text = self.path.read_text() if self.path.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def new(self) -> list[dict[str, Any]]:
        """Those since the last call."""
        records = self.all()
        fresh, self._seen = records[self._seen :], len(records)
        return fresh

    def counts(self) -> Counter[str]:
        """Of `new()`: "HEAD manifest" -> 3, and so on for base, catalog, tags, blob, referrers, other."""
        return Counter(f"{each['method']} {each['kind']}" for each in self.new())
