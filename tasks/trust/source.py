"""Where signatures come from: what `judge` needs of an upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest


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
