"""The distribution API as an ASGI application.

Starlette's requests and responses without its router: `routes.py` says why paths are matched by hand.
Answers are never compressed: registry clients ask for it in passing, and digests and sizes would not hold.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from registry_server.http import routes
from registry_server.http.access_log import ROUTE, Recorder
from registry_server.http.auth.auth_errors import AccessRefused
from registry_server.http.errors import MethodNotAllowed, error_response, response_to
from registry_server.http.extension import is_own
from registry_server.http.pull import content, listings
from registry_server.http.pull_through.on_miss import answer_and_mark_miss
from registry_server.http.push.blob_uploads import UploadHandlers
from registry_server.http.push.manifest_uploads import ManifestHandlers
from registry_server.http.push.push_limits import PushLimits
from registry_server.http.request_body import BodyReceiver, check_framing
from registry_server.oci.errors import InvalidName, MirrorflowError, NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from registry_server.http.access_log import OnRequest
    from registry_server.http.auth.guard import Guard
    from registry_server.http.extension import Extension
    from registry_server.http.forwarded import TrustedProxies
    from registry_server.http.pull_through.on_miss import OnMiss
    from registry_server.http.readiness import Readiness
    from registry_server.http.service_endpoints import ServiceEndpoint
    from registry_server.store.store import Store

    Handler = Callable[[Store, Any, Request], Awaitable[Response]]

_log = logging.getLogger("registry_server")
# Old Docker clients take a server without it for something else.
_API_VERSION = (b"docker-distribution-api-version", b"registry/2.0")


async def _base(_store: Store, _route: routes.Base, _request: Request) -> Response:
    return Response(b"{}", headers={"Content-Type": "application/json"})


_READING: dict[type[routes.Route], Handler] = {
    routes.Base: _base,
    routes.Catalog: listings.catalog,
    routes.Tags: listings.tags,
    routes.Referrers: listings.referrers,
    routes.ManifestOf: content.manifest,
    routes.BlobOf: content.blob,
}


def _writing(limits: PushLimits) -> dict[type[routes.Route], dict[str, Handler]]:
    uploads, publishing = UploadHandlers(limits), ManifestHandlers(limits)
    return {
        routes.UploadOf: {
            "POST": uploads.begin,
            "PATCH": uploads.append,
            "PUT": uploads.finish,
            "GET": uploads.status,
            "DELETE": uploads.cancel,
        },
        routes.ManifestOf: {"PUT": publishing.put_manifest, "DELETE": publishing.delete_manifest},
        routes.BlobOf: {"HEAD": publishing.head_blob, "DELETE": publishing.delete_blob},
    }


def create_app(
    store: Store,
    *,
    on_request: OnRequest | None = None,
    guard: Guard | None = None,
    endpoints: Mapping[str, ServiceEndpoint] | None = None,
    writable: bool = False,
    limits: PushLimits | None = None,
    on_miss: OnMiss | None = None,
    extension: Extension | None = None,
    readiness: Readiness | None = None,
    proxies: TrustedProxies | None = None,
) -> ASGIApp:
    """The application that serves `store`; `on_request` is called after each request.

    Without a `guard` everyone may do everything that the application can; `endpoints` are those outside of
    the distribution API, by their paths. Unless it is `writable`, whoever writes is answered with 405.
    `on_miss` fetches what is not here; `readiness` keeps it from saying so while the store is not there;
    `extension` answers paths that are not the server's own. `proxies` say which client they forward for.
    """
    writing = _writing(limits or PushLimits()) if writable else {}
    application = _Application(
        store, on_request, guard, endpoints or {}, writing,
        on_miss=on_miss, extension=extension, readiness=readiness,
    )  # fmt: skip
    return application if proxies is None else _behind(proxies, application)


def _behind(proxies: TrustedProxies, application: ASGIApp) -> ASGIApp:
    async def forwarded(scope: Scope, receive: Receive, send: Send) -> None:
        proxies.apply(scope)
        await application(scope, receive, send)

    return forwarded


class _Application:
    def __init__(
        self,
        store: Store,
        on_request: OnRequest | None,
        guard: Guard | None,
        endpoints: Mapping[str, ServiceEndpoint],
        writing: Mapping[type[routes.Route], Mapping[str, Handler]],
        *,
        on_miss: OnMiss | None,
        extension: Extension | None,
        readiness: Readiness | None,
    ) -> None:
        self._store = store
        self._on_request = on_request
        self._guard = guard
        self._endpoints = endpoints
        self._writing = writing
        self._on_miss, self._readiness = on_miss, readiness
        self._extension = extension

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._on_request is None:
            await self._serve(scope, receive, send)
            return
        recorder = Recorder(scope, send, self._on_request)
        try:
            await self._serve(scope, receive, recorder.send)
        finally:
            recorder.finish()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = BodyReceiver(receive)
        response = await self._respond(Request(scope, body))
        if self._readiness is not None:
            response = await self._readiness.correct(response, scope.get(ROUTE))
        if response.status_code >= 400 and response.status_code != 408:
            await body.drain(expects_continue=b"expect" in dict(scope["headers"]))
        response.raw_headers.append(_API_VERSION)
        if scope["method"] == "HEAD":
            response.body = b""  # its Content-Length stays: that of the answer to GET
        try:
            await response(scope, receive, send)
        except (MirrorflowError, OSError) as error:
            # Too late for a status. To return without the last message breaks the connection.
            _log.error("%s %s broke off: %s", scope["method"], scope["path"], error)

    async def _respond(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except AccessRefused as refused:
            return refused.response
        except (NotFound, InvalidName) as error:
            return response_to(error)
        except MirrorflowError as error:
            return self._refused(request, error)
        except Exception:  # noqa: BLE001 - the edge: a client gets an envelope, the log the traceback
            _log.exception("%s %s failed", request.method, request.scope["path"])
            return error_response(500, "UNKNOWN", "internal error of the registry; see its log")

    async def _answer(self, request: Request) -> Response:
        check_framing(request.scope["headers"])
        if (endpoints := self._endpoints.get(request.scope["path"])) is not None:
            request.scope[ROUTE] = endpoints
            return await endpoints.answer(request)
        if self._extension is not None and not is_own(request.scope["path"]):
            request.scope[ROUTE] = self._extension
            return await self._extension.answer(request)
        route = request.scope[ROUTE] = routes.parse_route(request.scope["raw_path"])
        if self._on_miss is not None:
            route = request.scope[ROUTE] = await self._on_miss.resolve_namespace(route, request)
        store = self._store
        if self._guard is not None:
            store = await self._guard.authorise(request, route, store)
        handler = self._handler(route, request.method)
        if self._on_miss is not None:
            return await answer_and_mark_miss(self._on_miss, handler, store, route, request)
        return await handler(store, route, request)

    def _handler(self, route: routes.Route, method: str) -> Handler:
        reading, writing = _READING.get(type(route)), self._writing.get(type(route), {})
        if method in writing:
            return writing[method]
        if reading is not None and method in ("GET", "HEAD"):
            return reading
        if not self._writing:
            raise MethodNotAllowed(f"this registry is read-only: {method} is not supported here")
        allowed = ", ".join(dict.fromkeys([*(("GET", "HEAD") if reading else ()), *writing]))
        raise MethodNotAllowed(f"{method} is not supported here; {allowed} are", allowed=allowed)

    def _refused(self, request: Request, error: MirrorflowError) -> Response:
        response = response_to(error)
        if response.status_code >= 500:
            _log.error("%s %s: %s", request.method, request.scope["path"], error)
        return response
