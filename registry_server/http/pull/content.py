"""Manifests and blobs by GET and HEAD (distribution-spec, "Pulling manifests" and "Pulling blobs")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response

from registry_server.http.pull.conditional_requests import (
    entity_tag,
    is_unchanged,
    parse_range,
    range_applies,
)
from registry_server.http.pull.file_response import FileRangeResponse
from registry_server.oci.digest import Digest
from registry_server.oci.errors import BlobUnknown

if TYPE_CHECKING:
    from starlette.requests import Request

    from registry_server.http.routes import BlobOf, ManifestOf
    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.records import StoredBlob
    from registry_server.store.store import Store

_IMMUTABLE = "max-age=31536000, immutable"


async def manifest(store: Store, route: ManifestOf, request: Request) -> Response:
    """The exact bytes that were stored, under the exact media type that they were stored with."""
    repository = store.repository(route.repository)
    body = b""
    if request.method == "GET":
        descriptor, body = repository.read_manifest(route.reference)
        repository.note_pull(route.reference)
    else:
        descriptor = repository.find_manifest(route.reference).descriptor
    headers = identity(descriptor.digest, immutable=isinstance(route.reference, Digest))
    if is_unchanged(request.headers.get("If-None-Match"), descriptor.digest):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers | _entity(descriptor))


def _entity(descriptor: Descriptor) -> dict[str, str]:
    # Written here, because Starlette would add a charset to text types and count an empty HEAD body.
    return {"Content-Type": descriptor.media_type, "Content-Length": str(descriptor.size)}


async def blob(store: Store, route: BlobOf, request: Request) -> Response:
    """A whole blob or one range of it; HEAD looks at the size only and never opens the file."""
    found = store.repository(route.repository).find_blob(route.digest)
    headers = identity(route.digest, immutable=True) | {"Accept-Ranges": "bytes"}
    if is_unchanged(request.headers.get("If-None-Match"), route.digest):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = "application/octet-stream"
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(found.size)})
    asked = request.headers.get("Range")
    part = None
    if range_applies(request.headers.get("If-Range"), route.digest):
        part = parse_range(asked, found.size)
    if part is None:
        return FileRangeResponse(_open(found), range(found.size), 200, headers)
    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{found.size}"
    return FileRangeResponse(_open(found), part, 206, headers)


def _open(blob: StoredBlob) -> int:
    try:
        fd = blob.descriptor()
    except FileNotFoundError:
        raise BlobUnknown(f"the blob {blob.digest} was removed a moment ago") from None
    assert fd is not None, "so far, every store is made of files"
    return fd


def identity(digest: Digest, *, immutable: bool) -> dict[str, str]:
    """The headers that say which content this is; `immutable` where it was asked for by digest."""
    headers = {
        "Docker-Content-Digest": str(digest),
        "ETag": entity_tag(digest),
        # Media types are whatever was pushed: no browser shall guess one that runs.
        "X-Content-Type-Options": "nosniff",
    }
    return headers | ({"Cache-Control": _IMMUTABLE} if immutable else {})
