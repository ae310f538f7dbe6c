"""Where signatures can be: one repository of an upstream, or of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.oci.reference import Tag
from registry_server.store.errors import StoreDamaged
from tasks.errors import BROKEN
from tasks.small_blobs import InMemory
from tasks.trust.errors import Refused, in_short
from tasks.upstream.errors import UpstreamNotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from tasks.upstream.registry import UpstreamRegistry


class ReferrersByApi(Protocol):
    """Who asks for referrers: the upstream itself, or a run that remembers what it has been told."""

    def referrers_by_api(self, repository: str, digest: Digest) -> Sequence[Descriptor] | None:
        """None where the registry does not have the API. Raises `UpstreamError`."""
        ...


class UpstreamSource:
    """`known_tags`: all tags of the repository that companions can have, if they have been listed anyway.

    `lists` is asked for referrers; default: the upstream.
    """

    def __init__(
        self,
        registry: UpstreamRegistry,
        repository: str,
        known_tags: Collection[str] | None = None,
        lists: ReferrersByApi | None = None,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._tags = known_tags
        self._lists: ReferrersByApi = lists or registry

    def referrers(self, digest: Digest) -> Sequence[Descriptor] | None:
        return self._lists.referrers_by_api(self._repository, digest)

    def manifest(self, reference: str) -> bytes | None:
        try:
            return self._registry.manifest(self._repository, reference).body
        except UpstreamNotFound:
            return None
        except BROKEN as error:
            raise Refused(in_short(error)) from error

    def blob(self, descriptor: Descriptor) -> bytes | None:
        kept = InMemory()
        try:
            self._registry.blob(self._repository, descriptor, kept)
        except UpstreamNotFound:
            return None
        except BROKEN as error:
            raise Refused(in_short(error)) from error
        return bytes(kept.content)

    def tags(self) -> Collection[str] | None:
        return self._tags


class StoreSource:
    """What was mirrored, to verify it again."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def referrers(self, digest: Digest) -> Sequence[Descriptor] | None:
        return self._repository.referrers(digest)

    def manifest(self, reference: str) -> bytes | None:
        try:
            name = Digest(reference) if ":" in reference else Tag(reference)
            return self._repository.read_manifest(name)[1]
        except (NotFound, InvalidName):
            return None
        except StoreDamaged as error:
            raise Refused(in_short(error)) from error

    def blob(self, descriptor: Descriptor) -> bytes | None:
        try:
            return self._repository.find_blob(descriptor.digest).path.read_bytes()
        except NotFound:
            return None

    def tags(self) -> Collection[str] | None:
        return None
