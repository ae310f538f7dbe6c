"""Where signatures can be: one repository of an upstream, or of the store."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.oci.reference import Tag
from registry_server.store.errors import StoreDamaged, translated
from tasks.trust.errors import Refused, in_short
from tasks.upstream.blob import InMemory
from tasks.upstream.errors import BROKEN, UpstreamNotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.store.repository import Repository
    from tasks.upstream.registry import UpstreamRegistry


class SignatureSource(Protocol):
    """One repository of an upstream (or of the store).

    "Not there" is an answer and has a value. Content that nobody could use (it has another digest or size, or
    a format that has none) is `Refused`: a finding about that one object. Everything else that goes wrong is
    raised, and leaves `judge` as it is. What is returned need not be trusted: digests are checked again.
    """

    def referrers(self, digest: Digest) -> Sequence[Descriptor] | None:
        """All pages of the referrers API, unfiltered; None where the registry does not have it (404)."""
        ...

    def manifest(self, reference: str) -> bytes | None:
        """The body under a tag or digest; None: there is none."""
        ...

    def blob(self, descriptor: Descriptor) -> bytes | None:
        """The content, at most `descriptor.size` bytes (the caller has checked that it is small)."""
        ...

    def tags(self) -> Collection[str] | None:
        """All tags, unfiltered, if they are at hand; None: unknown, and single tags are asked for instead."""
        ...


class ReferrersByApi(Protocol):
    """Where referrers are listed: the upstream itself, or a run that remembers its answers."""

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
    """What was mirrored, to verify it again.

    `repositories` are looked at as one: the parts of a repository that are served and that are hidden.
    """

    def __init__(self, *repositories: Repository) -> None:
        self._repositories = repositories

    def referrers(self, digest: Digest) -> Sequence[Descriptor] | None:
        found = (each for repository in self._repositories for each in repository.referrers(digest))
        return list({each.digest: each for each in found}.values())

    def manifest(self, reference: str) -> bytes | None:
        """Raises `Refused` for one that is damaged here."""
        for repository in self._repositories:
            with suppress(NotFound, InvalidName):
                name = Digest(reference) if ":" in reference else Tag(reference)
                try:
                    return repository.read_manifest(name)[1]
                except StoreDamaged as error:
                    raise Refused(
                        "its manifest is damaged; 'mirrorflow store scrub' fetches it again"
                    ) from error
        return None

    @translated
    def blob(self, descriptor: Descriptor) -> bytes | None:
        for repository in self._repositories:
            with suppress(NotFound, FileNotFoundError):  # a collector may take the file away between the two
                # One byte more of a larger one: it is seen not to be what it should.
                return repository.find_blob(descriptor.digest).read(descriptor.size + 1)
        return None

    def tags(self) -> Collection[str] | None:
        return None
