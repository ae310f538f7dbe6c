"""The Range header of RFC 9110, section 14, as far as registries need it: one range of bytes."""

from __future__ import annotations

import re

from registry_server.oci.errors import MirrorflowError

_ONE_RANGE = re.compile(r"\s*bytes\s*=\s*([0-9]{0,20})-([0-9]{0,20})\s*", re.ASCII | re.IGNORECASE)
_LONGEST = 128  # characters; what is longer is many ranges, which are ignored anyway


class RangeNotSatisfiable(MirrorflowError):
    """Answered with 416 and `Content-Range: bytes */size`."""

    def __init__(self, header: str, size: int) -> None:
        super().__init__(f"the range {header[:_LONGEST]!r} does not fit content of {size} bytes")
        self.size = size


def parse_range(header: str | None, size: int) -> range | None:
    """The positions to send of `size` bytes, or None for all of them.

    Several ranges, other units and what is no range at all are ignored, as RFC 9110 allows. An end before
    its start is refused (the conformance suite wants that), and so is a range without a byte in it. Empty
    content has no range that could be written down: it is sent as it is, like Go's file server does.
    Raises `RangeNotSatisfiable`.
    """
    if header is None or size == 0 or len(header) > _LONGEST:
        return None
    match = _ONE_RANGE.fullmatch(header)
    if match is None or match[1] == match[2] == "":
        return None
    start, stop = _bounds(match[1], match[2], size)
    if start >= stop:
        raise RangeNotSatisfiable(header, size)
    return range(start, stop)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:  # the last N bytes
        return max(0, size - int(last)), size
    if not last:
        return int(first), size
    return int(first), min(int(last) + 1, size)
