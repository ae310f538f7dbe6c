"""Pushing manifests, and deleting (distribution-spec, "Pushing Manifests" and "Content Management")."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from registry_server.http.errors import Refused
from registry_server.http.pull import content
from registry_server.http.pull.conditional_requests import entity_tag, precondition
from registry_server.http.push.common import check_free_space, warning
from registry_server.http.request_body import read_whole
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ManifestInvalid, ManifestUnknown, NotFound
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, is_schema1, parse_manifest
from registry_server.oci.reference import Tag
from registry_server.store.closure import absent_from
from registry_server.store.records import TagRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from registry_server.http.push.push_limits import PushLimits
    from registry_server.http.routes import BlobOf, ManifestOf
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest
    from registry_server.store.closure import Absent
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store

_MOST_TAGS = 100  # of one request
_SHOWN = 5
# It would be served as such, from an address that a browser may hold credentials for.
_FOR_BROWSERS = re.compile(r"text/.*|.*(?:html|xml|script)")


class ManifestHandlers:
    """PUT of manifests, DELETE of manifests, tags and blobs."""

    def __init__(self, limits: PushLimits) -> None:
        self._limits = limits

    async def put_manifest(self, store: Store, route: ManifestOf, request: Request) -> Response:
        """By tag or by digest, and then with `?tag=` for any number of tags (end-7a, end-7b)."""
        tags = _tags(route, request)
        only_if = precondition(request.headers)
        body = await read_whole(request, limit=MAX_MANIFEST_BYTES, idle=self._limits.body_idle_seconds)
        check_free_space(store, route.repository, len(body), spare=self._limits.spare_bytes)
        manifest = _parsed(body, request.headers.get("Content-Type"))
        repository = store.repository(route.repository)
        digest = route.reference if isinstance(route.reference, Digest) else None
        absent = await asyncio.to_thread(self._look, repository, manifest)
        descriptor = await asyncio.to_thread(_keep, repository, manifest, digest)
        for tag in tags:
            await asyncio.to_thread(_tag, repository, tag, descriptor, absent, only_if)
        headers = _identity(route, descriptor) | _heard(
            manifest, tags if request.query_params.get("tag") else ()
        )
        return Response(status_code=201, headers=headers | _remarks(repository, manifest, absent))

    def _look(self, repository: Repository, manifest: Manifest) -> Absent:
        """What the manifest names that is not here: allowed, unless the server wants images to be complete.

        (distribution-spec, "Pushing Manifests": a registry MAY refuse.) An index may always be sparse.
        """
        for blob in repository.missing(manifest):
            if blob.data is not None:  # image-spec, descriptor.md: the content itself, and it was checked
                repository.put_blob(blob, blob.data)
        absent = absent_from(repository, manifest)
        if absent.blobs and self._limits.require_blobs:
            message = f"push the blobs first; these are not in {repository.name}: {_some(absent.blobs)}"
            detail = [{"digest": each} for each in absent.blobs]
            raise Refused(400, "MANIFEST_BLOB_UNKNOWN", message, detail=detail)
        return absent

    async def delete_manifest(self, store: Store, route: ManifestOf, _request: Request) -> Response:
        """A tag alone, or a manifest with all tags on it (end-9)."""
        repository = store.repository(route.repository)
        if isinstance(route.reference, Digest):
            await asyncio.to_thread(repository.delete_manifest, route.reference)
        else:
            await asyncio.to_thread(_delete_tag, repository, route.reference)
        return Response(status_code=202)

    async def head_blob(self, store: Store, route: BlobOf, request: Request) -> Response:
        """Who is told that a blob is there pushes a manifest next: its age counts from now on.

        Without that a collector might take a blob that nothing names yet, between the two requests.
        """
        response = await content.blob(store, route, request)
        await asyncio.to_thread(store.repository(route.repository).renew_blob, route.digest)
        return response

    async def delete_blob(self, store: Store, route: BlobOf, _request: Request) -> Response:
        """From this repository: others that hold it keep it (end-10)."""
        await asyncio.to_thread(store.repository(route.repository).delete_blob, route.digest)
        return Response(status_code=202)


def _tags(route: ManifestOf, request: Request) -> list[Tag]:
    """All that the manifest is to get. Raises `InvalidName`, `Refused`."""
    given = [Tag(text) for text in request.query_params.getlist("tag")]
    if isinstance(route.reference, Tag):
        given.insert(0, route.reference)
    if len(given) > _MOST_TAGS:
        raise Refused(
            414, "UNSUPPORTED", f"{len(given)} tags are too many at once; the limit is {_MOST_TAGS}"
        )
    return list(dict.fromkeys(given))


def _parsed(body: bytes, content_type: str | None) -> Manifest:
    if is_schema1(body, content_type):
        raise ManifestInvalid("this is a manifest of Docker's schema 1; push the image with a newer client")
    manifest = parse_manifest(body, content_type)
    if _FOR_BROWSERS.fullmatch(manifest.media_type):
        raise ManifestInvalid(
            f"{manifest.media_type} is not accepted for a manifest: browsers would display or run it"
        )
    return manifest


def _keep(repository: Repository, manifest: Manifest, digest: Digest | None) -> Descriptor:
    descriptor = manifest.descriptor(digest.algorithm if digest else "sha256")
    _check_type(repository, descriptor)
    return repository.put_manifest(manifest, digest)


def _check_type(repository: Repository, descriptor: Descriptor) -> None:
    """One body is one thing: CVE-2021-41190 lives of a media type that changes."""
    try:
        held = repository.find_manifest(descriptor.digest).descriptor.media_type
    except NotFound:
        return
    if held != descriptor.media_type:
        raise ManifestInvalid(
            f"{descriptor.digest} is stored as {held}, and cannot be {descriptor.media_type} too"
        )


def _tag(
    repository: Repository, tag: Tag, descriptor: Descriptor, absent: Absent,
    only_if: Callable[[TagRecord | None], bool] | None,
) -> None:  # fmt: skip
    record = TagRecord(
        descriptor.digest, descriptor.media_type, descriptor.size, time.time(), sparse=absent.all
    )
    repository.put_tag(tag, record, only_if=only_if)


def _delete_tag(repository: Repository, tag: Tag) -> None:
    if repository.tag(tag) is None:
        raise ManifestUnknown(f"there is no tag {repository.name}:{tag}")
    repository.delete_tag(tag)


def _identity(route: ManifestOf, descriptor: Descriptor) -> dict[str, str]:
    return {
        "Location": f"/v2/{route.repository}/manifests/{descriptor.digest}",
        "Docker-Content-Digest": str(descriptor.digest),
        "ETag": entity_tag(descriptor.digest),
    }


def _heard(manifest: Manifest, tags: Sequence[Tag]) -> dict[str, str]:
    """That the subject is on record, and which tags were set: clients act on it if it is missing."""
    subject = {"OCI-Subject": str(manifest.subject.digest)} if manifest.subject else {}
    return subject | ({"OCI-Tag": ", ".join(tags)} if tags else {})


def _remarks(repository: Repository, manifest: Manifest, absent: Absent) -> dict[str, str]:
    """What is allowed, and still may not be what somebody meant."""
    if absent.all:
        return warning(f"the manifest names content that is not in this repository: {_some(absent.all)}")
    if manifest.subject and not _holds(repository, manifest.subject.digest):
        return warning(f"the subject {manifest.subject.digest} is not in this repository")
    return {}


def _some(digests: Sequence[Digest]) -> str:
    return ", ".join(digests[:_SHOWN]) + (" ..." if len(digests) > _SHOWN else "")


def _holds(repository: Repository, digest: Digest) -> bool:
    try:
        repository.find_manifest(digest)
    except NotFound:
        return False
    return True
