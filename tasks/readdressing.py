"""Referrers of a converted image: copies that name its new form, of those that are as true of that."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from registry_server.oci.conversion import may_be_readdressed, readdressed
from registry_server.oci.errors import ContentError, NotFound
from registry_server.oci.manifest import parse_manifest
from registry_server.store.errors import StoreDamaged
from tasks.platforms import wanted_children

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository

# Companions of companions are copied too; a hostile upstream ends here.
MOST_COPIES: Final = 1000


def readdress(repository: Repository, renamed: Mapping[Digest, Descriptor]) -> int:
    """Put copies of what refers to the originals here, for what was made of them; how many are new.

    Signatures and signed statements are left with the original: they say what they say of its digest. Raises
    `StoreError`.
    """
    queue, count, looked = deque(renamed.items()), 0, 0
    while queue and looked < MOST_COPIES:
        original, new = queue.popleft()
        for referrer in repository.referrers(original):
            looked += 1
            manifest = _read(repository, referrer.digest)
            if manifest is None or not may_be_readdressed(manifest):
                continue
            copy = readdressed(manifest, new)
            queue.append((referrer.digest, copy.descriptor()))
            if not repository.has_blob(copy.descriptor().digest):
                repository.put_manifest(copy)
                count += 1
    return count


def made_of(repository: Repository, record: TagRecord) -> dict[Digest, Descriptor]:
    """What was made of which manifest below a tag: a converted index has the entries of its original."""
    if record.origin is None or record.converted_from is None:
        return {}
    form, found = record.origin.form, {record.converted_from: record.descriptor}
    queue = [(record.converted_from, record.descriptor)]
    while queue:
        before, after = queue.pop()
        old, new = _read(repository, before), _read(repository, after.digest)
        if old is None or new is None:
            continue
        kept = wanted_children(old, form) if form.rewrite else old.manifests
        pairs = zip((child.digest for child in kept), new.manifests, strict=False)
        changed = {old: new for old, new in pairs if old != new.digest and old not in found}
        found |= changed
        queue += changed.items()
    return found


def _read(repository: Repository, digest: Digest) -> Manifest | None:
    """None for what is not here (a platform that was left out), or cannot be read."""
    try:
        descriptor, body = repository.read_manifest(digest)
        return parse_manifest(body, descriptor.media_type)
    except (NotFound, StoreDamaged, ContentError):
        return None
