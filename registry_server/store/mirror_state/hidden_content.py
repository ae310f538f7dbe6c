"""Content that is kept and not served: a changed policy refuses it, and an operator has yet to decide.

What is hidden is in the repository's hidden area, which is made like the visible one. So the server, which
knows the visible area alone, spends nothing on it; the collector treats its tags like any others; and an
image that passes later is published again from the pool, without a byte from the upstream.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from registry_server.oci import media_types
from registry_server.oci.errors import MirrorflowError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.store.closure import manifests_below
from registry_server.store.errors import ClosureIncomplete, translated

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store


def hide(
    store: Store, name: RepositoryName, tags: Mapping[Tag, TagRecord], manifests: Collection[Digest]
) -> None:
    """Keep these tags and manifests, and serve them no longer.

    First they are kept, then they are withdrawn: killed in between, both areas have them, and the next call
    goes on. What is damaged cannot be kept, and is withdrawn all the same. Raises `StoreError`.
    """
    visible, hidden = store.repository(name), store.hidden(name)
    roots = (root for record in tags.values() for root in record.roots)
    for digest in dict.fromkeys((*manifests_below(visible, roots), *manifests)):
        _keep(visible, hidden, digest)
    for tag, record in tags.items():
        # What is not whole here cannot be kept as a whole.
        with suppress(ClosureIncomplete, NotFound):
            hidden.put_tag(tag, record)
    store.sync()
    visible.withdraw(tags, manifests)


def _keep(visible: Repository, hidden: Repository, digest: Digest) -> None:
    try:
        descriptor, body = visible.read_manifest(digest)
        manifest = parse_manifest(body, descriptor.media_type)
    except MirrorflowError:
        return
    # An index may list blobs (BuildKit's caches).
    entries = (each for each in manifest.manifests if each.media_type not in media_types.MANIFESTS)
    for blob in (*manifest.blobs, *entries):
        hidden.adopt_blob(blob.digest)
    hidden.put_manifest(manifest, digest)


@translated
def last_sweep(store: Store, name: RepositoryName) -> str:
    """What `note_sweep` noted; "" for a repository that was never swept."""
    held = store.root_of(name).objects.get(_note(store, name))
    return held.content.decode() if held else ""


@translated
def note_sweep(store: Store, name: RepositoryName, policies: str) -> None:
    """All that the repository serves was looked at by these policies."""
    store.root_of(name).objects.put(_note(store, name), policies.encode())


def _note(store: Store, name: RepositoryName) -> str:
    return f"{store.hidden(name).folder}/policies"
