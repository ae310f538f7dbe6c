"""Another registry as a destination: what it is asked, and what is remembered of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError, NotFound
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from tasks.destinations.interface import ContentLost, DestinationFailed, TagKept, destination_error
from tasks.run.transfers import KeyedLocks
from tasks.upstream.errors import UpstreamError, UpstreamNotFound
from tasks.upstream.push.registry import NO_REPOSITORY
from tasks.upstream.push.upload import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable

    from profiles.model.destination import DestinationEntry
    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.mirror_state.ledger import Ledger, LedgerRepository
    from registry_server.store.records import TagRecord
    from tasks.destinations.creating import RepositoryCreator
    from tasks.destinations.interface import Feed
    from tasks.upstream.blob import BlobSink
    from tasks.upstream.push.registry import PushRegistry

T = TypeVar("T")

# What registries say of a manifest whose content they lack (distribution-spec "Error Codes").
_LOST: Final = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "MANIFEST_UNVERIFIED"})


class RegistryDestination:
    """One destination of one registry entry. Thread-safe.

    The ledger is written after the registry has confirmed, never before: killed in between, the registry is
    asked again, and nothing that it has is sent again.
    """

    def __init__(
        self,
        settings: DestinationEntry,
        entry: str,
        registry: PushRegistry,
        ledger: Ledger,
        creator: RepositoryCreator | None = None,
    ) -> None:
        """`entry` is the name of the registry entry. `creator` makes repositories that are missing."""
        self.settings = settings
        self.name = settings.name
        self.registry = registry
        self.state = ledger
        self._entry = entry
        self._creator = creator
        self._busy = KeyedLocks()
        self._mounts = False  # whether it has mounted a blob
        self._doubted: set[Digest] = set()  # what it said to have, and had not

    def remote(self, local: RepositoryName) -> RepositoryName:
        """What the repository is called there."""
        return self.settings.repository(local, self._entry)

    def holds(self, local: RepositoryName, blob: Descriptor) -> bool:
        return self.state.repository(local).is_confirmed(blob.digest)

    def bring(self, local: RepositoryName, blob: Descriptor, feed: Feed) -> None:
        repository = self.state.repository(local)
        with self._busy.holding(f"{local}@{blob.digest}"):  # two of its images may need it at once
            if repository.is_confirmed(blob.digest):
                return
            remote, place = self.remote(local), self.state.place_of(blob.digest)
            content = repository.pool_content(blob.digest, at_most=MAX_MANIFEST_BYTES)
            content = blob.data if content is None else content
            source = _Source(feed if content is None else _from_memory(content))
            mount_from = self._mount_from(remote, blob, place)
            mounted = False
            if mount_from or not self._asked(lambda: self.registry.has_blob(remote, blob.digest)):
                mounted = not self._upload(local, blob, source, mount_from)
            repository.confirm(blob.digest)
            if not (mounted and place):
                self.state.note_place(blob.digest, remote)

    def _mount_from(self, remote: str, blob: Descriptor, place: str) -> str:
        """A repository to mount the blob from; "" where a HEAD asks for it first.

        To mount it from the repository that it goes to asks whether it is there, and if not opens the upload:
        a request less than a HEAD. A registry that does not mount has to be sent what it has. So a large blob
        is brought like this only where the registry has mounted one before.
        """
        if blob.digest in self._doubted:
            return ""
        if place and place != remote:
            return place
        return remote if self._mounts or blob.size <= SMALL else ""

    def _upload(self, local: RepositoryName, blob: Descriptor, source: _Source, mount_from: str) -> bool:
        """False where it was mounted."""
        remote = self.remote(local)
        try:
            sent = self._in_repository(
                local, lambda: self.registry.upload(remote, blob, source, mount_from=mount_from)
            )
        except UpstreamError as error:
            if error is source.error:
                raise
            raise destination_error(self.name, error) from error
        self._mounts = self._mounts or not sent
        return sent

    def read(self, local: RepositoryName, blob: Descriptor, sink: BlobSink) -> None:
        self._asked(lambda: self.registry.blob(self.remote(local), blob, sink))

    def put_manifest(
        self, local: RepositoryName, manifest: Manifest, digest: Digest, *, spare: bool = False
    ) -> None:
        """`spare`: it is done without where the registry takes no manifests of its type."""
        repository = self.state.repository(local)
        if repository.is_confirmed(digest):
            return
        try:
            self._put(local, str(digest), manifest)
        except TypeRefused:
            if not spare:
                raise
        repository.put_manifest(manifest, digest)

    def remember_manifest(self, local: RepositoryName, manifest: Manifest, digest: Digest) -> None:
        """One that the registry refuses, because it lists what is left out. Its smaller form is there."""
        self.state.repository(local).put_manifest(manifest, digest)

    def put_tag(self, local: RepositoryName, tag: Tag, record: TagRecord, manifest: Manifest) -> None:
        """The manifest of the tag need not be there before: it is put under the tag."""
        try:
            self._put(local, tag, manifest)
        except _Immutable as error:
            found = self.names(local, tag)
            if found != record.digest:
                raise TagKept(
                    f"is immutable in destination {self.name}, where it names {found or 'nothing'}: {error}"
                ) from error
        repository = self.state.repository(local)
        repository.put_manifest(manifest, record.digest)
        repository.put_tag(tag, record)

    def _put(self, local: RepositoryName, reference: str, manifest: Manifest) -> None:
        remote = self.remote(local)
        try:
            listed = self._in_repository(
                local, lambda: self.registry.put_manifest(remote, reference, manifest)
            )
            if not listed and manifest.subject is not None:
                self.registry.list_referrer(remote, manifest.subject.digest, manifest.descriptor())
        except UpstreamError as error:
            if _says_immutable(error):
                raise _Immutable(self.name, error.reason) from error
            if _says_docker(error, manifest):
                raise TypeRefused(self.name, str(error)) from error
            if error.code in _LOST:
                raise self._lost(local, manifest, error) from error
            raise destination_error(self.name, error) from error

    def _lost(self, local: RepositoryName, manifest: Manifest, error: UpstreamError) -> ContentLost:
        """Which part it lacks is in no answer that all registries give: all of them are looked for again."""
        repository, queue, below = self.state.repository(local), [manifest], set[Digest]()
        while queue:
            found = queue.pop()
            below.update(blob.digest for blob in found.blobs)
            children = [child for child in found.manifests if child.digest not in below]
            below.update(child.digest for child in children)
            queue += filter(None, (_body_of(repository, child) for child in children))
        repository.forget(below)
        self._doubted |= below
        return ContentLost(self.name, str(error))

    def manifest(self, local: RepositoryName, digest: Digest) -> Manifest:
        """One that is or was there: remembered, or by the registry itself. May raise a `ContentError`."""
        try:
            descriptor, body = self.state.repository(local).read_manifest(digest)
        except NotFound:
            fetched = self._asked(lambda: self.registry.manifest(self.remote(local), digest))
            return parse_manifest(fetched.body, fetched.media_type)
        return parse_manifest(body, descriptor.media_type)

    def put_children_again(self, local: RepositoryName, manifest: Manifest) -> None:
        """Those that are not there any more: zot drops what no tag names as soon as the tag moves."""
        for child in manifest.manifests:
            body = _body_of(self.state.repository(local), child)
            if body is not None and self.names(local, child.digest) is None:
                self.put_children_again(local, body)
                self._put(local, str(child.digest), body)

    def names(self, local: RepositoryName, reference: Tag | Digest) -> Digest | None:
        return self._asked(lambda: self.registry.names(self.remote(local), reference))

    def tags(self, local: RepositoryName) -> frozenset[str] | None:
        """All tags there, where one request tells them all; None where it does not."""
        return self.registry.listed_at_once(self.remote(local))

    def delete_tag(self, local: RepositoryName, tag: Tag) -> bool:
        """Take a tag away that this mirror has set; False where the registry does not delete tags.

        One that somebody else has moved since stays.
        """
        repository = self.state.repository(local)
        record = repository.tag(tag)
        if record is not None and self.names(local, tag) == record.digest:
            return self.take_away(local, tag)
        repository.delete_tag(tag)
        return True

    def take_away(self, local: RepositoryName, tag: Tag) -> bool:
        """The same, whatever the tag names."""
        if not self._asked(lambda: self.registry.delete_tag(self.remote(local), tag)):
            return False
        self.state.repository(local).delete_tag(tag)
        return True

    def give_back(self, local: RepositoryName, tag: Tag, manifest: Manifest) -> None:
        """Let a tag name what somebody else had set: nothing is remembered of it."""
        self._put(local, tag, manifest)
        self.state.repository(local).delete_tag(tag)

    def _in_repository(self, local: RepositoryName, work: Callable[[], T]) -> T:
        """`work`, and once more where the repository had to be made first (createRepositories)."""
        try:
            return work()
        except UpstreamNotFound as error:
            if self._creator is None or error.code not in NO_REPOSITORY:
                raise
            self._creator.create(self.settings.url.repository(self.remote(local)))
        return work()

    def _asked(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except UpstreamError as error:
            raise destination_error(self.name, error) from error


class TypeRefused(DestinationFailed):
    """The registry takes OCI's manifests alone."""

    def __str__(self) -> str:
        return (
            f"{super().__str__()} (it may take no manifests of Docker's types: write `convert: oci` for the "
            "rule, or let the registry take them, in zot by `http.compat: [docker2s2]`)"
        )


