"""A registry that is written to (distribution-spec "Push"): blobs as streams, manifests, tags, referrers."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci import media_types
from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName
from tasks.upstream import bodies
from tasks.upstream.endpoints import Call
from tasks.upstream.errors import UpstreamError, UpstreamNotFound, UpstreamProtocolError, Where
from tasks.upstream.lists.paging import is_perhaps_cut, names
from tasks.upstream.push.session import Sessions
from tasks.upstream.push.upload import BlobUpload
from tasks.upstream.registry import UpstreamRegistry

if TYPE_CHECKING:
    from registry_server.oci.manifest import Manifest
    from tasks.upstream.endpoints import Endpoint
    from tasks.upstream.login.credentials import Credentials
    from tasks.upstream.options import RegistryOptions
    from tasks.upstream.push.upload import Feed

NO_REPOSITORY: Final = frozenset({"NAME_UNKNOWN", "REPOSITORY_NOT_FOUND"})
"""The codes of answers about a repository that is not there."""
_SCHEMA: Final = 2
_MOST_KEPT: Final = 1000  # uploads that broke off and may go on


class PushRegistry(UpstreamRegistry):
    """Reads as an upstream does, and writes. Thread-safe.

    Every method may raise an `UpstreamError` or `Stopped`. Repository names are the registry's own, without
    the path of its url.
    """

    def __init__(
        self, options: RegistryOptions, credentials: Credentials, *, chunk: int | None = None, **more: Any
    ) -> None:
        """`chunk`: most bytes of a blob in one request; None: all of it. `more` as for `UpstreamRegistry`."""
        super().__init__(options, credentials, actions="pull,push", **more)
        self._chunk = chunk
        self._broken: dict[tuple[str, Digest], BlobUpload] = {}
        self._broken_lock = Lock()
        self._lists = Lock()

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """One HEAD (end-2)."""
        call = Call("HEAD blob", f"blobs/{digest}", RepositoryName(repository), digest)
        return self._endpoints.run(partial(self._is_there, call))

    def _is_there(self, call: Call, endpoint: Endpoint) -> bool:
        try:
            with self._exchanger.open(endpoint, call):
                return True
        except UpstreamNotFound:
            return False

    def upload(self, repository: str, blob: Descriptor, feed: Feed, *, mount_from: str = "") -> bool:
        """Bring a blob into a repository: mounted if possible, else sent. False where it was mounted.

        `mount_from` may be `repository` itself: one request asks whether it is there, and if not begins.
        `feed` writes the blob into a sink, from `sink.offset` on. What it wrote is hashed. A connection that
        breaks is gone on with from where the registry is, as long as bytes arrive; an upload that broke off
        for good is gone on with by the next call. Raises `ContentError` for bytes that are not the blob's,
        and what `feed` raises.
        """
        key = (repository, blob.digest)
        with self._broken_lock:
            upload = self._broken.pop(key, None)
        upload = upload or self._new_upload(RepositoryName(repository), blob)
        try:
            return upload.run(feed, mount_from)
        except BaseException:
            if upload.session is not None:
                self._keep(key, upload)
            raise

    def _new_upload(self, repository: RepositoryName, blob: Descriptor) -> BlobUpload:
        sessions = Sessions(self._exchanger, self._endpoints, repository, blob)
        count = partial(self._exchanger.count, "bytes sent")
        has_blob = partial(self.has_blob, repository, blob.digest)
        return BlobUpload(sessions, blob, self._waits, has_blob, count, self._chunk)

    def _keep(self, key: tuple[str, Digest], upload: BlobUpload) -> None:
        with self._broken_lock:
            self._broken[key] = upload
            while len(self._broken) > _MOST_KEPT:
                del self._broken[next(iter(self._broken))]

    def open_and_cancel(self, repository: str) -> None:
        """Begin an upload and end it without a byte: nothing is raised where a push would be let in."""
        nothing = Descriptor("application/octet-stream", Digest.of(b""), 0)
        sessions = Sessions(self._exchanger, self._endpoints, RepositoryName(repository), nothing)
        session = sessions.begin()
        if session is not None:
            with suppress(UpstreamError):  # it forgets it after a while
                sessions.cancel(session)

    def put_manifest(self, repository: str, reference: str, manifest: Manifest) -> bool:
        """Under a tag or its digest (end-7). Whether the registry lists it as a referrer itself, or need not.

        Raises `UpstreamProtocolError` where the registry says that it is another digest.
        """
        call = Call(
            "PUT manifest",
            f"manifests/{reference}",
            RepositoryName(repository),
            reference,
            headers={"Content-Type": manifest.media_type},
            content=manifest.body,
        )
        return self._endpoints.run(partial(self._put, call, manifest))

    def _put(self, call: Call, manifest: Manifest, endpoint: Endpoint) -> bool:
        with self._exchanger.open(endpoint, call) as answer:
            said = answer.headers.get("Docker-Content-Digest", "")
            listed = answer.headers.get("OCI-Subject", "")
            expected = Digest.of(manifest.body)
            if said.startswith("sha256:") and said != expected:
                raise UpstreamProtocolError(answer.where, f"it says that it stored {said}, not {expected}")
        return manifest.subject is None or bool(listed)

    def list_referrer(self, repository: str, subject: Digest, referrer: Descriptor) -> None:
        """Put a referrer into the list that clients keep where the registry has no referrers API.

        distribution-spec "Pushing Manifests with Subject": the list is an index under a tag. Anything else
        there is somebody's, and a failure.
        """
        with self._lists:  # read, changed and written as a whole
            tag = fallback_tag(subject)
            entries = self._listed(repository, tag)
            if any(each.get("digest") == referrer.digest for each in entries):
                return
            self._put_list(repository, tag, [*entries, referrer.to_json()])

    def _listed(self, repository: str, tag: str) -> list[dict[str, Any]]:
        try:
            body = self.manifest(repository, tag).body
        except UpstreamNotFound:
            return []
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        entries = document.get("manifests") if isinstance(document, dict) else None
        if not isinstance(entries, list):
            where = Where(self.name, repository, tag)
            raise UpstreamProtocolError(
                where, "it is no list of referrers, and is not replaced; delete the tag"
            )
        return [each for each in entries if isinstance(each, dict)]

    def _put_list(self, repository: str, tag: str, entries: list[dict[str, Any]]) -> None:
        document = {"schemaVersion": _SCHEMA, "mediaType": media_types.OCI_INDEX, "manifests": entries}
        call = Call(
            "PUT manifest",
            f"manifests/{tag}",
            RepositoryName(repository),
            tag,
            headers={"Content-Type": media_types.OCI_INDEX},
            content=json.dumps(document, separators=(",", ":")).encode(),
        )
        self._endpoints.run(partial(self._is_there, call))

    def names(self, repository: str, reference: str) -> Digest | None:
        """The digest that a tag names, by one HEAD; None where there is no such tag, or no such repository.

        A HEAD without a digest is answered by a GET.
        """
        call = Call(
            "HEAD manifest",
            f"manifests/{reference}",
            RepositoryName(repository),
            reference,
            headers={"Accept": media_types.ACCEPT},
        )
        try:
            found = self._endpoints.run(partial(self._announced, call))
            return found or self.manifest(repository, reference).digest
        except UpstreamNotFound:
            return None

    def _announced(self, call: Call, endpoint: Endpoint) -> Digest | None:
        with self._exchanger.open(endpoint, call) as answer:
            try:
                return Digest(answer.headers.get("Docker-Content-Digest", ""))
            except InvalidName:
                return None

    def listed_at_once(self, repository: str) -> frozenset[str] | None:
        """All tags of a repository; None where the first page of the list may not have them all.

        A repository that is not there has none. Any other error is None too: who asks for a tag meets it.
        """
        call = Call("GET tags", "tags/list", RepositoryName(repository))
        try:
            return self._endpoints.run(partial(self._page, call))
        except UpstreamNotFound as error:
            return frozenset() if error.code in NO_REPOSITORY else None
        except UpstreamError:
            return None

    def _page(self, call: Call, endpoint: Endpoint) -> frozenset[str] | None:
        with self._exchanger.open(endpoint, call) as answer:
            document = bodies.read_object(answer, bodies.MAX_LIST, "the list of tags")
            found = names(document.get("tags"), "`tags`", answer.where)
            cut = "Link" in answer.headers or is_perhaps_cut(found, len(found), always=False)
        return None if cut else frozenset(found)

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Take a tag away (end-9); False where the registry does not delete tags. Gone already is deleted."""
        call = Call("DELETE manifest", f"manifests/{tag}", RepositoryName(repository), tag)
        try:
            self._endpoints.run(partial(self._is_there, call))
        except UpstreamError as error:
            if error.status in (400, 405, 501):
                return False
            raise
        return True
