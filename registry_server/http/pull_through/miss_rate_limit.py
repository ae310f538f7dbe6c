"""How many requests for what is not here may fail in a minute, for one client (`failuresPerMinute`).

A request that brings something costs nothing, so pulls are not slowed down. What is here is always served.
"""

from __future__ import annotations

import ipaddress
import math
import time
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from registry_server.counted import counted
from registry_server.http.access_log import USER
from registry_server.http.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

_CHARGED: Final = "mirrorflow.charged"
_MOST_CLIENTS: Final = 10_000  # that are remembered; of more, the one that was quiet for longest begins anew
_MINUTE: Final = 60.0


class MissRateLimit:
    """A token bucket for each client: `per_minute` failures at once, and as many in each minute. 0: no limit.

    Of one server process, whose event loop alone uses it.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = per_minute, clock
        self._left: LRUCache[str, tuple[float, float]] = LRUCache(_MOST_CLIENTS)  # tokens, and since when

    def take(self, request: Request) -> None:
        """Before upstream is asked. Raises `Refused` (distribution-spec: 429, TOOMANYREQUESTS)."""
        if not self._most:
            return
        client = client_of(request)
        left = self._now(client)
        if left < 1:
            wait = math.ceil((1 - left) * _MINUTE / self._most)
            raise Refused(
                429,
                "TOOMANYREQUESTS",
                f"more than {counted(self._most, 'request')} in a minute for content that does not exist",
                {"Retry-After": str(wait)},
            )
        self._put(client, left - 1)
        request.scope[_CHARGED] = client

    def settle(self, request: Request, status: int) -> None:
        """Give back what was taken for a request that did not fail."""
        client = request.scope.pop(_CHARGED, None)
        if client is not None and status < 400:
            self._put(client, min(self._now(client) + 1, self._most))

    def _now(self, client: str) -> float:
        left, since = self._left.get(client, (float(self._most), self._clock()))
        return min(left + (self._clock() - since) * self._most / _MINUTE, float(self._most))

    def _put(self, client: str, left: float) -> None:
        self._left[client] = left, self._clock()


def client_of(request: Request) -> str:
    """The user, else the address; of IPv6 the network, because a client has a whole /64 of addresses."""
    if user := request.scope.get(USER):
        return f"user:{user}"
    host = (request.scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return host
