"""Endpoints beside the distribution API: is it alive, is it ready, and where tokens are to be had."""

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

    from registry_server.http.access.guard import Guard
    from registry_server.http.metrics import Metrics
    from registry_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Beside:
    """An endpoint at a path of its own; `kind` is what the access log calls it."""

    kind: str
    answer: Callable[[Request], Awaitable[Response]]


def endpoints(store: Store, guard: Guard | None, metrics: Metrics) -> dict[str, Beside]:
    """Those that a server has, by path."""
    found = {
        "/metrics": Beside("metrics", partial(metrics.answer, guard)),
        "/livez": Beside("health", _alive),
        "/readyz": Beside("health", partial(_ready, store)),
    }
    if guard is not None and guard.doorman.office is not None:
        from registry_server.http.access import identity, token_endpoint

        found[identity.TOKEN_PATH] = Beside("token", partial(token_endpoint.token, guard))
    return found


async def _alive(_request: Request) -> Response:
    """Whoever gets this answer has reached a process whose event loop turns."""
    return _plain("ok")


async def _ready(store: Store, _request: Request) -> Response:
    """503 while the store cannot be read: a load balancer goes elsewhere then."""
    try:
        await asyncio.to_thread(_look, store)
    except (MirrorflowError, OSError):
        return error_response(503, "UNKNOWN", "the store cannot be read; the log says why")
    return _plain("ok")


def _look(store: Store) -> None:
    with (store.root / "format.json").open("rb") as file:
        file.read(1)


def _plain(text: str) -> Response:
    return Response(f"{text}\n".encode(), headers={"Content-Type": "text/plain", "Cache-Control": "no-store"})
