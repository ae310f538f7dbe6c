"""What a token service answers (distribution specification, "Token Authentication")."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.upstream.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from tasks.upstream.errors import Where

_DEFAULT_LIFE = 60  # seconds; the floor that all clients keep too


@dataclass(frozen=True, slots=True)
class Token:
    """`expires` on our own clock, a little early: the server's clock may be wrong."""

    value: str = field(repr=False)
    expires: float


def parse_token(body: bytes, now: float, where: Where) -> Token:
    """Raises `UpstreamProtocolError`."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise UpstreamProtocolError(where, "its token service answered something that is not a JSON object")
    value = answer.get("token") or answer.get("access_token")
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise UpstreamProtocolError(where, "its token service answered without a token")
    life = _life(answer)
    return Token(value, now + life - max(life * 0.1, 10))


def _life(answer: dict[str, Any]) -> float:
    life = answer.get("expires_in")
    if not isinstance(life, int | float) or isinstance(life, bool) or not math.isfinite(life):
        return _DEFAULT_LIFE
    return min(max(life, _DEFAULT_LIFE), 24 * 3600)
