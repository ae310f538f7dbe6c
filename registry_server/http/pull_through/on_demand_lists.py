"""Lists of repositories on demand: which tags and referrers there are, only upstream knows.

Referrers are brought into the store by the receiver, and listed from there. Tags are listed by the receiver,
page by page, where the profile says so (`tagListing`); else from the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cachetools import TLRUCache

from registry_server.http.pull.listings import tags_page
from registry_server.http.pull.paging import Page
from registry_server.http.pull_through.miss_responses import NONSENSE, refused, stale, unavailable
from registry_server.http.pull_through.via_marks import marks_in
from registry_server.http.pull_through.webhook_client import ReceiverFailed
from registry_server.http.routes import Referrers
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.oci.reference import Tag

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from registry_server.http.routes import Tags
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store

    Handler = Callable[[Store, Any, Request], Awaitable[Response]]
    Key = tuple[RepositoryName, Digest | None]

_RECEIVER_TIMEOUT = 60.0  # seconds; the receiver gives up sooner on what is here
_RETRY_RECEIVER_AFTER = 5.0  # seconds after a failed call in which lists come from the store without asking
_MOST = 100_000
_LONGEST = 2 * 1024 * 1024  # bytes: a page of 10,000 tags


class OnDemandLists:
    """`call(question, seconds, is_here=…, longest=bytes)` asks the receiver; it raises `ReceiverFailed`."""

    def __init__(self, call: Callable[..., Awaitable[dict[str, Any]]], clock: Callable[[], float]) -> None:
        self._call = call
        self._clock = clock
        # Until when the store knows.
        self._known: TLRUCache[Key, float] = TLRUCache(_MOST, lambda _key, until, _now: until, clock)
        self._receiver_down_until = 0.0

    async def answer(
        self, handler: Handler, store: Store, route: Tags | Referrers, request: Request
    ) -> Response:
        """Like `handler`, with the webhook before it."""
        key = (route.repository, route.digest if isinstance(route, Referrers) else None)
        if key in self._known:
            return await handler(store, route, request)
        question: dict[str, Any] = {
            "kind": route.kind,
            "method": request.method,
            "repository": route.repository,
            "via": marks_in(request.headers.get("Via", "")),
        }
        if isinstance(route, Referrers):
            question["reference"] = route.digest
        else:
            page = Page.parse(request.query_params)
            question |= {"last": page.last[:300], "limit": page.wanted}
        if self._receiver_down_until > self._clock():
            silence = ReceiverFailed("the fetch service did not respond a moment ago")
            return await _without_receiver(handler, store, route, request, silence)
        try:
            here = store.repository(route.repository).exists
            found = await self._call(question, _RECEIVER_TIMEOUT, is_here=here, longest=_LONGEST)
        except ReceiverFailed as error:
            self._receiver_down_until = self._clock() + _RETRY_RECEIVER_AFTER
            return await _without_receiver(handler, store, route, request, error)
        return await self._respond(handler, store, route, request, found)

    async def _respond(
        self, handler: Handler, store: Store, route: Tags | Referrers, request: Request, found: dict[str, Any]
    ) -> Response:
        if found["outcome"] == "local":
            self._remember(route, found)
            response = await handler(store, route, request)
        elif found["outcome"] == "tags" and not isinstance(route, Referrers):
            try:
                response = tags_page(route, request, [Tag(each) for each in found["tags"]])
            except (LookupError, TypeError, InvalidName) as error:
                return unavailable(ReceiverFailed(f"{NONSENSE}: {error}"))
        else:
            return refused(found)
        return stale(response, found["warning"]) if found.get("warning") else response

    def _remember(self, route: Tags | Referrers, found: dict[str, Any]) -> None:
        fresh = float(found.get("freshFor") or 0)
        if fresh > 0:
            key = (route.repository, route.digest if isinstance(route, Referrers) else None)
            self._known[key] = self._clock() + fresh


async def _without_receiver(
    handler: Handler, store: Store, route: Tags | Referrers, request: Request, error: ReceiverFailed
) -> Response:
    """What is here, if anything is: an empty list would say that there is nothing."""
    repository = store.repository(route.repository)
    try:
        if isinstance(route, Referrers):
            repository.find_manifest(route.digest)
        return stale(await handler(store, route, request), str(error))
    except NotFound:
        return unavailable(error)
