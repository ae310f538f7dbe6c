"""Image references as docker, regsync and skopeo write them, and where they land here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_server.oci.errors import InvalidName
from registry_server.oci.reference import RepositoryName, parse_reference

if TYPE_CHECKING:
    from profiles.imports.draft import Part

DOCKER_HUB = "docker.io"


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`reference` is a tag, a digest, or ""."""

    registry: str
    repository: str
    reference: str = ""

    @classmethod
    def parse(cls, text: str, *, is_registry: bool = False) -> ImageReference | None:
        """None for what is no image of a registry. The first part is a host if it looks like one, as docker
        has it; with `is_registry` it is one whatever it looks like. A login before the host is left out."""
        first, slash, rest = text.strip().partition("/")
        is_host = bool(slash or is_registry) and (
            is_registry or any(char in first for char in ".:@") or first == "localhost"
        )
        registry, path = (without_login(first), rest) if is_host else (DOCKER_HUB, text.strip())
        path, at, digest = path.partition("@")
        name, colon, tag = path.rpartition(":") if ":" in path.rpartition("/")[2] else (path, "", "")
        return _checked(_normal(registry), name, digest if at else tag if colon else "", empty=is_registry)


def without_login(host: str) -> str:
    """`host` of `user:password@host`."""
    return host.rpartition("@")[2]


def has_login(text: str) -> bool:
    """Whether a login stands before the host of an image or of a registry. `image@digest` has none."""
    first, slash, _ = text.partition("/")
    return "@" in first and (bool(slash) or not re.search(r"@\w+:[0-9a-f]{32,}$", first))


def login_note(host: str) -> str:
    return f"The address of {host} has a login in it, which is left out: see credentialsFile above."


def _normal(registry: str) -> str:
    return DOCKER_HUB if registry in ("index.docker.io", "registry-1.docker.io") else registry.lower()


def _checked(registry: str, name: str, reference: str, *, empty: bool) -> ImageReference | None:
    if registry == DOCKER_HUB and name and "/" not in name and not empty:
        name = f"library/{name}"
    try:
        repository = str(RepositoryName(name)) if name or not empty else ""
        return ImageReference(registry, repository, str(parse_reference(reference)) if reference else "")
    except InvalidName:
        return None


def destination_keys(prefix: str, here: str) -> dict[str, Any]:
    """The keys of a content rule that files the repository `prefix` under `here`."""
    if prefix == here:
        return {"prefix": prefix}
    return {"prefix": prefix, "destination": f"/{here}", "stripPrefix": True}


def add_range(rule: Part, ranges: list[str]) -> None:
    """`tags.semverRange`: alternatives of constraints as Masterminds/semver reads them."""
    from profiles.errors import Refusal
    from profiles.patterns.versions import VersionRange

    text = " || ".join(each.replace(",", " ") for each in ranges)
    try:
        VersionRange.parse(text)
    except Refusal as refusal:
        rule.note(f"The version range {text!r} cannot be said ({refusal.found}): all versions are taken.")
        rule.keys.setdefault("tags", {})["semver"] = True
        return
    rule.keys.setdefault("tags", {})["semverRange"] = text
