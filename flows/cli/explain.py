"""Which rule takes or drops an image, in words: pure, from the profile alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flows.cli.check import strip_markdown
from flows.entries import state_of
from flows.reporting.entry_words import describe_rule
from profiles.matching import (
    listed_references,
    local_name,
    matches_repository,
    min_age_of,
    upstream_name,
)
from profiles.model.destination import STORE
from profiles.tag_filter import local_tag, why_dropped
from profiles.values.durations import format_duration
from registry_server.oci.companion_tags import is_companion_tag, may_be_referrers_list
from registry_server.oci.reference import Tag
from tasks.context.cooldown import still_waiting
from tasks.run.only import repository_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.model.content_rule import ContentRule
    from profiles.model.profile import Profile
    from profiles.model.sync import RegistryEntry
    from registry_server.oci.reference import RepositoryName
    from registry_server.store.store import Store


@dataclass(frozen=True, slots=True)
class Explanation:
    """One line; `takes` says whether the rule would bring the image in."""

    words: str
    takes: bool


def explain_image(profile: Profile, image: str) -> list[Explanation]:
    """One line for each rule of each entry, under the image's upstream name or its name here."""
    image = without_host(profile, image)
    return [
        explanation
        for entry in profile.sync.registries
        for number in range(len(entry.content))
        for explanation in _explain(profile, entry, number, image)
    ] or [Explanation("the profile has no content rules", takes=False)]


def explain_min_age(profile: Profile, image: str, store: Store, now: float) -> list[str]:
    """Which digest of the tag waits for its `minAge`, and until when, as far as the store knows.

    `now` in unix seconds. Raises `StoreError`.
    """
    image = without_host(profile, image)
    repository = repository_of(image)
    tag = image[len(repository) + 1 :]
    found = (
        f"waits  {entry.name}: {local}:{tag}: {reason}"
        for entry in profile.sync.registries
        for rule in entry.content
        if Tag.is_valid(tag) and (local := _local(rule, repository))
        for state in [state_of(profile, entry, store)]
        if (reason := still_waiting(state, entry, [rule], local=local, reference=Tag(tag), now=now))
    )
    return list(dict.fromkeys(found))


def _local(rule: ContentRule, repository: str) -> RepositoryName | None:
    upstream = repository if matches_repository(rule, repository) else upstream_name(rule, repository)
    return local_name(rule, upstream) if upstream else None


def without_host(profile: Profile, image: str) -> str:
    """`registry1:5000/team/app:1` -> `team/app:1`, for the hosts that the profile names."""
    for entry in profile.sync.registries:
        for url in entry.urls:
            for host in (url.registry, url.host):
                if image.startswith(f"{host}/"):
                    return image.removeprefix(f"{host}/")
    return image


def _explain(profile: Profile, entry: RegistryEntry, number: int, image: str) -> Iterator[Explanation]:
    rule, repository = entry.content[number], repository_of(image)
    reference = image[len(repository) + 1 :]
    where = f"{entry.name}, rule {number + 1} ({strip_markdown(describe_rule(rule))})"
    upstream = repository if matches_repository(rule, repository) else upstream_name(rule, repository)
    if upstream is None:
        yield Explanation(f"-      {where}: does not match {repository}", takes=False)
        return
    local = local_name(rule, upstream)
    if local is None:
        yield Explanation(f"drops  {where}: {upstream} has no valid local name", takes=False)
        return
    age = min_age_of(entry, [rule])
    reason, condition = _judge_reference(rule, upstream, reference, age)
    if reason:
        yield Explanation(f"drops  {where}: {upstream} matches, but {reference} {reason}", takes=False)
        return
    sign = "@" if ":" in reference else ":" if reference else ""
    name = f"{sign}{_tag_here(rule, reference)}"
    lands = f"{upstream}{sign}{reference} {_places(profile, entry, local, name)}"
    yield Explanation(f"takes  {where}: {lands}{condition}", takes=True)


def _places(profile: Profile, entry: RegistryEntry, local: RepositoryName, name: str) -> str:
    """Where it goes, and under which name in each destination."""
    found = [profile.destination(each) for each in entry.to if each != STORE]
    there = [
        f"{each.name} as {each.url.registry}/{each.url.repository(each.repository(local, entry.name))}{name}"
        for each in found
    ]
    stored = [f"is stored as {local}{name}"] if STORE in entry.to else []
    goes = [f"goes to {', '.join(there)}"] if there else []
    return ", and ".join((*stored, *goes))


def _tag_here(rule: ContentRule, reference: str) -> str:
    return reference if ":" in reference else local_tag(rule, reference)


def _judge_reference(rule: ContentRule, upstream: str, reference: str, age: float) -> tuple[str, str]:
    """Why a tag or digest is dropped, and on what else it depends."""
    if not reference:
        return "", ""
    if rule.images:
        listed = {str(each) for each in listed_references(rule, upstream)}
        return ("" if reference in listed else "is not listed in images"), ""
    if ":" in reference:
        return "is a digest, and a rule without `images` takes tags", ""
    if is_companion_tag(reference):
        return "", ", if the image that it accompanies is taken"
    reason = why_dropped(rule.tags, reference)
    newest = rule.tags.newest if rule.tags else None
    conditions = [f"it is among the newest {newest}"] if newest else []
    conditions += ["it is not a list of referrers"] if may_be_referrers_list(reference) else []
    conditions += ["its `select` is true"] if rule.select else []
    conditions += [f"its digest was first seen here {format_duration(age)} ago (minAge)"] if age else []
    return reason, f", if {' and '.join(conditions)}" if conditions else ""
