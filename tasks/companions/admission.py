"""Whether a companion may come in: what accompanies which image, by whose policy, and in which format.

A companion has no verdict of its own. It is admitted with its image (its subject), and only in a format of
`tasks/companions/formats.py` where the policy of that image keeps anything out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry_server.oci.companion_tags import is_companion_tag, subject_of
from registry_server.oci.errors import MirrorflowError
from tasks.companions.formats import LARGEST, why_not_allowed
from tasks.manifests.reading import fetch_small_blob
from tasks.run.values import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry_server.oci.descriptor import Descriptor
    from registry_server.oci.digest import Digest
    from registry_server.oci.manifest import Manifest
    from registry_server.oci.reference import Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image

# The signature of an SBOM of an image is two steps away from it; a hostile upstream ends here.
_MOST_STEPS: Final = 8


def why_left_out(
    run: MirrorRun, image: Image, manifest: Manifest, *, strict: bool, store: bool = True
) -> str:
    """Why this manifest may not come in as a companion of `image`; "" when it may.

    `store`: what had to be read of one that may come in is kept, so that it is fetched once. Raises
    `WrongContent`, `UpstreamError`, `StoreError`.
    """
    if not strict:
        return ""
    repository = run.store.repository(image.local)
    fetched: list[tuple[Descriptor, bytes]] = []

    def read(descriptor: Descriptor) -> bytes:
        if (held := repository.pool_content(descriptor.digest, at_most=LARGEST)) is not None:
            return held
        content = fetch_small_blob(run, image, descriptor)
        fetched.append((descriptor, content))
        return content

    reason = why_not_allowed(manifest, read)
    for descriptor, content in fetched if store and not reason else ():
        repository.put_blob(descriptor, content)
    return reason


def subject_in_store(
    companion: Tag, repository: Repository, pending: Iterable[tuple[Tag, TagRecord]] = ()
) -> Subject:
    """The image that the companion leads to, with every tag that it has in the store.

    `pending`: tags of images that are still arriving. An image that has no tag there is named by its digest.
    """
    records = {**repository.tag_records(), **dict(pending)}
    digest = _digest_in(companion)
    for _ in range(_MOST_STEPS):
        holders = {tag: record for tag, record in records.items() if digest in record.roots}
        images = {tag: record for tag, record in holders.items() if not is_companion_tag(tag)}
        if images:
            first = next(iter(images.values()))
            return Subject(digest, _media_type(repository, digest, first), tuple(images))
        if not holders:
            break
        digest = _digest_in(next(iter(holders)))
    return Subject(digest, _media_type(repository, digest, None), (digest,))


def _media_type(repository: Repository, digest: Digest, record: TagRecord | None) -> str:
    if record is not None and record.digest == digest:
        return record.media_type
    try:
        return repository.find_manifest(digest).descriptor.media_type
    except MirrorflowError:
        return ""


def _digest_in(companion: Tag) -> Digest:
    found = subject_of(companion)
    assert found is not None, "only companion tags get here"
    return found
