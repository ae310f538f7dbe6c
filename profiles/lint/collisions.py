"""Two rules that put different upstream content under one local name.

Which of the two a client gets would depend on which was mirrored last. Found by witnesses: names that one
rule takes are looked up by the other, so what is reported is always true, and what is missed is contrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from profiles.matching import listed_references, local_name, upstream_name
from profiles.patterns.globs import sample_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.content_rule import ContentRule
    from profiles.model.sync import RegistryEntry, Sync

# The work grows with the square: of a profile with more rules only the first are compared.
_MOST = 300


@dataclass(frozen=True, slots=True)
class MappedRule:
    """A rule by its numbers, and what it is about."""

    entry_number: int
    rule_number: int
    entry: RegistryEntry
    rule: ContentRule
    names: dict[str, None]  # some under which its content lands; a dict, for its order

    def upstream(self, name: str) -> str:
        """`registry.example/library/alpine`: two rules with the same text mean the same content."""
        url = self.entry.urls[0]
        return f"{url.registry}/{url.repository(name)}"


@dataclass(frozen=True, slots=True)
class Collision:
    """`second` puts `second_upstream` where `first` puts `first_upstream`, e.g. under `local`."""

    first: MappedRule
    second: MappedRule
    local: str
    first_upstream: str
    second_upstream: str


def collisions(sync: Sync) -> Iterator[Collision]:
    """At most one for each pair of rules."""
    mapped = [
        MappedRule(at, number, entry, rule, _local_names(rule))
        for at, entry in enumerate(sync.registries)
        for number, rule in enumerate(entry.content)
    ]
    for first, second in combinations(mapped[:_MOST], 2):
        found = _collision(first, second)
        if found is not None:
            yield found


def _collision(first: MappedRule, second: MappedRule) -> Collision | None:
    for local in first.names | second.names:
        here, there = upstream_name(first.rule, local), upstream_name(second.rule, local)
        if here is None or there is None or first.upstream(here) == second.upstream(there):
            continue
        if _share_tags(first.rule, here, second.rule, there):
            return Collision(first, second, local, first.upstream(here), second.upstream(there))
    return None


def _local_names(rule: ContentRule) -> dict[str, None]:
    samples = [str(image.repository) for image in rule.images] or sample_names(rule.prefix_pattern, "example")
    names = (local_name(rule, name) for name in samples)
    return {str(name): None for name in names if name is not None}


def _share_tags(first: ContentRule, here: str, second: ContentRule, there: str) -> bool:
    """Lists of images collide only where they list the same tag; anything else may."""
    if not first.images or not second.images:
        return True
    return not set(listed_references(first, here)).isdisjoint(listed_references(second, there))
