"""Responses to cache misses: as the receiver of misses decides, or 503 when it does not respond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry_server.http.errors import error_response
from registry_server.http.pull_through.webhook_client import ReceiverFailed

if TYPE_CHECKING:
    from starlette.responses import Response

NONSENSE = "the fetch service returned an invalid response"


def stale(response: Response, reason: str) -> Response:
    """RFC 7234, 5.5.7: a warning for people, on content that may be out of date."""
    text = reason.encode("ascii", "replace").decode().replace("\\", "/").replace('"', "'")
    response.headers["Warning"] = f'299 - "{" ".join(text.split())[:400]}"'
    return response


def unavailable(error: ReceiverFailed) -> Response:
    detail = {"cause": str(error)}
    message = "content is not cached, and the fetch service is not responding"
    return error_response(503, "UNKNOWN", message, detail=detail, headers={"Retry-After": "2"})


def refused(found: dict[str, Any]) -> Response:
    """The receiver's own words; a status that makes no sense is a bad gateway."""
    status = found.get("status")
    if found["outcome"] != "refused" or type(status) is not int or not 400 <= status < 600:
        return unavailable(ReceiverFailed(NONSENSE))
    wait = found.get("retryAfter")
    headers = {"Retry-After": str(max(1, round(wait)))} if isinstance(wait, int | float) else {}
    code, message = str(found.get("code", "UNKNOWN")), str(found.get("message", ""))
    return error_response(status, code, message, detail=found.get("detail"), headers=headers)
