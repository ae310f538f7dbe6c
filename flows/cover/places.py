"""Where clients look for an image of another registry here, and what the profile files there. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flows.client_config.routes import UpstreamHost, upstream_hosts
from profiles.matching import image_parts_of, mappings
from profiles.tag_filter import why_not_taken
from registry_server.oci.reference import RepositoryName
from tasks.on_demand.routing import names_by_url, resolve, resolve_entry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.client_config.model import Mirror
    from profiles.image_parts import ImageParts
    from profiles.imports.image_reference import ImageReference
    from profiles.model.content_rule import ContentRule
    from profiles.model.profile import Profile
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.digest import Digest
    from registry_server.oci.reference import Tag

BY_PREFIX: Final = frozenset({"podman", "cri-o"})
"""Clients that choose one table by the longest prefix of a name; the others ask host by host, with `?ns=`."""


@dataclass(frozen=True, slots=True)
class Place:
    """A repository here, and the rules that file an upstream repository there (None: any, on demand)."""

    local: RepositoryName
    entry: RegistryEntry
    source: str
    rules: tuple[ContentRule | None, ...]

    def why_not(self, reference: Tag | Digest) -> str:
        """Why no rule takes it, in words; "" when one does, as far as the name can tell."""
        reasons = [why_not_taken(rule, self.source, reference) for rule in self.rules]
        return "" if "" in reasons else "; ".join(dict.fromkeys(f"{reference} {each}" for each in reasons))

    def parts(self, reference: Tag | Digest) -> ImageParts:
        """What of the image comes in by the rules that take it."""
        rules = [rule for rule in self.rules if not why_not_taken(rule, self.source, reference)]
        return image_parts_of(self.entry, rules or self.rules)


@dataclass(frozen=True, slots=True)
class ClientView:
    """The mirror as one kind of client sees it, configured by `mirrorflow client KIND`."""

    profile: Profile
    mirror: Mirror
    kind: str

    def places(self, image: ImageReference) -> tuple[Place, ...]:
        """Every repository here that the profile files the image's repository in, in its order."""
        found: dict[tuple[str, str, str], Place] = {}
        for entry in self._entries():
            for place in _places(entry, image):
                found.setdefault((entry.name, place.local, place.source), place)
        return tuple(found.values())

    def looked_for(self, image: ImageReference) -> tuple[RepositoryName, ...]:
        """The repositories here that the client asks for, in its order."""
        return tuple(RepositoryName(name) for name in self._names(image) if RepositoryName.is_valid(name))

    def is_own(self, image: ImageReference) -> bool:
        """Whether the image names this mirror itself."""
        return image.registry in {self.mirror.host.lower(), self.mirror.hub_host.lower()} - {""}

    def _entries(self) -> tuple[RegistryEntry, ...]:
        sync = self.profile.sync
        return sync.registries if sync.enable else ()

    def _names(self, image: ImageReference) -> tuple[str, ...]:
        sync, name = self.profile.sync, image.repository
        host = image.registry.rpartition(":")[0] or image.registry
        if image.registry == self.mirror.host.lower():
            return (name,)
        if host in self.profile.http.vhosts:
            found = resolve_entry(sync, self.profile.http.vhosts[host], name)
            return () if found is None else (found,)
        known = next((each for each in upstream_hosts(sync) if each.name == image.registry), None)
        if self.kind in BY_PREFIX:
            return _by_prefix(known, name) if known else ()
        if self.mirror.names_upstream:
            found = resolve(sync, image.registry, name)
            return () if found is None else (found,)
        return tuple("/".join(filter(None, (each, name))) for each in known.destinations()) if known else ()


def entry_names(entry: RegistryEntry, image: ImageReference) -> tuple[str, ...]:
    """What the entry's rules may call the image's repository; () for one of another registry."""
    names = (
        name
        for url in entry.urls
        if url.kind == "registry" and url.registry == image.registry
        for name in names_by_url(url, image.repository)
    )
    return tuple(dict.fromkeys(names))


def _places(entry: RegistryEntry, image: ImageReference) -> Iterator[Place]:
    for name in entry_names(entry, image):
        if not entry.content and entry.on_demand:
            yield Place(RepositoryName(name), entry, name, (None,))
        rules: dict[RepositoryName, list[ContentRule | None]] = {}
        for rule, local in mappings(entry, name):
            rules.setdefault(local, []).append(rule)
        for local, each in rules.items():
            yield Place(local, entry, name, tuple(each))


def _by_prefix(host: UpstreamHost, name: str) -> tuple[str, ...]:
    """registries.conf: of all tables the one with the longest prefix, and no other."""
    places = host.places()
    tables = [there for there in places if not there or name == there or name.startswith(f"{there}/")]
    if not tables:
        return ()
    chosen = max(tables, key=len)
    rest = name.removeprefix(chosen).strip("/")
    return tuple("/".join(filter(None, (place, rest))) for place in places[chosen])
