"""Tags that an upstream repository no longer has: absent is not unchanged, and not deleted here either."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from profiles.tag_filter import local_tag
from registry_server.counted import counted
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import RepositoryUnknown
from registry_server.oci.reference import ImageName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import SourceRepository


def gone_tags(
    run: MirrorRun, source: SourceRepository, listed: Collection[str]
) -> frozenset[ImageName] | None:
    """Tags that came from `source` and that its list of tags lacks; None when the list tells nothing.

    The list is as upstream sent it, before any filter: what a rule leaves out is not gone. A list that may be
    cut tells nothing. Neither does one without any tag, of a repository that had some: that is a fault of the
    registry more often than a deletion.
    """
    if not run.upstream.lists_wholly(source.name):
        return None
    gone = {
        ImageName(local, tag)
        for local, present in _present(source, listed).items()
        for tag in _absent(run.store.repository(local), present)
        if _came_from(run, source.name, run.store.repository(local).tag(tag))
    }
    if gone and not listed:
        run.live.remark(
            f"{source.name}: the upstream lists no tag at all, and {counted(len(gone), 'tag')} came from "
            "there: none of them counts as deleted"
        )
        return None
    return frozenset(gone)


def _present(source: SourceRepository, listed: Collection[str]) -> dict[RepositoryName, set[str]]:
    """What there may be here, under the names that the rules give it (`tags.rename`)."""
    found: defaultdict[RepositoryName, set[str]] = defaultdict(set)
    for target in source.targets:
        found[target.local].update(local_tag(target.rule, tag) for tag in listed)
    return found


def _absent(repository: Repository, present: Collection[str]) -> Iterator[Tag]:
    """A companion goes with its image."""
    try:
        tags = repository.tags()
    except RepositoryUnknown:
        return
    yield from (tag for tag in tags if tag not in present and not is_companion_tag(tag))


def _came_from(run: MirrorRun, source: str, record: TagRecord | None) -> bool:
    """Neither pushed by a client, nor from another entry or repository."""
    origin = record.origin if record is not None else None
    return origin is not None and (origin.registry, origin.repository) == (run.entry.name, source)
