"""`mirrorflow store ls` and `rm`: the tags that are stored, and removing some of them by name."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flows.cli.explain import explain_image
from flows.maintenance.operator_audit import OperatorAudit
from profiles.errors import Refusal
from profiles.patterns.globs import Glob
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.errors import MirrorflowError
from registry_server.oci.reference import ImageName, Tag
from registry_server.store.errors import StoreError
from tasks.stored.pruning import Doomed, remove

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from profiles.model.profile import Profile
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.records import TagRecord
    from registry_server.store.repository import Repository
    from registry_server.store.store import Store


class NotStored(StoreError):
    """What was named is not in the store."""


class PatternInvalid(MirrorflowError):
    """Repositories are named by something that is no pattern."""


@dataclass(frozen=True, slots=True)
class StoredTag:
    """A tag of the store. `hidden`: a policy keeps it from clients."""

    name: ImageName
    record: TagRecord
    hidden: bool = False

    @property
    def source(self) -> str:
        """Registry entry and repository that it came from; "" for a push."""
        origin = self.record.origin
        return f"{origin.registry}: {origin.repository}" if origin else ""

    def to_json(self) -> dict[str, Any]:
        origin = self.record.origin
        return {
            "image": str(self.name),
            "digest": str(self.record.digest),
            "mediaType": self.record.media_type,
            "stored": datetime.fromtimestamp(self.record.pushed, UTC).isoformat(timespec="seconds"),
            "registry": origin.registry if origin else "",
            "upstream": origin.repository if origin else "",
            "hidden": self.hidden,
        }


def stored_tags(store: Store, patterns: Sequence[str] = ()) -> Iterator[StoredTag]:
    """The tags of the repositories that match one of the patterns, or of all.

    Raises `PatternInvalid`, `StoreError`.
    """
    globs = repository_globs(patterns)
    served, hidden = store.repositories(), store.hiding()
    for name in sorted({*served, *hidden}):
        if globs and not any(glob.matches(name) for glob in globs):
            continue
        if name in served:
            yield from _tags_of(store.repository(name), name, hidden=False)
        if name in hidden:
            yield from _tags_of(store.hidden(name), name, hidden=True)


def repository_globs(patterns: Sequence[str]) -> list[Glob]:
    """Raises `PatternInvalid`."""
    return [_glob(pattern) for pattern in patterns]


def _glob(pattern: str) -> Glob:
    try:
        return Glob.parse(pattern)
    except Refusal as error:
        raise PatternInvalid(f"{pattern!r} is not a pattern of repositories: {error}") from None


def _tags_of(repository: Repository, name: RepositoryName, *, hidden: bool) -> Iterator[StoredTag]:
    for tag, record in sorted(repository.tag_records().items()):
        yield StoredTag(ImageName(name, tag), record, hidden)


def remove_tags(profile: Profile, store: Store, images: Sequence[str]) -> Iterator[str]:
    """Remove tags with their signatures and other companions; a line for each.

    All of them are looked up before the first is removed. Raises `NotStored`, `InvalidName`, `StoreError`,
    `AuditUnusable`.
    """
    audit = OperatorAudit.of(profile)
    found = [_find(store, ImageName.parse(text)) for text in images]
    removed = remove(store, found, time.time())
    audit.removed(removed)
    for name in removed:
        yield f"removed {name}"
    for each in found:
        if any(explanation.takes for explanation in explain_image(profile, str(each.name))):
            yield f"note: a content rule takes {each.name}; the next run brings it back, if upstream has it"


def _find(store: Store, name: ImageName) -> Doomed:
    if not isinstance(name.reference, Tag):
        raise NotStored(
            f"{name} names a digest, and tags are what can be removed: write the tag; `mirrorflow store gc` "
            "removes what no tag leads to"
        )
    if is_companion_tag(name.reference):
        raise NotStored(f"{name} belongs to an image, and goes with that: write the tag of the image")
    record = store.repository(name.repository).tag(name.reference)
    if record is None:
        raise NotStored(
            f"the store has no {name}; `mirrorflow store ls PROFILE {name.repository}` says what it has"
        )
    return Doomed(name, record, time.time())
