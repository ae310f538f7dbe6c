"""Errors as clients of a registry expect them (distribution-spec, "Error Codes")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from registry_server.http.paging import PageInvalid
from registry_server.http.ranges import RangeNotSatisfiable
from registry_server.oci.errors import InvalidName, MirrorflowError, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping


class MethodNotAllowed(MirrorflowError):
    """This registry is read-only, or the endpoint knows no such method."""


def error_response(
    status: int, code: str, message: str, *, detail: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The envelope of every error: `{"errors": [{"code", "message", "detail"}]}`."""
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()
    return Response(body, status, {"Content-Type": "application/json", **(headers or {})})


def response_to(error: MirrorflowError) -> Response:
    """What a client is told. Errors of the store keep their text for the log: it names paths."""
    match error:
        case NotFound() | InvalidName():
            status = 404 if isinstance(error, NotFound) else 400
            return error_response(status, error.code, str(error))
        case PageInvalid():
            return error_response(400, error.code, str(error))
        case RangeNotSatisfiable():
            headers = {"Content-Range": f"bytes */{error.size}", "Accept-Ranges": "bytes"}
            return error_response(416, "UNSUPPORTED", str(error), headers=headers)
        case MethodNotAllowed():
            return error_response(405, "UNSUPPORTED", str(error), headers={"Allow": "GET, HEAD"})
    # 503 rather than 500 where it may pass: clients of a mirror then go on to the next host.
    status = 503 if error.retryable else 500
    return error_response(status, "UNKNOWN", "the registry cannot read its store; its log says why")
