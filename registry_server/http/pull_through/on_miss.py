"""What is not in the store is asked for: of a webhook that may fetch it (docs/on-demand.md).

Asked are GET and HEAD of manifests by digest and of blobs when they are not here, and of tags always, unless
the last answer says how long they stay fresh: only upstream knows whether a tag has moved, and which tags and
referrers there are (on_demand_lists.py). Whatever goes wrong with the webhook, what is here is served.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cachetools import FIFOCache
from starlette.responses import Response

from registry_server.http.access_log import MISSED
from registry_server.http.auth.visible_store import VisibleStore
from registry_server.http.pull.conditional_requests import is_unchanged, parse_range, range_applies
from registry_server.http.pull.content import blob_response, identity
from registry_server.http.pull.stored_response import ask
from registry_server.http.pull_through.call_queue import CallQueue
from registry_server.http.pull_through.incoming_response import IncomingBlobResponse, wait_for_start
from registry_server.http.pull_through.miss_rate_limit import MissRateLimit
from registry_server.http.pull_through.miss_responses import NONSENSE, refused, stale, unavailable
from registry_server.http.pull_through.namespaces import FOUND, NamespaceResolver
from registry_server.http.pull_through.on_demand_lists import OnDemandLists
from registry_server.http.pull_through.via_marks import marks_in
from registry_server.http.pull_through.webhook_client import ReceiverFailed
from registry_server.http.routes import BlobOf, ManifestOf, Referrers, Tags
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.store.spool.incoming_reader import IncomingAborted, find_arrived, open_incoming

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from registry_server.http.pull_through.receivers import ReceiverClient
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.store import Store

    Handler = Callable[[Store, Any, Request], Awaitable[Response]]

_RECEIVER_TIMEOUT = (
    15.0  # seconds, for a tag that is here: the receiver itself gives up on a slow upstream sooner
)
_RETRY_RECEIVER_AFTER = (
    5.0  # seconds after a failed call in which tags that are here are served without asking
)
_MOST_FRESH = 100_000
_ATTEMPTS = 3  # to follow a blob whose arrival breaks off before its first byte


@dataclass(frozen=True, slots=True)
class _Known:
    """What the receiver said of a tag: the manifest that it names (None: the store knows), and until when.

    `stored` is what the tag named in the store then: once it names something else, the store knows better.
    """

    digest: Digest | None
    until: float
    stored: Digest | None = None


class OnMiss:
    """Stands between the routes and the handlers of one application."""

    def __init__(self, receivers: ReceiverClient, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._receivers, self._options = receivers, receivers.options
        self._clock = clock
        self._known: FIFOCache[tuple[RepositoryName, Tag], _Known] = FIFOCache(_MOST_FRESH)
        self._receiver_down_until = 0.0
        self._namespaces = NamespaceResolver(receivers, clock)
        self._queue = CallQueue()
        self._lists = OnDemandLists(self._call, clock)
        self._limit = MissRateLimit(self._options.failures_per_minute, clock)

    async def resolve_namespace(self, route: Any, request: Request) -> Any:
        """The route with our own name in it (namespaces.py). Raises `NamespaceUnknown`."""
        return await self._namespaces.resolve_namespace(route, request)

    async def answer(self, handler: Handler, store: Store, route: Any, request: Request) -> Response:
        """Like `handler`, with the webhook behind it; not for who may not read the repository."""
        response = await self._answer(handler, store, route, request)
        self._limit.settle(request, response.status_code)
        if namespace := request.scope.get(FOUND):
            response.headers["OCI-Namespace"] = namespace
        return response

    async def _answer(self, handler: Handler, store: Store, route: Any, request: Request) -> Response:
        if request.method in ("GET", "HEAD") and _may_read(store, route) and not self._is_ours(request):
            if isinstance(route, Tags | Referrers):
                if not await ask(store, _exists, store, route):
                    self._limit.take(request)
                return await self._lists.answer(handler, store, route, request)
            if isinstance(route, ManifestOf) and not isinstance(route.reference, Digest):
                return await self._tag(handler, store, route, request)
            if isinstance(route, ManifestOf | BlobOf):
                return await self._content(handler, store, route, request)
        return await handler(store, route, request)

    async def _tag(self, handler: Handler, store: Store, route: ManifestOf, request: Request) -> Response:
        assert not isinstance(route.reference, Digest)
        key = (route.repository, route.reference)
        known = self._known.get(key)
        if known is not None and known.until > self._clock():
            digest = known.digest if await ask(store, _stored, store, route) == known.stored else None
            with suppress(NotFound):  # it may have been deleted, or evicted, meanwhile
                return await _by_digest(handler, store, route, request, digest)
        held = await ask(store, store.repository(route.repository).tag, route.reference) is not None
        if not held:
            self._limit.take(request)
        if held and self._receiver_down_until > self._clock():
            return stale(await handler(store, route, request), "the fetch service is not responding")
        try:
            seconds = _RECEIVER_TIMEOUT if held else self._options.timeout
            found = await self._ask(route, request, seconds, is_here=held)
        except ReceiverFailed as error:
            if not held:
                return unavailable(error)
            self._receiver_down_until = self._clock() + _RETRY_RECEIVER_AFTER
            return stale(await handler(store, route, request), str(error))
        return await self._respond(handler, store, route, request, found)

    async def _respond(
        self, handler: Handler, store: Store, route: ManifestOf, request: Request, found: dict[str, Any]
    ) -> Response:
        """Answer for a tag as the receiver says."""
        try:
            match found["outcome"]:
                case "local":
                    await ask(store, self._remember, store, route, None, found)
                    response = await handler(store, route, request)
                    return stale(response, found["warning"]) if found.get("warning") else response
                case "manifest":
                    digest = Digest(found["digest"])
                    await ask(store, self._remember, store, route, digest, found)
                    return await _by_digest(handler, store, route, request, digest)
        except (KeyError, TypeError, InvalidName) as error:
            return unavailable(ReceiverFailed(f"{NONSENSE}: {error}"))
        return refused(found)

    async def _content(
        self, handler: Handler, store: Store, route: ManifestOf | BlobOf, request: Request
    ) -> Response:
        """By digest: what is here needs nobody."""
        try:
            return await handler(store, route, request)
        except NotFound as error:
            missing = error
        self._limit.take(request)
        broken = IncomingAborted("the content did not arrive")
        for _ in range(_ATTEMPTS):
            try:
                return await self._asked(handler, store, route, request, missing)
            except ReceiverFailed as error:
                return unavailable(error)
            except IncomingAborted as error:  # before its first byte: the receiver knows by now why
                broken = error
        return unavailable(ReceiverFailed(str(broken)))

    async def _asked(
        self, handler: Handler, store: Store, route: ManifestOf | BlobOf, request: Request, missing: NotFound
    ) -> Response:
        """As the receiver says. Raises `ReceiverFailed`, `IncomingAborted`, or `missing`."""
        found = await self._ask(route, request, self._options.timeout)
        match found["outcome"]:
            case "local":
                raise missing
            case "manifest":
                return await handler(store, route, request)
            case "blob" if isinstance(route, BlobOf) and type(found.get("size")) is int:
                return await _incoming_response(handler, store, route, request, found["size"])
        return refused(found)

    async def _ask(
        self, route: ManifestOf | BlobOf, request: Request, timeout_seconds: float, *, is_here: bool = False
    ) -> dict[str, Any]:
        reference = route.reference if isinstance(route, ManifestOf) else route.digest
        question: dict[str, Any] = {
            "kind": route.kind,
            "method": request.method,
            "repository": route.repository,
            "reference": reference,
            "via": marks_in(request.headers.get("Via", "")),
        }
        return await self._call(question, timeout_seconds, is_here=is_here)

    async def _call(
        self, question: dict[str, Any], timeout_seconds: float, *, is_here: bool, **more: Any
    ) -> dict[str, Any]:
        seconds = min(timeout_seconds, self._options.timeout)
        group = question["repository"].partition("/")[0]
        same = tuple(question.get(key) for key in ("kind", "repository", "reference", "last"))
        async with self._queue.turn(same, group, is_here=is_here):
            return await self._receivers.call(question, seconds, **more)

    def _is_ours(self, request: Request) -> bool:
        """We ask ourselves, directly or around a ring: the answer is what is here, else it would be us."""
        return self._options.mark in marks_in(request.headers.get("Via", ""))

    def _remember(
        self, store: Store, route: ManifestOf, digest: Digest | None, found: dict[str, Any]
    ) -> None:
        fresh = float(found.get("freshFor") or 0)
        if fresh > 0:
            assert not isinstance(route.reference, Digest)
            self._known[route.repository, route.reference] = _Known(
                digest, self._clock() + fresh, _stored(store, route)
            )


def _exists(store: Store, route: Tags | Referrers) -> bool:
    return store.repository(route.repository).exists


def _stored(store: Store, route: ManifestOf) -> Digest | None:
    assert not isinstance(route.reference, Digest)
    record = store.repository(route.repository).tag(route.reference)
    return record.digest if record is not None else None


def _may_read(store: Store, route: Any) -> bool:
    name = getattr(route, "repository", None)  # a catalog has none, and is filtered by itself
    return name is None or not isinstance(store, VisibleStore) or store.shows(name)


async def _by_digest(
    handler: Handler, store: Store, route: ManifestOf, request: Request, digest: Digest | None
) -> Response:
    """A tag that is not published yet: the manifest that it will name, when all of it is here."""
    if digest is None:
        return await handler(store, route, request)
    response = await handler(store, ManifestOf(route.repository, digest), request)
    del response.headers["Cache-Control"]  # the digest's, not the tag's
    return response


async def _incoming_response(
    handler: Handler, store: Store, route: BlobOf, request: Request, size: int
) -> Response:
    """A blob that the receiver lets us have: from the pool if it is there by now, else while it arrives."""
    with suppress(NotFound):
        return await handler(store, route, request)
    headers = identity(route.digest, immutable=True) | {
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    if is_unchanged(request.headers.get("If-None-Match"), route.digest):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(size)})
    applies = range_applies(request.headers.get("If-Range"), route.digest)
    part = parse_range(request.headers.get("Range"), size) if applies else None
    positions = range(size) if part is None else part
    file = await ask(store, open_incoming, store.repository(route.repository), route.digest)
    if file is None:
        arrived = await ask(store, find_arrived, store.repository(route.repository), route.digest)
        if arrived is None:
            raise IncomingAborted("the incoming blob was discarded")
        return await blob_response(store, arrived, route, request)
    try:
        await wait_for_start(file, positions)
    except BaseException:
        file.close()
        raise
    if part is None:
        return IncomingBlobResponse(file, positions, 200, headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return IncomingBlobResponse(file, positions, 206, headers)


# Which answers the store had by itself, and which were fetched for the one who asked: for the metrics.


async def answer_and_mark_miss(
    on_miss: OnMiss, handler: Handler, store: Store, route: Any, request: Request
) -> Response:
    """As `on_miss` answers. A miss: a digest that is not here, a tag that names something else yet."""

    async def noting(store: Store, route: Any, request: Request) -> Response:
        try:
            return await handler(store, route, request)
        except NotFound:
            request.scope[MISSED] = True
            raise

    if not isinstance(route, ManifestOf) or isinstance(route.reference, Digest):
        return await on_miss.answer(noting, store, route, request)
    held = store.repository(route.repository).tag(route.reference)
    response = await on_miss.answer(noting, store, route, request)
    if held is None or response.headers.get("Docker-Content-Digest") not in (None, held.digest):
        request.scope[MISSED] = True
    return response
