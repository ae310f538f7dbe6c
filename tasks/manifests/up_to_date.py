"""Whether the store has an image already, for all platforms that are wanted: no request, a look at files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.image_parts import ALL_PARTS, wanted_children
from registry_server.oci.digest import Digest
from registry_server.oci.errors import NotFound
from registry_server.oci.forms import KEPT
from registry_server.oci.manifest import parse_manifest
from registry_server.store.errors import StoreDamaged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from profiles.image_parts import ImageParts
    from registry_server.oci.forms import Form
    from registry_server.oci.reference import Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository


def is_up_to_date(
    repository: Repository,
    reference: Tag | Digest,
    upstream: Digest,
    parts: ImageParts = ALL_PARTS,
    form: Form = KEPT,
) -> bool:
    """Whether the store has what the upstream has now. An unchanged tag costs a read and two looks."""
    if isinstance(reference, Digest):
        return _holds(repository, reference, parts)
    return is_tag_up_to_date(
        repository, repository.tag(reference), upstream, parts, form, has_blob=repository.has_blob
    )


def is_tag_up_to_date(
    repository: Repository,
    record: TagRecord | None,
    upstream: Digest,
    parts: ImageParts,
    form: Form,
    *,
    has_blob: Callable[[Digest], bool],
) -> bool:
    """The same of a tag whose record was read already."""
    if record is None or not is_made_of(record, upstream, form):
        return False
    if not all(map(has_blob, record.roots)):
        return False
    whole = not record.sparse and (record.foreign or not parts.foreign)
    return whole or _holds(repository, record.digest, parts, record.gone)


def moves_from(record: TagRecord | None, upstream: Digest, form: Form = KEPT) -> Digest | None:
    """What a tag names here, where that is something else by now, or takes another form; None if new."""
    return None if record is None or is_made_of(record, upstream, form) else record.digest


def is_made_of(record: TagRecord, upstream: Digest, form: Form) -> bool:
    """Whether a tag is what becomes of this upstream digest in this form."""
    origin = record.origin
    if origin is None:
        return record.digest == upstream and not form
    return origin.digest == upstream and origin.form == form


def _holds(
    repository: Repository, digest: Digest, parts: ImageParts, gone: Collection[Digest] | None = None
) -> bool:
    """Whether a manifest is here with all that is wanted of it: a platform may have been left out before.

    `gone`: what the upstream does not have any more; None where that is not known.
    """
    try:
        descriptor, body = repository.read_manifest(digest)
    except (NotFound, StoreDamaged):
        return False
    manifest = parse_manifest(body, descriptor.media_type)
    lacking = {each.digest for each in repository.missing(manifest)}
    blobs = {blob.digest for blob in manifest.blobs_with(foreign=parts.foreign)}
    lacking |= {blob for blob in blobs if not repository.has_blob(blob)}
    children = {child.digest for child in wanted_children(manifest, parts) if not child.is_foreign}
    if parts.sparse:  # the index, and at least a part of it
        children -= lacking if gone is None and children - lacking else set(gone or ())
    if lacking & (blobs | children):
        return False
    inner = (child for child in children if is_manifest(repository, child))
    return all(_holds(repository, each, parts, gone) for each in inner)


def is_manifest(repository: Repository, digest: Digest) -> bool:
    """False for an entry of an index that is a blob (BuildKit's caches)."""
    try:
        repository.find_manifest(digest)
    except NotFound:
        return False
    return True
