"""The YAML of `skopeo sync --src yaml` (skopeo-sync(1), "YAML file content") as a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from profiles.imports.draft import Draft, Entry, Part
from profiles.imports.image_reference import (
    ImageReference,
    add_range,
    destination_keys,
    login_note,
    without_login,
)
from profiles.patterns.zot_regex import to_full_match

if TYPE_CHECKING:
    from collections.abc import Iterator

    from profiles.imports.section import Section

_NOTES: Final = (
    (
        "From a file of `skopeo sync --src yaml`. As skopeo does without --scoped, a repository lands under "
        "the last part of its name: write the path behind skopeo's DESTINATION before it in `destination`."
    ),
    (
        "skopeo copies the platform that it runs on, and all with --all; here all are copied. "
        "E.g. platforms: [linux/amd64]"
    ),
    "There is no interval in such a file: only `mirrorflow sync` mirrors. E.g. pollInterval: 6h",
)


def convert(root: Section) -> Draft:
    """Raises `ProfileInvalid` for values of the wrong kind."""
    draft = Draft(notes=list(_NOTES))
    for host in root.keys:
        draft.entries.append(_entry(draft, host, root.section(host)))
    return draft


def _entry(draft: Draft, host: str, section: Section) -> Entry:
    registry = ImageReference.parse(host, is_registry=True)
    if registry is None:
        return Entry(notes=[f"{without_login(host)!r} is no registry: left out."])
    path = f"/{registry.repository}" if registry.repository else ""
    entry = Entry(keys={"urls": [f"https://{registry.registry}{path}"]})
    entry.keys["tlsVerify"] = False if section.flag("tls-verify") is False else None
    if cert_dir := section.text("cert-dir"):
        entry.keys["certDir"] = cert_dir
    if section.section("credentials").keys or "@" in host:
        draft.logins.append(registry.registry)
    if "@" in host:
        entry.note(login_note(registry.registry))
    for rule in [*_listed(section), *_by_regex(section), *_by_version(section)]:
        if isinstance(rule, str):
            entry.note(rule)
        else:
            entry.rules.append(rule)
    entry.note(*(f"{section.path}.{key} is left out: it is no key that is known." for key in section.rest))
    if entry.keys["tlsVerify"] is False:
        entry.note("skopeo then also takes plain HTTP: write http:// if the registry has no TLS.")
    return entry


def _listed(section: Section) -> Iterator[Part | str]:
    images = section.section("images")
    for name in images.keys:
        rule = _rule(section, name)
        references = images.texts(name)
        if isinstance(rule, Part) and references:
            rule.keys["images"] = [
                f"{rule.keys['prefix']}{'@' if ':' in each else ':'}{each}" for each in references
            ]
        yield rule


def _by_regex(section: Section) -> Iterator[Part | str]:
    """skopeo looks for the expression anywhere in a tag."""
    expressions = section.section("images-by-tag-regex")
    for name in expressions.keys:
        rule = _rule(section, name)
        if isinstance(rule, Part):
            rule.keys["tags"] = {"regex": to_full_match(expressions.text(name))}
        yield rule


def _by_version(section: Section) -> Iterator[Part | str]:
    constraints = section.section("images-by-semver")
    for name in constraints.keys:
        rule = _rule(section, name)
        if isinstance(rule, Part):
            add_range(rule, [constraints.text(name)])
        yield rule


def _rule(section: Section, name: str) -> Part | str:
    found = ImageReference.parse(f"{section.path}/{name}", is_registry=True)
    if found is None or not found.repository or found.reference:
        return f"{section.path}: {name!r} is no repository: left out."
    hub = section.path in ("docker.io", "index.docker.io") and "/" not in name
    repository = f"library/{name}" if hub else name
    keys: dict[str, Any] = destination_keys(repository, repository.rpartition("/")[2])
    return Part(keys)
