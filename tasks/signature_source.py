"""An upstream as the place where signatures are looked for: "not there" is an answer, all else an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.selection import InMemory
from tasks.upstream.errors import UpstreamNotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from tasks.upstream.registry import UpstreamRegistry


@dataclass(frozen=True, slots=True)
class UpstreamSignatures:
    """`tasks.trust.source.SignatureSource` over one repository of an upstream."""

    upstream: UpstreamRegistry
    repository: str

    def referrers(self, digest: Digest) -> Sequence[Descriptor] | None:
        return self.upstream.referrers_by_api(self.repository, digest)

    def manifest(self, reference: str) -> bytes | None:
        try:
            return self.upstream.manifest(self.repository, reference).body
        except UpstreamNotFound:
            return None

    def blob(self, descriptor: Descriptor) -> bytes | None:
        sink = InMemory()
        try:
            self.upstream.blob(self.repository, descriptor, sink)
        except UpstreamNotFound:
            return None
        return bytes(sink.content)

    def tags(self) -> Collection[str] | None:
        """Not at hand: the tags that matter are asked for one by one, which costs less than a list."""
        return None
