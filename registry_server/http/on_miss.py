"""What is not in the store is asked for: of a webhook that may fetch it (docs/on-demand.md).

Asked are GET and HEAD of manifests by digest and of blobs when they are not here, and of tags always, unless
the last answer says how long they stay fresh: only upstream knows whether a tag has moved. Whatever goes
wrong with the webhook, what is here is served.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from registry_server.http.access.visible import VisibleStore
from registry_server.http.calling import ReceiverFailed, call
from registry_server.http.conditions import is_unchanged, range_applies
from registry_server.http.content import identity
from registry_server.http.errors import error_response
from registry_server.http.following import FollowingResponse, wait_for_start
from registry_server.http.ranges import parse_range
from registry_server.http.routes import BlobOf, ManifestOf
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.oci.reference import RepositoryName
from registry_server.store.following import ArrivalBroken, open_arriving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from registry_server.http.calling import OnMissOptions
    from registry_server.oci.reference import Tag
    from registry_server.store.store import Store

    Handler = Callable[[Store, Any, Request], Awaitable[Response]]

_PATIENCE = 15.0  # seconds, for a tag that is here: the receiver itself gives up on a slow upstream sooner
_BLIND = 5.0  # seconds after a failed call in which tags that are here are served without asking
_MOST_FRESH = 100_000
_ATTEMPTS = 3  # to follow a blob whose arrival breaks off before its first byte
NAMESPACE = "ns"
_SCOPE = "mirrorflow.namespace"  # in the scope of a request that named one that there is
_HOST = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,255}", re.ASCII)
_NONSENSE = "the answer of the receiver of misses makes no sense"


@dataclass(frozen=True, slots=True)
class _Known:
    """What the receiver said of a tag: the manifest that it names (None: the store knows), and until when."""

    digest: Digest | None
    until: float


@dataclass(frozen=True, slots=True)
class _Place:
    repository: RepositoryName
    until: float


class NamespaceUnknown(NotFound):
    """`?ns=` names a registry that no entry of the profile names, or a repository that no rule takes."""

    code = "NAME_UNKNOWN"


class OnMiss:
    """Stands between the routes and the handlers of one application."""

    def __init__(self, options: OnMissOptions, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._known: OrderedDict[tuple[RepositoryName, Tag], _Known] = OrderedDict()
        self._places: OrderedDict[tuple[str, RepositoryName], _Place] = OrderedDict()
        self._blind_until = 0.0

    async def answer(self, handler: Handler, store: Store, route: Any, request: Request) -> Response:
        """Like `handler`, with the webhook behind it; not for who may not read the repository."""
        response = await self._answer(handler, store, route, request)
        if namespace := request.scope.get(_SCOPE):
            response.headers["OCI-Namespace"] = namespace
        return response

    async def _answer(self, handler: Handler, store: Store, route: Any, request: Request) -> Response:
        if request.method in ("GET", "HEAD") and _may_read(store, route):
            if isinstance(route, ManifestOf) and not isinstance(route.reference, Digest):
                return await self._tag(handler, store, route, request)
            if isinstance(route, ManifestOf | BlobOf):
                return await self._content(handler, store, route, request)
        return await handler(store, route, request)

    async def located(self, route: Any, request: Request) -> Any:
        """The route with our own name in it, for `?ns=` (distribution-spec, "Registry Proxying").

        Only the profile says which hosts there are: nothing that a client sends is ever connected to.
        Raises `NamespaceUnknown`.
        """
        namespace = request.query_params.get(NAMESPACE, "")
        if not namespace or request.method not in ("GET", "HEAD") or not hasattr(route, "repository"):
            return route
        if not _HOST.fullmatch(namespace):
            raise NamespaceUnknown("`ns` is not a host")
        key = (namespace, route.repository)
        place = self._places.get(key)
        if place is None or place.until <= self._clock():
            place = await self._find(key) or place
        if place is None:
            raise NamespaceUnknown(f"{route.repository} of {namespace[:100]!r} is not mirrored here")
        request.scope[_SCOPE] = namespace
        return replace(route, repository=place.repository)

    async def _find(self, key: tuple[str, RepositoryName]) -> _Place | None:
        question = {"kind": "resolve", "namespace": key[0][:300], "repository": key[1]}
        try:
            found = await call(self._options, question, min(_PATIENCE, self._options.timeout))
        except ReceiverFailed:
            return None
        try:
            name = RepositoryName(str(found["repository"]))
        except (KeyError, InvalidName):
            self._places.pop(key, None)
            raise NamespaceUnknown(f"{key[1]} of {key[0][:100]!r} is not mirrored here") from None
        place = _Place(name, self._clock() + float(found.get("freshFor") or 0))
        self._places[key] = place
        while len(self._places) > _MOST_FRESH:
            self._places.popitem(last=False)
        return place

    async def _tag(self, handler: Handler, store: Store, route: ManifestOf, request: Request) -> Response:
        assert not isinstance(route.reference, Digest)
        key = (route.repository, route.reference)
        known = self._known.get(key)
        if known is not None and known.until > self._clock():
            return await _by_digest(handler, store, route, request, known.digest)
        held = store.repository(route.repository).tag(route.reference) is not None
        if held and self._blind_until > self._clock():
            return _stale(await handler(store, route, request), "the receiver of misses does not answer")
        try:
            found = await self._ask(route, request, _PATIENCE if held else self._options.timeout)
        except ReceiverFailed as error:
            if not held:
                return _unavailable(error)
            self._blind_until = self._clock() + _BLIND
            return _stale(await handler(store, route, request), str(error))
        return await self._told(handler, store, route, request, found)

    async def _told(
        self, handler: Handler, store: Store, route: ManifestOf, request: Request, found: dict[str, Any]
    ) -> Response:
        """Answer for a tag as the receiver says."""
        try:
            match found["outcome"]:
                case "local":
                    self._remember(route, None, found)
                    response = await handler(store, route, request)
                    return _stale(response, found["warning"]) if found.get("warning") else response
                case "manifest":
                    digest = Digest(found["digest"])
                    self._remember(route, digest, found)
                    return await _by_digest(handler, store, route, request, digest)
        except (KeyError, TypeError, InvalidName) as error:
            return _unavailable(ReceiverFailed(f"{_NONSENSE}: {error}"))
        return _refusal(found)

    async def _content(
        self, handler: Handler, store: Store, route: ManifestOf | BlobOf, request: Request
    ) -> Response:
        """By digest: what is here needs nobody."""
        try:
            return await handler(store, route, request)
        except NotFound as error:
            missing = error
        broken = ArrivalBroken("it never arrived")
        for _ in range(_ATTEMPTS):
            try:
                return await self._asked(handler, store, route, request, missing)
            except ReceiverFailed as error:
                return _unavailable(error)
            except ArrivalBroken as error:  # before its first byte: the receiver knows by now why
                broken = error
        return _unavailable(ReceiverFailed(str(broken)))

    async def _asked(
        self, handler: Handler, store: Store, route: ManifestOf | BlobOf, request: Request, missing: NotFound
    ) -> Response:
        """As the receiver says. Raises `ReceiverFailed`, `ArrivalBroken`, or `missing`."""
        found = await self._ask(route, request, self._options.timeout)
        match found["outcome"]:
            case "local":
                raise missing
            case "manifest":
                return await handler(store, route, request)
            case "blob" if isinstance(route, BlobOf) and type(found.get("size")) is int:
                return await _arriving(handler, store, route, request, found["size"])
        return _refusal(found)

    async def _ask(self, route: ManifestOf | BlobOf, request: Request, patience: float) -> dict[str, Any]:
        reference = route.reference if isinstance(route, ManifestOf) else route.digest
        question: dict[str, Any] = {
            "kind": route.kind,
            "method": request.method,
            "repository": route.repository,
            "reference": reference,
            "timeout": min(patience, self._options.timeout),
        }
        return await call(self._options, question, question["timeout"])

    def _remember(self, route: ManifestOf, digest: Digest | None, found: dict[str, Any]) -> None:
        fresh = float(found.get("freshFor") or 0)
        if fresh > 0:
            assert not isinstance(route.reference, Digest)
            self._known[route.repository, route.reference] = _Known(digest, self._clock() + fresh)
            while len(self._known) > _MOST_FRESH:
                self._known.popitem(last=False)


def _may_read(store: Store, route: Any) -> bool:
    return not isinstance(store, VisibleStore) or store.shows(route.repository)


async def _by_digest(
    handler: Handler, store: Store, route: ManifestOf, request: Request, digest: Digest | None
) -> Response:
    """A tag that is not published yet: the manifest that it will name, when all of it is here."""
    if digest is None:
        return await handler(store, route, request)
    response = await handler(store, ManifestOf(route.repository, digest), request)
    del response.headers["Cache-Control"]  # the digest's, not the tag's
    return response


async def _arriving(handler: Handler, store: Store, route: BlobOf, request: Request, size: int) -> Response:
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
    file = open_arriving(store.repository(route.repository), route.digest)
    if file is None:
        raise ArrivalBroken("what had arrived of the blob was thrown away")
    try:
        await wait_for_start(file, positions)
    except BaseException:
        file.close()
        raise
    if part is None:
        return FollowingResponse(file, positions, 200, headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    return FollowingResponse(file, positions, 206, headers)


def _stale(response: Response, reason: str) -> Response:
    """RFC 7234, 5.5.7: a warning for people, on content that may be out of date."""
    text = reason.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
    response.headers["Warning"] = f'299 - "{" ".join(text.split())[:400]}"'
    return response


def _unavailable(error: ReceiverFailed) -> Response:
    detail = {"cause": str(error)}
    message = "it is not here, and whoever fetches what is missing does not answer"
    return error_response(503, "UNKNOWN", message, detail=detail, headers={"Retry-After": "2"})


def _refusal(found: dict[str, Any]) -> Response:
    """The receiver's own words; a status that makes no sense is a bad gateway."""
    status = found.get("status")
    if found["outcome"] != "refused" or type(status) is not int or not 400 <= status < 600:
        return _unavailable(ReceiverFailed(_NONSENSE))
    wait = found.get("retryAfter")
    headers = {"Retry-After": str(max(1, round(wait)))} if isinstance(wait, int | float) else {}
    code, message = str(found.get("code", "UNKNOWN")), str(found.get("message", ""))
    return error_response(status, code, message, detail=found.get("detail"), headers=headers)
