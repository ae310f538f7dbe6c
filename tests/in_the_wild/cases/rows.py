"""What one row of the tables says: an upstream as somebody met it, and what a mirror of it has to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support_misbehaving import Misbehaving


@dataclass(frozen=True, slots=True)
class Row:
    """One upstream. `what` is the test's name; `source` the public report, project and number.

    `mirrored` are all tags that a client sees after one run. `failed`, `problem` and `notes` are regular
    expressions: of each failed image's reason, of the report's problems, of its notes. What a row does not
    name must not be said. `dropped`: how many tags are left out, by reason (None: not looked at). `entry`,
    `content`, `storage`: keys of the profile. `unlike_peers`: why we leave out what crane, regctl, oras and
    skopeo all copy.
    """

    what: str
    source: str
    arrange: Callable[[Misbehaving], object]
    mirrored: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()
    dropped: Mapping[str, int] | None = None
    content: tuple[dict[str, Any], ...] = ({"prefix": "**"},)
    entry: Mapping[str, Any] = field(default_factory=dict)
    storage: Mapping[str, Any] = field(default_factory=dict)
    unlike_peers: str = ""

    def __str__(self) -> str:
        return self.what
