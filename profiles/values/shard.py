"""A shard of a registry entry: one of several equal parts of its repositories (`shards: N`).

A repository belongs to shard K of N where the SHA-256 of its upstream name (UTF-8), taken as a big-endian
number, is K - 1 modulo N. Python's own `hash` differs from process to process.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from registry_server.oci.errors import MirrorflowError

MOST_SHARDS: Final = 1000
SHARD_PATTERN: Final = r"^[1-9][0-9]{0,3}/[1-9][0-9]{0,3}$"
"""`2/4`. For forms; that the first number is not greater than the second one is checked by `Shard.parse`."""


class ShardInvalid(MirrorflowError):
    """A text that names no shard."""


@dataclass(frozen=True, slots=True)
class Shard:
    """Number `number` of `of`; numbers begin with 1."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """`2/4`. Raises `ShardInvalid`."""
        if re.fullmatch(SHARD_PATTERN, text):
            number, of = map(int, text.split("/"))
            if number <= of <= MOST_SHARDS:
                return cls(number, of)
        raise ShardInvalid(
            f"shard: {text[:40]!r} is not a shard; write its number and how many there are, e.g. '2/4' "
            f"(at most {MOST_SHARDS:,})"
        )

    @classmethod
    def all_of(cls, shards: int) -> tuple[Self | None, ...]:
        """The parts that a registry entry is run in; (None,) where it is not divided."""
        if shards == 1:
            return (None,)
        return tuple(cls(number, shards) for number in range(1, shards + 1))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def owns(self, repository: str) -> bool:
        """Whether the upstream repository of this name belongs to it."""
        return shard_index(repository, self.of) == self.number - 1


def shard_index(repository: str, of: int) -> int:
    """From 0: which of `of` shards has the repository."""
    return int.from_bytes(hashlib.sha256(repository.encode()).digest()) % of
