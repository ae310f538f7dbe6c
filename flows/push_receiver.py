"""The port for notifications of pushes (`sync.notifications`): open to others, so it gives away nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from flows.notifications import NotificationRefused, read_notification
from flows.posts import PostServer
from tasks.on_demand.answers import TooManyPushes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from tasks.on_demand.answers import Push

log = logging.getLogger("mirrorflow.notifications")

MAX_BODY: Final = 1024 * 1024  # bytes: zot sends the manifest along
_SECONDS: Final = 15.0  # for a whole call
_AT_ONCE: Final = 32


class PushReceiver(PostServer):
    """`take` gets each push, and says how many syncs come of it."""

    def __init__(
        self,
        listener: socket.socket,
        secret: bytes,
        take: Callable[[Push], int],
        *,
        seconds: float = _SECONDS,
    ) -> None:
        super().__init__(listener, self._post, max_body=MAX_BODY, seconds=seconds, at_once=_AT_ONCE)
        self._secret, self._take = secret, take

    def _post(self, target: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and body: 202 with the number of syncs, which have begun."""
        try:
            pushes = read_notification(target, headers, body, self._secret)
            return 202, {"syncs": sum(self._take(push) for push in pushes)}
        except NotificationRefused as refused:
            log.warning("a notification was refused with %d: %s", refused.status, refused)
            return refused.status, {"error": str(refused)}
        except TooManyPushes as error:
            return 503, {"error": str(error)}
