"""From upstream repositories to ours and back, by segments.

A pattern's base are the static segments before the first one with a meta character (all of them, if there
is none). Local is destination + remote, without the base when the rule strips it; the way back is the exact
reverse and counts only when the result matches the pattern. zot strips text instead of segments, and so
files `a/foo-1` of `a/foo*` under `-1`; the rest of its table comes out the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from profiles.image_parts import ImageParts
from registry_server.oci.companion_tags import is_companion_tag
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.oci.forms import KEPT, Form
from registry_server.oci.reference import RepositoryName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from profiles.model.content_rule import ContentRule
    from profiles.model.platforms import PlatformChoice
    from profiles.model.referrers import Referrers
    from profiles.model.sync import RegistryEntry
    from registry_server.oci.descriptor import Platform
    from registry_server.oci.reference import Tag


def matches_repository(rule: ContentRule, upstream_name: str) -> bool:
    """Whether `rule` takes anything of this upstream repository."""
    if rule.images and not any(image.repository == upstream_name for image in rule.images):
        return False
    return rule.prefix_pattern.matches(upstream_name)


def local_name(rule: ContentRule, upstream_name: str) -> RepositoryName | None:
    """Where the repository lands; None when the rule does not take it, or the name cannot be served."""
    if not matches_repository(rule, upstream_name):
        return None
    rest = _without(_base(rule), upstream_name) if rule.strip_prefix else upstream_name
    return None if rest is None else _name(_join(rule.destination.strip("/"), rest))


def upstream_name(rule: ContentRule, local: str) -> str | None:
    """The upstream repository that lands under `local` by this rule, or None."""
    rest = _without(rule.destination.strip("/"), local)
    if rest is None:
        return None
    name = _join(_base(rule), rest) if rule.strip_prefix else rest
    return name if name and matches_repository(rule, name) else None


def source_name(entry: RegistryEntry, repository: str) -> str:
    """`host/repository` of one of the entry's repositories, as policies name it."""
    url = entry.urls[0]
    return f"{url.registry}/{url.repository(repository)}"


def mappings(entry: RegistryEntry, upstream_name: str) -> tuple[tuple[ContentRule, RepositoryName], ...]:
    """Every rule that takes the repository, and where each puts it. All apply, not the first only."""
    names = ((rule, local_name(rule, upstream_name)) for rule in entry.content)
    return tuple((rule, name) for rule, name in names if name is not None)


def sources(entry: RegistryEntry, local: str) -> tuple[tuple[ContentRule | None, str], ...]:
    """Every rule by which something of this entry lands under `local`, and its upstream repository.

    An entry without content takes everything on demand: that is the rule None, under its own name.
    """
    if not entry.content:
        return ((None, local),)
    names = ((rule, upstream_name(rule, local)) for rule in entry.content)
    return tuple((rule, name) for rule, name in names if name is not None)


def literal_repositories(rule: ContentRule) -> tuple[str, ...]:
    """The upstream repositories that the rule names itself, without a catalog; () for a pattern."""
    if rule.images:
        return tuple(dict.fromkeys(str(image.repository) for image in rule.images))
    pattern = rule.prefix_pattern
    return (pattern.text,) if pattern.static and pattern.text else ()


def needs_catalog(entry: RegistryEntry) -> bool:
    """Whether polling this entry must ask upstream which repositories there are."""
    return any(not rule.images and not rule.prefix_pattern.static for rule in entry.content)


def listed_references(rule: ContentRule, upstream_name: str) -> tuple[Tag | Digest, ...]:
    """What `images` lists of this repository, in its order; () when the rule lists none."""
    found = (image.reference for image in rule.images if image.repository == upstream_name)
    return tuple(dict.fromkeys(found))


def platforms_of(entry: RegistryEntry, rule: ContentRule | None) -> tuple[Platform, ...]:
    """The platforms to copy: the rule's, else the entry's; () means all."""
    choice = _choice(entry, rule)
    return choice.only if choice else ()


def image_parts_of(entry: RegistryEntry, rules: Iterable[ContentRule | None]) -> ImageParts:
    """What of an image comes in that several rules take."""
    return ImageParts.union(_parts(entry, rule) for rule in rules)


def _parts(entry: RegistryEntry, rule: ContentRule | None) -> ImageParts:
    platforms = platforms_of(entry, rule)
    if rule is None:
        return ImageParts(platforms)
    return ImageParts(
        platforms,
        attestations=rule.attestation_manifests,
        sparse=rule.missing_children == "sparse",
        foreign=rule.foreign_layers == "fetch",
    )


def manifest_format_of(entry: RegistryEntry, rules: Sequence[ContentRule | None], parts: ImageParts) -> Form:
    """What becomes of an image that several rules take: the form that one of them asks for.

    `parts` are what they want together.
    """
    choices = [_choice(entry, rule) for rule in rules]
    rewrite = bool(parts.platforms) and any(choice is not None and choice.rewrite for choice in choices)
    oci = any(rule is not None and rule.convert == "oci" for rule in rules)
    platforms = tuple(sorted(parts.platforms)) if oci or rewrite else ()
    return Form(oci, rewrite, platforms, attestations=parts.attestations or not rewrite)


def wanted_form(
    entry: RegistryEntry,
    rules: Sequence[ContentRule | None],
    reference: Tag | Digest,
    parts: ImageParts,
) -> Form:
    """In which form an image is to be here, from the rules that take it.

    A digest names what it is the digest of, and a signature's tag what was signed: both are kept.
    """
    if isinstance(reference, Digest) or is_companion_tag(reference):
        return KEPT
    return manifest_format_of(entry, rules, parts)


def _choice(entry: RegistryEntry, rule: ContentRule | None) -> PlatformChoice | None:
    return entry.platforms if rule is None or rule.platforms is None else rule.platforms


def referrers_of(entry: RegistryEntry, rule: ContentRule | None) -> Referrers:
    """Which referrers follow an image: the rule's word, else the entry's."""
    return entry.referrers if rule is None or rule.referrers is None else rule.referrers


def min_age_of(entry: RegistryEntry, rules: Iterable[ContentRule | None]) -> float:
    """Seconds that a digest waits (`minAge`): the longest that one of the rules asks for, 0 for none."""
    ages = (entry.min_age if rule is None or rule.min_age is None else rule.min_age for rule in rules)
    return max((age or 0.0 for age in ages), default=0.0)


def has_min_age(entry: RegistryEntry) -> bool:
    """Whether any image of the entry waits: then nothing may come in beside the images."""
    return bool(entry.min_age or any(rule.min_age for rule in entry.content))


def evaluate_selection(rule: ContentRule, document: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether `select` takes the image, and in words why not. Without `select` all are taken."""
    return (True, "") if rule.select is None else rule.select.evaluate(document)


def matches_selection(rule: ContentRule, document: Mapping[str, Any]) -> bool:
    """Whether `select` gives exactly true; `select_expression.DOCUMENT` lists what it can look at."""
    return evaluate_selection(rule, document)[0]


def _base(rule: ContentRule) -> str:
    return rule.prefix_pattern.base


def _without(base: str, name: str) -> str | None:
    """`name` without the leading segments `base`; "" when it is the base, None when it is elsewhere."""
    if not base:
        return name
    if name == base:
        return ""
    return name.removeprefix(f"{base}/") if name.startswith(f"{base}/") else None


def _join(*parts: str) -> str:
    return "/".join(filter(None, parts))


def _name(text: str) -> RepositoryName | None:
    try:
        return RepositoryName(text)
    except InvalidName:
        return None