class _Immutable(DestinationFailed):
    """The registry's tags, or this one, may not move."""

    def __str__(self) -> str:
        return str(self.args[1])


class _Source:
    """Remembers the error of where a blob comes from: the destination's are of the same family."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self.error: Exception | None = None

    def __call__(self, sink: BlobSink) -> None:
        try:
            self._feed(sink)
        except (UpstreamError, ContentError, NotFound) as error:
            self.error = error
            raise


def _body_of(repository: LedgerRepository, child: Descriptor) -> Manifest | None:
    body = repository.pool_content(child.digest, at_most=MAX_MANIFEST_BYTES)
    if body is None or child.media_type not in media_types.MANIFESTS:
        return None
    return parse_manifest(body, child.media_type)


def _from_memory(content: bytes) -> Feed:
    def feed(sink: BlobSink) -> None:
        sink.write(content[sink.offset :])

    return feed


def _says_docker(error: UpstreamError, manifest: Manifest) -> bool:
    """zot answers 415 MANIFEST_INVALID, others 400."""
    docker = manifest.media_type in (media_types.DOCKER_MANIFEST, media_types.DOCKER_LIST)
    return docker and (error.status == 415 or (error.status == 400 and error.code == "MANIFEST_INVALID"))


def _says_immutable(error: UpstreamError) -> bool:
    """ECR answers 400 TAG_INVALID, Harbor 412 PRECONDITION, Artifact Registry 400; all of them in words."""
    return error.status in (400, 403, 409, 412) and "immutab" in error.reason.lower()
