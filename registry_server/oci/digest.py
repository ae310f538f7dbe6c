"""A content address, e.g. `sha256:9f86d0…` (image-spec, descriptor.md "Digests")."""

from __future__ import annotations

import hashlib
import re
from typing import Self

from registry_server.oci.errors import InvalidName

# Only algorithms that are registered and collision resistant may name stored content.
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_SHOWN = 80


class Digest(str):
    """A validated digest; as a `str` it is its own JSON, path part and dictionary key.

    Raises `InvalidName` (DIGEST_INVALID) for anything else, upper-case hex included.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if isinstance(text, cls):
            return text
        if not _DIGEST.fullmatch(text):
            shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
            raise InvalidName(
                f"{shown!r} is not a digest; expected sha256:<64 lower-case hex> "
                "or sha512:<128 lower-case hex>",
                code="DIGEST_INVALID",
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """The digest of `content`."""
        return cls(f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """For people: `sha256:9f86d081884c`."""
        return f"{self.algorithm}:{self.hex[:12]}"
