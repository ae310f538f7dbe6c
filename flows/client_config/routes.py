"""Which names of an upstream registry are which names here: what a client has to be told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from profiles.matching import literal_repositories, local_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.content_rule import ContentRule
    from profiles.model.registry_entry import RegistryEntry
    from profiles.model.sync import Sync
    from profiles.values.upstream_url import UpstreamUrl

_OFFICIAL = "library"  # where Docker Hub keeps the images whose names have one part


@dataclass(frozen=True, slots=True)
class Route:
    """What is `there` in an upstream registry, or below it, is the same below `here` in the mirror; "" stands
    for everything. Rules may take less than that: the mirror answers 404 then."""

    there: str
    here: str

    @property
    def destination(self) -> str | None:
        """What stands before the upstream's own names here; None when they are not kept whole."""
        if not self.there:
            return self.here
        if self.here == self.there:
            return ""
        return self.here.removesuffix(f"/{self.there}") if self.here.endswith(f"/{self.there}") else None

    def below(self, there: str) -> str | None:
        """Where `there` is in the mirror, if it is part of this route."""
        if not self.there:
            return "/".join(filter(None, (self.here, there)))
        if there != self.there and not there.startswith(f"{self.there}/"):
            return None
        return (self.here + there.removeprefix(self.there)).removeprefix("/")


@dataclass(frozen=True, slots=True)
class UpstreamHost:
    """A registry as images name it (`docker.io`, `registry1:5000`), and where it is."""

    name: str
    url: str
    routes: tuple[Route, ...]

    def places(self) -> dict[str, tuple[str, ...]]:
        """For each `there` every place that it may have here, the most special first: clients that choose
        one table by the longest prefix look at no other."""
        found = {}
        for there in dict.fromkeys(route.there for route in self.routes):
            special = sorted(self.routes, key=lambda route: -len(route.there))
            places = (route.below(there) for route in special)
            found[there] = tuple(dict.fromkeys(place for place in places if place is not None))
        return found

    def destinations(self) -> tuple[str, ...]:
        """What stands before names of this registry here, for clients that can only put something before."""
        found = (route.destination for route in self.routes)
        return tuple(dict.fromkeys(each for each in found if each is not None))


def upstream_hosts(sync: Sync) -> tuple[UpstreamHost, ...]:
    """Every registry that the profile mirrors something of, in its order."""
    urls: dict[str, UpstreamUrl] = {}
    routes: dict[str, dict[Route, None]] = {}
    for entry in sync.registries if sync.enable else ():
        for url in (each for each in entry.urls if each.kind == "registry"):
            urls.setdefault(url.registry, url)
            routes.setdefault(url.registry, {}).update(dict.fromkeys(_routes(entry, url)))
    return tuple(UpstreamHost(name, urls[name].base, tuple(found)) for name, found in routes.items() if found)


def _routes(entry: RegistryEntry, url: UpstreamUrl) -> Iterator[Route]:
    if not entry.content and entry.on_demand:
        yield Route(url.path_prefix, "")
    for rule in entry.content:
        names = literal_repositories(rule)
        for name in names:
            if (here := local_name(rule, name)) is not None:
                yield Route(url.repository(name), here)
        if not names:
            yield _of_pattern(rule, url)


def _of_pattern(rule: ContentRule, url: UpstreamUrl) -> Route:
    base, destination = rule.prefix_pattern.base, rule.destination.strip("/")
    if base:
        there = url.repository(f"{base}/any").removesuffix("/any")
    elif url.is_docker_hub and not url.path_prefix and _one_part(rule.prefix_pattern.text):
        there = _OFFICIAL
    else:
        there = url.path_prefix
    kept = "" if rule.strip_prefix else base
    return Route(there, "/".join(filter(None, (destination, kept))))


def _one_part(pattern: str) -> bool:
    return "/" not in pattern and "**" not in pattern
