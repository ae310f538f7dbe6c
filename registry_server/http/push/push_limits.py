"""What writers may take of a server: bytes, time, sessions."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

from registry_server.oci.errors import MirrorflowError

_MIB = 1024 * 1024
_HOUR = 3600.0


class LimitInvalid(MirrorflowError, ValueError):
    """Not `name=number` with the name of a limit."""


@dataclass(frozen=True, slots=True)
class PushLimits:
    """The limits of pushing; manifests have 4 MiB, because clients accept no larger ones.

    A session is what a client opens to upload one blob.
    """

    blob_bytes: int = 0  # of one blob; 0 is as much as there is room for
    spare_bytes: int = 256 * _MIB  # of the disk, which no upload may take: deleting needs room too
    body_idle_seconds: float = 60.0  # without a byte of a body that was announced
    busy_seconds: float = 10.0  # that a request waits for another one to leave its session
    require_blobs: int = 0  # 1: an image is refused as long as its blobs are not all here
    sessions: int = 1000  # in one storage root
    client_sessions: int = 200  # of one user, or of one address where nobody has a name
    session_idle_seconds: float = 24 * _HOUR  # until a session that nobody writes to is ended
    session_empty_seconds: float = _HOUR  # the same, for one without a byte

    @classmethod
    def parse(cls, given: list[str]) -> Self:
        """From `["blob_bytes=1000000", …]`. Raises `LimitInvalid`."""
        defaults = cls()
        known = {each.name: type(getattr(defaults, each.name)) for each in fields(cls)}
        found: dict[str, Any] = {}
        for text in given:
            name, _, number = text.partition("=")
            try:
                value = known[name](number)
            except (KeyError, ValueError):
                value = -1
            if not 0 <= value < float("inf"):  # neither is NaN
                raise LimitInvalid(
                    f"{text!r} is not a limit; write NAME=NUMBER with one of {', '.join(known)}"
                )
            found[name] = value
        return cls(**found)

    def arguments(self) -> list[str]:
        """What `parse` makes the same limits of."""
        return [
            f"{each.name}={getattr(self, each.name)}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        ]
