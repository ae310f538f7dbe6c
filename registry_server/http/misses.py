"""Which answers the store had by itself, and which were fetched for the one who asked: for the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_server.http.access_log import MISSED
from registry_server.http.routes import ManifestOf
from registry_server.oci.digest import Digest
from registry_server.oci.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from registry_server.http.on_miss import OnMiss
    from registry_server.store.store import Store

    Handler = Callable[[Store, Any, Request], Awaitable[Response]]


async def answer_noting(
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
