"""What `only` asks for: images by their names here or upstream, or whole repositories. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from profiles.matching import upstream_name
from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from profiles.model.registry_entry import RegistryEntry
    from profiles.values.shard import Shard
    from registry_server.oci.errors import MirrorflowError
    from registry_server.oci.reference import ImageName
    from tasks.run.values import Findings, SourceRepository


NOT_FOUND: Final = "no content rule takes it, or the upstream does not have it; see `mirrorflow explain`"


def repository_of(image: str) -> str:
    """`library/nginx:1.25` and `library/nginx@sha256:…` -> `library/nginx`."""
    return image.partition("@")[0].partition(":")[0]


def may_mean(item: str, source: SourceRepository) -> bool:
    """Whether an item of `only` may stand for an image of this repository, by its name there or here."""
    return repository_of(item) in {source.name, *(target.local for target in source.targets)}


def is_asked_for(only: frozenset[str], *names: str) -> bool:
    """Whether an image is meant by `only` (empty: all are), under any of its names or by its repository."""
    return not only or any(name in only or repository_of(name) in only for name in names)


def own_items(only: frozenset[str], entry: RegistryEntry, shard: Shard | None) -> frozenset[str]:
    """The items of `only` that a run is about: a shard leaves those of other shards to them."""
    if shard is None:
        return only
    return frozenset(item for item in only if shard.owns(home_of(entry, item)))


def home_of(entry: RegistryEntry, item: str) -> str:
    """The upstream repository whose shard an item of `only` belongs to: that of its local name, else its own.

    An item may mean two repositories. One shard looks for it in both, or neither would know that it is in
    neither.
    """
    repository = repository_of(item)
    behind = filter(None, (upstream_name(rule, repository) for rule in entry.content))
    return min(behind, default=repository)


def unmatched(only: frozenset[str], found: Iterable[Findings]) -> set[str]:
    """The items of `only` for which no repository that was searched has anything."""
    if not only:
        return set()
    seen = [
        (str(name), f"{findings.source.name}{_separator(name)}{findings.upstream_reference(name)}")
        for findings in found
        for name in {**findings.upstream, **findings.problems}
    ]
    return {item for item in only if not any(is_asked_for(frozenset({item}), *names) for names in seen)}


def _separator(name: ImageName) -> str:
    return "@" if isinstance(name.reference, Digest) else ":"


def search_errors(
    only: frozenset[str], found: Sequence[Findings]
) -> list[tuple[SourceRepository, MirrorflowError]]:
    """The repositories that could not be searched.

    `only` may name an image as it is called here or there, and both are tried: that the wrong one of the two
    repositories does not exist (or is forbidden, as some registries call it) is no error once the image was
    found in the other.
    """
    errors = [(each.source, each.error) for each in found if each.error is not None]
    if not only:
        return errors
    open_items = unmatched(only, found)
    return [(source, error) for source, error in errors if any(may_mean(item, source) for item in open_items)]
