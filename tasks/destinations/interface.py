"""Where images are written to, as the steps see it; and what can go wrong there.

DestinationFailed           another registry refuses what it is sent
├── DestinationUnavailable  it does not answer, or is busy: a retry may help
└── ContentLost             it does not have any more what it has confirmed: a retry brings it again
TagKept                     a tag stays as somebody else has set it there (a `LeftOut`: no failure)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from registry_server.oci.errors import MirrorflowError
from tasks.run.errors import LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.store import Store
    from tasks.upstream.blob import BlobSink
    from tasks.upstream.errors import UpstreamError

    Feed = Callable[[BlobSink], object]


class Destination(Protocol):
    """Repositories are called by their names here. Thread-safe.

    Every method may raise `StoreError`, and one of another registry `DestinationFailed` or `Stopped`.
    """

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> Store:
        """What is remembered of it: the tags that this mirror has set there, and the manifests."""

    def holds(self, local: RepositoryName, blob: Descriptor) -> bool:
        """Whether it is known to have this in that repository. Costs no request.

        The store does not have what has another size there: whoever says so of a digest is wrong.
        """

    def bring(self, local: RepositoryName, blob: Descriptor, feed: Feed) -> None:
        """Have the blob in that repository: found, mounted, or written as a stream.

        `feed` writes it into a sink, from `sink.offset` on. Raises `ContentError` for other bytes than the
        blob's, and what `feed` raises.
        """

    def read(self, local: RepositoryName, blob: Descriptor, sink: BlobSink) -> object:
        """The other way: the blob from that repository into a sink, from `sink.offset` on."""

    def put_manifest(self, local: RepositoryName, manifest: Manifest, digest: Digest) -> None:
        """Under its digest. Its blobs and children are there."""

    def put_tag(self, local: RepositoryName, tag: Tag, record: TagRecord, manifest: Manifest) -> None:
        """Make an image visible, after everything that it stands on. Raises `TagKept`."""

    def names(self, local: RepositoryName, reference: Tag | Digest) -> Digest | None:
        """What a tag (or a digest) names there; None for nothing."""


class DestinationFailed(MirrorflowError):
    """`destination` is its name in the profile."""

    def __init__(self, destination: str, reason: str) -> None:
        super().__init__(destination, reason)

    @property
    def destination(self) -> str:
        return str(self.args[0])

    def __str__(self) -> str:
        return f"destination {self.args[0]}: {self.args[1]}"


class DestinationUnavailable(DestinationFailed):
    retryable = True


class ContentLost(DestinationUnavailable):
    """What was lost is forgotten here by now."""


class TagKept(LeftOut):
    """As long as it stays as it is there."""


def destination_error(destination: str, error: UpstreamError) -> DestinationFailed:
    """The error of its client, with the name of the destination in front."""
    kind = DestinationUnavailable if error.retryable else DestinationFailed
    return kind(destination, str(error))
