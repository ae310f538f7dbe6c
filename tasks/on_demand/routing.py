"""Which registry entries and rules take a name that a client asks for: pure, no upstream is asked.

The order is the profile's. Filters hold on demand as they do in a poll; what needs more than the name
(`newest`, `select`) is asked for later, of the upstream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.errors import Refusal
from profiles.matching import image_parts_of, mappings, sources
from profiles.tag_filter import why_not_taken
from profiles.values.upstream_url import UpstreamUrl
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from profiles.image_parts import ImageParts
    from profiles.model.content_rule import ContentRule
    from profiles.model.registry_entry import RegistryEntry
    from profiles.model.sync import Sync
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import Tag


@dataclass(frozen=True, slots=True)
class Candidate:
    """An upstream repository that may have what is asked for, and the rules that take it (None: any)."""

    entry: RegistryEntry
    source: str
    rules: tuple[ContentRule | None, ...]

    @property
    def parts(self) -> ImageParts:
        """What the rules want together: everything, if one of them wants everything."""
        return image_parts_of(self.entry, self.rules)

    def __str__(self) -> str:
        return f"{self.entry.name}: {self.source}"


@dataclass(frozen=True, slots=True)
class Route:
    """Who takes it, in order; `reasons`: why the others, whose repository it could be, do not."""

    candidates: tuple[Candidate, ...]
    reasons: tuple[str, ...] = ()


def candidates(sync: Sync, local: RepositoryName) -> tuple[Candidate, ...]:
    """Every upstream repository that lands under `local` on demand."""
    found: list[Candidate] = []
    for entry in sync.registries if sync.enable else ():
        if not entry.on_demand:
            continue
        rules: dict[str, list[ContentRule | None]] = {}
        for rule, source in sources(entry, local):
            rules.setdefault(source, []).append(rule)
        found += [Candidate(entry, source, tuple(each)) for source, each in rules.items()]
    return tuple(found)


def route_of(found: Sequence[Candidate], reference: Tag | Digest, *, follows: bool = False) -> Route:
    """Those with a rule whose filters take the tag or digest, and of them only such rules.

    `follows`: it accompanies an image that is here, and goes where that went.
    """
    takers, reasons = [], []
    for candidate in found:
        source = candidate.source
        why = [(rule, "" if follows else why_not_taken(rule, source, reference)) for rule in candidate.rules]
        rules = tuple(rule for rule, reason in why if not reason)
        if rules:
            takers.append(Candidate(candidate.entry, candidate.source, rules))
        said = dict.fromkeys(reason for _, reason in why if reason)
        reasons += [f"{candidate}: {reason}" for reason in said]
    return Route(tuple(takers), tuple(reasons))


def resolve(sync: Sync, namespace: str, name: str) -> RepositoryName | None:
    """Where the repository that the registry `namespace` calls `name` is here (`?ns=`, OCI-Namespace).

    Closed world: None for a host that no entry names, and for what no rule takes. On-demand entries first.
    """
    try:
        registry = UpstreamUrl.parse(namespace).registry
    except Refusal:
        return None
    entries = sorted(sync.registries, key=lambda entry: not entry.on_demand) if sync.enable else ()
    for entry in entries:
        for ours in (
            ours for url in entry.urls if url.registry == registry for ours in names_by_url(url, name)
        ):
            found = _local(entry, ours)
            if found is not None:
                return found
    return None


def resolve_entry(sync: Sync, name: str, repository: str) -> RepositoryName | None:
    """Where the repository that the registry of the entry `name` calls so is here (http.vhosts)."""
    for entry in sync.registries if sync.enable else ():
        if entry.name == name:
            return next(
                (found for ours in upstream_names(entry, repository) if (found := _local(entry, ours))), None
            )
    return None


def upstream_names(entry: RegistryEntry, repository: str) -> tuple[str, ...]:
    """What the entry's rules may call a repository of its registry: without the path of a url."""
    return tuple(dict.fromkeys(ours for url in entry.urls for ours in names_by_url(url, repository)))


def names_by_url(url: UpstreamUrl, name: str) -> tuple[str, ...]:
    """What an entry with this url calls the repository: without the path of the url."""
    if url.path_prefix:
        rest = name.removeprefix(f"{url.path_prefix}/")
        return (rest,) if rest != name else ()
    short = name.removeprefix("library/") if url.is_docker_hub else name
    return (name,) if short == name else (name, short)


def _local(entry: RegistryEntry, name: str) -> RepositoryName | None:
    if not entry.content:
        return RepositoryName(name) if entry.on_demand else None
    return next((local for _, local in mappings(entry, name)), None)
