"""Manifests and blobs by GET and HEAD (distribution-spec, "Pulling manifests" and "Pulling blobs")."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.responses import Response

from registry_server.http.forwarded import ACCEL
from registry_server.http.pull.conditional_requests import (
    entity_tag,
    is_unchanged,
    parse_range,
    range_applies,
)
from registry_server.http.pull.file_response import FileRangeResponse
from registry_server.http.pull.stored_response import StoredBlobResponse, ask
from registry_server.oci.digest import Digest
from registry_server.oci.errors import BlobUnknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from registry_server.http.routes import BlobOf, ManifestOf
    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.records import StoredBlob
    from registry_server.store.store import Store

_IMMUTABLE = "max-age=31536000, immutable"


async def manifest(store: Store, route: ManifestOf, request: Request) -> Response:
    """The exact bytes that were stored, under the exact media type that they were stored with."""
    descriptor, body = await ask(store, _look_up, store, route, request.method)
    headers = identity(descriptor.digest, immutable=isinstance(route.reference, Digest))
    if is_unchanged(request.headers.get("If-None-Match"), descriptor.digest):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers | _entity(descriptor))


def _look_up(store: Store, route: ManifestOf, method: str) -> tuple[Descriptor, bytes]:
    repository = store.repository(route.repository)
    if method != "GET":
        return repository.find_manifest(route.reference).descriptor, b""
    found = repository.read_manifest(route.reference)
    repository.note_pull(route.reference)
    return found


def _entity(descriptor: Descriptor) -> dict[str, str]:
    # Written here, because Starlette would add a charset to text types and count an empty HEAD body.
    return {"Content-Type": descriptor.media_type, "Content-Length": str(descriptor.size)}


async def blob(store: Store, route: BlobOf, request: Request) -> Response:
    """A whole blob or one range of it; HEAD looks at the size only and never opens the file."""
    found = await ask(store, store.repository(route.repository).find_blob, route.digest)
    return await blob_response(store, found, route, request)


async def blob_response(store: Store, found: StoredBlob, route: BlobOf, request: Request) -> Response:
    """Of a blob that the client may have.

    From object storage by 307 (RFC 9110, 15.4.8): the client repeats its request there, with its Range.
    """
    headers = identity(route.digest, immutable=True) | {"Accept-Ranges": "bytes"}
    if is_unchanged(request.headers.get("If-None-Match"), route.digest):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = "application/octet-stream"
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(found.size)})
    asked = request.headers.get("Range")
    part = None
    if range_applies(request.headers.get("If-Range"), route.digest):
        part = parse_range(asked, found.size)  # what no blob has is refused here, whoever has the bytes
    if address := await ask(store, found.url, store.redirect_seconds):
        return Response(status_code=307, headers=_redirected(headers, address))
    if location := _location(found, request):
        return Response(headers=headers | {"X-Accel-Redirect": location, "Content-Length": "0"})
    if part is None:
        return _sent(found, range(found.size), 200, headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{found.size}"
    return _sent(found, part, 206, headers)


def _redirected(headers: Mapping[str, str], address: str) -> dict[str, str]:
    """An address is good for a while only: nobody may remember it."""
    kept = {name: text for name, text in headers.items() if name not in ("Content-Type", "Cache-Control")}
    return kept | {"Location": address, "Content-Length": "0", "Cache-Control": "no-store"}


def _location(blob: StoredBlob, request: Request) -> str:
    """Where nginx finds the file, "" where it shall not send it.

    It reads the Range of the client itself. What If-Range says of our entity tags it does not know.
    """
    accel = request.scope.get(ACCEL)
    path = blob.path() if accel and "If-Range" not in request.headers else None
    return f"{accel}{quote(path)}" if path else ""


def _sent(blob: StoredBlob, positions: range, status: int, headers: Mapping[str, str]) -> Response:
    try:
        fd = blob.descriptor()
    except FileNotFoundError:
        raise BlobUnknown(f"the blob {blob.digest} was removed a moment ago") from None
    if fd is None:
        return StoredBlobResponse(blob, positions, status, headers)
    return FileRangeResponse(fd, positions, status, headers)


def identity(digest: Digest, *, immutable: bool) -> dict[str, str]:
    """The headers that say which content this is; `immutable` where it was asked for by digest."""
    headers = {
        "Docker-Content-Digest": str(digest),
        "ETag": entity_tag(digest),
        # Media types are whatever was pushed: no browser shall guess one that runs.
        "X-Content-Type-Options": "nosniff",
        # And one that an upstream calls text/html shall not act for who has signed in to the page here.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    return headers | ({"Cache-Control": _IMMUTABLE} if immutable else {})
