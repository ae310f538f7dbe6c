"""Whether the store can be reached: for /readyz, and before a client is told that something does not exist.

A server whose volume was unmounted, or whose file server does not answer, sees an empty folder or nothing. It
must not answer 404 then: a load balancer passes that on, while it would take a 503 to another server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from registry_server.http.errors import error_response
from registry_server.http.routes import Catalog, Referrers
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

_log = logging.getLogger("registry_server")
_TIMEOUT: Final = 3.0  # seconds; kubelet and most load balancers wait for 1 to 5
_BELIEVED_FOR: Final = 1.0  # seconds after a failed look in which answers of 404 do not look again


class Readiness:
    """Looks at the store. Of one process, whose event loop alone uses it.

    `look` returns when the store can be read, and raises `MirrorflowError` or OSError otherwise. `is_quick`:
    it takes some microseconds, as in a folder, and no request to another host. For /readyz it runs in a
    thread: one that hangs (a network file system does not answer) is a failure after `timeout` seconds, and
    no second thread is sent after it.
    """

    def __init__(
        self,
        look: Callable[[], None],
        *,
        is_quick: bool = False,
        timeout: float = _TIMEOUT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look, self._is_quick = look, is_quick
        self._timeout, self._clock = timeout, clock
        self._running: asyncio.Task[str] | None = None
        self._problem, self._looked = "", float("-inf")

    async def problem(self) -> str:
        """Why the store cannot be reached, for the log; "" when it can."""
        return self._note(await self._looked_again())

    async def correct(self, response: Response, route: object) -> Response:
        """`response`, or 503 where it says that something does not exist because the store is not there."""
        says_absent = response.status_code == 404 or isinstance(route, Catalog | Referrers)
        if says_absent and (self._failed_just_now() or await self._quick_problem()):
            return unreachable()
        return response

    async def _quick_problem(self) -> str:
        """Without a thread where that is quick: it would cost six times as much as the whole answer.

        A file system that hangs would have held the handler before.
        """
        return self._note(self._try()) if self._is_quick else await self.problem()

    def _note(self, found: str) -> str:
        if found and found != self._problem:
            _log.error("the store cannot be reached: %s", found)
        self._problem, self._looked = found, self._clock()
        return found

    def _failed_just_now(self) -> bool:
        return bool(self._problem) and self._clock() - self._looked < _BELIEVED_FOR

    async def _looked_again(self) -> str:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(asyncio.to_thread(self._try))
        # shield: the time-out ends the waiting, and a thread cannot be ended.
        try:
            return await asyncio.wait_for(asyncio.shield(self._running), self._timeout)
        except TimeoutError:
            return f"no answer of the file system within {self._timeout:g} s"

    def _try(self) -> str:
        try:
            self._look()
        except (MirrorflowError, OSError) as error:
            return str(error)
        return ""


def unreachable() -> Response:
    """503: clients of a mirror go on to the next host, and load balancers to the next server."""
    message = "the registry cannot reach its store at the moment; see its log"
    return error_response(503, "UNKNOWN", message, headers={"Retry-After": "5"})
