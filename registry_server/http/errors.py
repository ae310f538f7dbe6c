"""Errors as clients of a registry expect them (distribution-spec, "Error Codes")."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from registry_server.http.pull.conditional_requests import RangeNotSatisfiable
from registry_server.http.pull.paging import PageInvalid
from registry_server.oci.errors import (
    ContentError,
    DigestMismatch,
    InvalidName,
    MirrorflowError,
    NotFound,
    SizeMismatch,
)
from registry_server.store.errors import ClosureIncomplete, StillNeeded, StoreFull, StoreMissing, TagMoved

if TYPE_CHECKING:
    from collections.abc import Mapping


class MethodNotAllowed(MirrorflowError):
    """This registry is read-only, or the endpoint knows no such method."""

    def __init__(self, message: str, *, allowed: str = "GET, HEAD") -> None:
        super().__init__(message)
        self.allowed = allowed


class Refused(MirrorflowError):
    """What a client has to be told, in full: status, code, message."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        detail: Any = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers, self.detail = status, code, headers, detail


def error_response(
    status: int, code: str, message: str, *, detail: Any = None, headers: Mapping[str, str] | None = None
) -> Response:
    """The envelope of every error: `{"errors": [{"code", "message", "detail"}]}`."""
    body = json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()
    return Response(body, status, {"Content-Type": "application/json", **(headers or {})})


def response_to(error: MirrorflowError) -> Response:
    """What a client is told. Errors of the store keep their text for the log: it names paths."""
    if isinstance(error, StoreFull):
        return error_response(
            507, "DENIED", "the disk of the registry is full; its operator has to free some space"
        )
    for kind, status, code in _ANSWERS:
        if isinstance(error, kind):
            return error_response(
                getattr(error, "status", status),
                code or getattr(error, "code", "UNKNOWN"),
                str(error),
                detail=_detail(error),
                headers=_headers(error),
            )
    # 503 rather than 500 where it may pass: clients of a mirror then go on to the next host.
    status = 503 if error.retryable or isinstance(error, StoreMissing) else 500
    return error_response(status, "UNKNOWN", "the registry cannot access its store; see its log")


# Where there is no code, the error has one.
_ANSWERS: tuple[tuple[type[MirrorflowError], int, str], ...] = (
    (Refused, 400, ""),
    (NotFound, 404, ""),
    (InvalidName, 400, ""),
    (PageInvalid, 400, ""),
    (RangeNotSatisfiable, 416, "UNSUPPORTED"),
    (MethodNotAllowed, 405, "UNSUPPORTED"),
    (DigestMismatch, 400, "DIGEST_INVALID"),
    (SizeMismatch, 400, "SIZE_INVALID"),
    (ContentError, 400, "MANIFEST_INVALID"),
    (ClosureIncomplete, 400, "MANIFEST_BLOB_UNKNOWN"),
    # zot's answer too. The specification has none for "not now", and 405 for what cannot be deleted.
    (StillNeeded, 405, "DENIED"),
    (TagMoved, 412, "DENIED"),
)


def _detail(error: MirrorflowError) -> Any:
    if isinstance(error, ClosureIncomplete):
        return [{"digest": digest} for digest in error.missing]
    return getattr(error, "detail", None)


def _headers(error: MirrorflowError) -> Mapping[str, str] | None:
    match error:
        case RangeNotSatisfiable():
            return {"Content-Range": f"bytes */{error.size}", "Accept-Ranges": "bytes"}
        case MethodNotAllowed():
            return {"Allow": error.allowed}
        case StillNeeded():
            return {"Allow": "GET, HEAD"}
    return getattr(error, "headers", None)
