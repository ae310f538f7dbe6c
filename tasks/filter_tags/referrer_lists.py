"""Which tags that are named like lists of referrers (`sha256-<hex>`) hold one: decided by their content.

A HEAD answers for image manifests. An index is read once; what it turned out to be is in the store (an image)
or in the record of the last poll (a list).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from registry_server.oci.companion_tags import is_named_after, is_referrers_list, may_be_referrers_list
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import ImageName, Tag
from tasks.manifests.reading import blamed, fetch
from tasks.run.values import Image
from tasks.upstream.errors import UpstreamSchema1

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry_server.oci.digest import Digest
    from tasks.context.mirror_run import MirrorRun
    from tasks.upstream.many_heads import Head

NO_IMAGE: Final = "is a list of referrers, and no image"
_NOTED: Final = "list:"  # in the poll record, before the tag


def find_lists(
    run: MirrorRun, source: str, heads: Mapping[ImageName, Head]
) -> dict[ImageName, MirrorflowError | None]:
    """Which of these names are lists of referrers, or why that is not known. Raises `Stopped`."""
    unsure = {name: head for name, head in heads.items() if _may_be_list(name, head)}
    found: dict[ImageName, MirrorflowError | None] = {}
    for name, answer in run.each(lambda name: _is_list(run, source, name, unsure[name]), unsure):
        if isinstance(answer, UpstreamSchema1):
            continue
        if isinstance(answer, MirrorflowError):
            found[name] = answer
        elif answer:
            found[name] = None
            run.lists.note_list(source, str(name.reference), unsure[name].digest)
    run.check_stopped()
    return found


def _may_be_list(name: ImageName, head: Head) -> bool:
    return (
        isinstance(name.reference, Tag)
        and may_be_referrers_list(name.reference)
        and head.media_type not in media_types.IMAGES
        and not is_named_after(name.reference, head.digest)
    )


def _is_list(run: MirrorRun, source: str, name: ImageName, head: Head) -> bool:
    """Raises `WrongContent`, `UpstreamError`."""
    assert isinstance(name.reference, Tag), "the caller has looked"
    repository = run.store.repository(name.repository)
    record = repository.tag(name.reference)
    if record is not None and record.upstream_digest == head.digest:
        return False
    poll = repository.poll(run.entry.name)
    if poll is not None and poll.companions.get(f"{_NOTED}{name.reference}") == head.digest:
        return True
    image = Image(source, name.repository, name.reference, head.digest, head.media_type)
    fetched = fetch(run, image, head.digest, keep=True)
    with blamed(run, image, head.digest):
        manifest = parse_manifest(fetched.body, fetched.media_type, same_kind=True)
    return is_referrers_list(name.reference, head.digest, manifest)


def note_of(name: ImageName, digest: Digest) -> dict[str, str]:
    """For the next poll, which need not read the list again while it has this digest."""
    return {f"{_NOTED}{name.reference}": str(digest)}
