"""Endpoints outside the distribution API: /livez, /readyz, /metrics, token issuing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from starlette.responses import Response

from registry_server.http.readiness import unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from registry_server.http.auth.guard import Guard
    from registry_server.http.metrics.prometheus import Metrics
    from registry_server.http.readiness import Readiness


@dataclass(frozen=True, slots=True)
class ServiceEndpoint:
    """An endpoint at a path of its own; `kind` is what the access log calls it."""

    kind: str
    answer: Callable[[Request], Awaitable[Response]]


def service_endpoints(
    readiness: Readiness, guard: Guard | None, metrics: Metrics
) -> dict[str, ServiceEndpoint]:
    """Those that a server has, by path."""
    found = {
        "/metrics": ServiceEndpoint("metrics", partial(metrics.answer, guard)),
        "/livez": ServiceEndpoint("health", _alive),
        "/readyz": ServiceEndpoint("health", partial(_ready, readiness)),
    }
    if guard is not None and guard.authenticator.token_issuer is not None:
        from registry_server.http.auth import authentication, token_endpoint

        found[authentication.TOKEN_PATH] = ServiceEndpoint("token", partial(token_endpoint.token, guard))
    return found


async def _alive(_request: Request) -> Response:
    """Whoever gets this answer has reached a process whose event loop turns."""
    return _plain("ok")


async def _ready(readiness: Readiness, _request: Request) -> Response:
    """503 while the store cannot be reached: a load balancer goes elsewhere then."""
    return unreachable() if await readiness.problem() else _plain("ok")


def _plain(text: str) -> Response:
    return Response(f"{text}\n".encode(), headers={"Content-Type": "text/plain", "Cache-Control": "no-store"})
