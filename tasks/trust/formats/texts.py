"""JSON and base64 from outside, read so that two readers cannot disagree about them."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from tasks.trust.errors import Refused

_DEEPEST = 64


def json_object(content: bytes | str, what: str) -> dict[str, Any]:
    """Raises `Refused` for anything but one object without repeated keys."""
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        found = json.loads(text, object_pairs_hook=_unambiguous, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{what} is not usable JSON ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise Refused(f"{what} is no JSON object")
    _check_depth(found, what)
    return found


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _check_depth(document: Any, what: str) -> None:
    level = [document]
    for _ in range(_DEEPEST):
        nested = (node.values() if isinstance(node, dict) else node for node in level)
        level = [value for values in nested for value in values if isinstance(value, dict | list)]
        if not level:
            return
    raise Refused(f"{what} is nested more than {_DEEPEST} levels deep")


def unbase64(text: Any, what: str, *, lines: bool = False) -> bytes:
    """Standard base64. `lines`: line breaks are left out, as cosign's annotations may have them."""
    if not isinstance(text, str) or not text:
        raise Refused(f"{what} is missing")
    text = "".join(text.split()) if lines else text
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(f"{what} is not base64") from error
    if base64.b64encode(found).decode() != text:  # stray bits at the end: two spellings of one content
        raise Refused(f"{what} is not base64 as it is written by tools")
    return found


def unbase64url(text: Any, what: str) -> bytes:
    """Base64url without padding (RFC 7515 section 2); exactly one spelling is taken."""
    if not isinstance(text, str):
        raise Refused(f"{what} is missing")
    try:
        found = base64.b64decode(text.translate(_URL) + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refused(f"{what} is not base64url") from error
    if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != text:
        raise Refused(f"{what} is not base64url without padding")
    return found


_URL = str.maketrans({"-": "+", "_": "/", "+": "!", "/": "!"})


def unhex(text: Any, what: str) -> bytes:
    """Lower-case hexadecimal, as tools write it."""
    try:
        found = bytes.fromhex(text)
    except (TypeError, ValueError) as error:
        raise Refused(f"{what} is not hexadecimal") from error
    if found.hex() != text:
        raise Refused(f"{what} is not hexadecimal as it is written by tools")
    return found


def expect(found: Any, kind: type[Any] | tuple[type[Any], ...], what: str) -> Any:
    """`found`, if it is a `kind`; raises `Refused`. A boolean is no number here."""
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        raise Refused(f"{what} is {'missing' if found is None else 'not what it should be'}")
    return found
