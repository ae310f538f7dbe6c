"""Names of other registries: `?ns=` (distribution-spec, "Registry Proxying"), and hosts of our own.

Only the profile says which hosts there are: nothing that a client sends is ever connected to. The receiver of
misses knows the profile; what it said is remembered for as long as it said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cachetools import FIFOCache

from registry_server.http.errors import MethodNotAllowed
from registry_server.http.pull_through.webhook_client import ReceiverFailed
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from registry_server.http.pull_through.receivers import ReceiverClient

NAMESPACE = "ns"
# In the scope of a request: the namespace that it named and that there is, and the name that it asked for.
FOUND, ASKED = "mirrorflow.namespace", "mirrorflow.asked"
_RECEIVER_TIMEOUT = 15.0  # seconds
_MOST = 100_000
_HOST = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,255}", re.ASCII)


class NamespaceUnknown(NotFound):
    """A registry that no entry of the profile names, or a repository that no rule takes."""

    code = "NAME_UNKNOWN"


@dataclass(frozen=True, slots=True)
class _LocalName:
    repository: RepositoryName
    until: float


class NamespaceResolver:
    """Gives a route our own name of the repository."""

    def __init__(self, receivers: ReceiverClient, clock: Callable[[], float]) -> None:
        self._receivers, self._options = receivers, receivers.options
        self._clock = clock
        self._local_names: FIFOCache[tuple[str, str, RepositoryName], _LocalName] = FIFOCache(_MOST)

    async def resolve_namespace(self, route: Any, request: Request) -> Any:
        """The route with our name in it. Raises `NamespaceUnknown`, `MethodNotAllowed`."""
        if not hasattr(route, "repository"):
            return route
        entry = self._options.vhosts.get(_host(request), "")
        if entry and request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed(
                "this host name is for pulling from another registry: push to the mirror's own host name"
            )
        namespace = "" if entry else request.query_params.get(NAMESPACE, "")
        if not (entry or namespace) or request.method not in ("GET", "HEAD"):
            return route
        if namespace and not _HOST.fullmatch(namespace):
            raise NamespaceUnknown("`ns` is not a host")
        repository = await self._here(("entry", entry) if entry else ("namespace", namespace), route)
        request.scope[ASKED] = route.repository
        if namespace:
            request.scope[FOUND] = namespace
        return replace(route, repository=repository)

    async def _here(self, whose: tuple[str, str], route: Any) -> RepositoryName:
        key = (*whose, route.repository)
        place = self._local_names.get(key)
        if place is None or place.until <= self._clock():
            place = await self._find(key) or place
        if place is None:
            raise NamespaceUnknown(f"{route.repository} of {whose[1][:100]!r} is not mirrored here")
        return place.repository

    async def _find(self, key: tuple[str, str, RepositoryName]) -> _LocalName | None:
        kind, value, name = key
        question = {"kind": "resolve", kind: value[:300], "repository": name}
        try:
            found = await self._receivers.call(question, min(_RECEIVER_TIMEOUT, self._options.timeout))
        except ReceiverFailed:
            return None
        try:
            repository = RepositoryName(str(found["repository"]))
        except (KeyError, InvalidName):
            self._local_names.pop(key, None)
            raise NamespaceUnknown(f"{name} of {value[:100]!r} is not mirrored here") from None
        place = _LocalName(repository, self._clock() + float(found.get("freshFor") or 0))
        self._local_names[key] = place
        return place


def _host(request: Request) -> str:
    """The Host of a request as a key: without port, and only ever looked up."""
    host = request.headers.get("Host", "")[:300].lower()
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).rstrip(".")
