"""The Content-Range of chunked uploads: `0-99`, not `bytes 0-99/200` (distribution-spec, "end-5")."""

from __future__ import annotations

import re

from registry_server.http.errors import Refused

_CONTENT_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


def parse_content_range(header: str | None, length: int | None) -> range | None:
    """The positions of a chunk of `length` bytes (None: not known yet); None without the header.

    Raises `Refused` with 400 when it cannot be read, or is not about as many bytes as there are.
    """
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise _invalid(f"the Content-Range {header[:80]!r} is not of the form 'first-last', e.g. '0-99'")
    found = range(int(match[1]), int(match[2]) + 1)
    if len(found) == 0:
        raise _invalid(f"the Content-Range {header[:80]!r} ends before it begins")
    if length is not None:
        check_length(found, length)
    return found


def check_length(chunk: range, length: int) -> None:
    """Raises `Refused` with 400."""
    if length != len(chunk):
        raise Refused(
            400, "SIZE_INVALID", f"the Content-Range is about {len(chunk)} bytes, and the body has {length}"
        )


def _invalid(message: str) -> Refused:
    return Refused(400, "BLOB_UPLOAD_INVALID", message)
