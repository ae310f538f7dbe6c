"""Endpoints outside the distribution API: /livez, /readyz, /metrics, token issuing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response

from registry_server.http.errors import error_response
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from registry_server.http.auth.guard import Guard
    from registry_server.http.metrics.prometheus import Metrics
    from registry_server.store.store import Store


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """An endpoint at a path of its own; `kind` is what the access log calls it."""

    kind: str
    answer: Callable[[Request], Awaitable[Response]]


def service_endpoints(store: Store, guard: Guard | None, metrics: Metrics) -> dict[str, ServiceEndpoint]:
    """Those that a server has, by path."""
    found = {
        "/metrics": ServiceEndpoint("metrics", partial(metrics.answer, guard)),
        "/livez": ServiceEndpoint("health", _alive),
        "/readyz": ServiceEndpoint("health", partial(_ready, store)),
    }
    if guard is not None and guard.authenticator.token_issuer is not None:
        from registry_server.http.auth import authentication, token_endpoint

        found[authentication.TOKEN_PATH] = ServiceEndpoint("token", partial(token_endpoint.token, guard))
    return found


async def _alive(_request: Request) -> Response:
    """Whoever gets this answer has reached a process whose event loop turns."""
    return _plain("ok")


async def _ready(store: Store, _request: Request) -> Response:
    """503 while the store cannot be read: a load balancer goes elsewhere then."""
    try:
        await asyncio.to_thread(_look, store)
    except (MirrorflowError, OSError):
        return error_response(503, "UNKNOWN", "the store cannot be read; see the log")
    return _plain("ok")


def _look(store: Store) -> None:
    store.roots[0].require_present()


def _plain(text: str) -> Response:
    return Response(f"{text}\n".encode(), headers={"Content-Type": "text/plain", "Cache-Control": "no-store"})
