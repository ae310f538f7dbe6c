"""The answers of access control, ready to be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.http.errors import error_response
from registry_server.oci.errors import MirrorflowError

if TYPE_CHECKING:
    from starlette.responses import Response


class AccessRefused(MirrorflowError):
    """A request that is not let through; `response` is what the client is told."""

    def __init__(self, message: str, response: Response) -> None:
        super().__init__(message)
        self.response = response


def unauthorised(challenge: str, message: str = "authentication required") -> AccessRefused:
    """401: sign in, or sign in as somebody else. The same for what is there and what is not."""
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    return AccessRefused(message, error_response(401, "UNAUTHORIZED", message, headers=headers))


def denied(message: str) -> AccessRefused:
    """403: who you are is known, and it does not suffice."""
    return AccessRefused(message, error_response(403, "DENIED", message))


def too_many(message: str) -> AccessRefused:
    response = error_response(429, "TOOMANYREQUESTS", message, headers={"Retry-After": "5"})
    return AccessRefused(message, response)


def unavailable(message: str) -> AccessRefused:
    """503: whether the credentials are right cannot be found out now."""
    response = error_response(503, "UNAVAILABLE", message, headers={"Retry-After": "30"})
    return AccessRefused(message, response)
