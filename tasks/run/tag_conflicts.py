"""Two upstream repositories that land under one name here: the tag stays with the one that it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.matching import source_name, sources
from profiles.tag_filter import why_not_taken
from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from profiles.model.content_rule import ContentRule
    from profiles.model.registry_entry import RegistryEntry
    from profiles.model.sync import Sync
    from registry_server.oci.reference import RepositoryName, Tag
    from registry_server.store.repository import Repository


def conflicting_source(
    sync: Sync | None, entry: RegistryEntry, source: str, repository: Repository, reference: Tag | Digest
) -> str:
    """Why `source` does not get the tag, in words; "" when it does.

    Without this each poll would move the tag to the other one. The same holds for tags on demand.
    """
    record = None if isinstance(reference, Digest) else repository.tag(reference)
    origin = record.origin if record else None
    if origin is None or isinstance(reference, Digest) or sync is None:
        return ""
    for other in sync.registries:
        if other.name != origin.registry:
            continue
        if source_name(other, origin.repository) == source_name(entry, source):
            continue  # entries that mean the same content may bring it in turn
        if takes(other, origin.repository, repository.name, reference):
            return (
                f"is here from {origin.registry}: {origin.repository}, which the profile puts under this "
                "name as well; give one of the two another destination"
            )
    return ""


def takes(entry: RegistryEntry, repository: str, local: RepositoryName, tag: Tag) -> bool:
    """Whether a rule of the entry wants the tag, as it is called here, from that upstream repository."""
    return any(
        source == repository and (_renames(rule) or not why_not_taken(rule, source, tag))
        for rule, source in sources(entry, local)
    )


def _renames(rule: ContentRule | None) -> bool:
    """Then the tag here does not tell which of the upstream it was, and stays with its repository."""
    return rule is not None and rule.tags is not None and rule.tags.rename is not None
