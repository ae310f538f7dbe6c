"""Whether the store has an image already, for all platforms that are wanted: no request, a look at files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci.digest import Digest
from registry_server.oci.errors import NotFound
from registry_server.oci.forms import KEPT
from registry_server.oci.manifest import parse_manifest
from registry_server.store.errors import StoreDamaged
from tasks.platforms import wanted_children

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.descriptor import Platform
    from registry_server.oci.forms import Form
    from registry_server.oci.reference import Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository


def is_in_place(
    repository: Repository,
    reference: Tag | Digest,
    upstream: Digest,
    platforms: Sequence[Platform],
    form: Form = KEPT,
) -> bool:
    """Whether the store has what the upstream has now. An unchanged tag costs a read and two looks."""
    if isinstance(reference, Digest):
        return _holds(repository, reference, platforms)
    record = repository.tag(reference)
    if record is None or not is_made_of(record, upstream, form):
        return False
    if not all(repository.has_blob(root) for root in record.roots):
        return False
    return not record.sparse or _holds(repository, record.digest, platforms)


def moves(repository: Repository, reference: Tag | Digest, upstream: Digest, form: Form = KEPT) -> bool:
    """Whether the tag is here and names something else by now, or what it names takes another form."""
    record = None if isinstance(reference, Digest) else repository.tag(reference)
    return record is not None and not is_made_of(record, upstream, form)


def is_made_of(record: TagRecord, upstream: Digest, form: Form) -> bool:
    """Whether a tag is what becomes of this upstream digest in this form."""
    origin = record.origin
    if origin is None:
        return record.digest == upstream and not form
    return origin.digest == upstream and origin.form == form


def _holds(repository: Repository, digest: Digest, platforms: Sequence[Platform]) -> bool:
    """Whether a manifest is here with all that is wanted of it: a platform may have been left out before."""
    try:
        descriptor, body = repository.read_manifest(digest)
    except (NotFound, StoreDamaged):
        return False
    manifest = parse_manifest(body, descriptor.media_type)
    lacking = {each.digest for each in repository.missing(manifest)}
    children = [child for child in wanted_children(manifest, platforms) if not child.is_foreign]
    if lacking.intersection(each.digest for each in (*manifest.blobs, *children)):
        return False
    inner = (child.digest for child in children if is_manifest(repository, child.digest))
    return all(_holds(repository, each, platforms) for each in inner)


def is_manifest(repository: Repository, digest: Digest) -> bool:
    """False for an entry of an index that is a blob (BuildKit's caches)."""
    try:
        repository.find_manifest(digest)
    except NotFound:
        return False
    return True
