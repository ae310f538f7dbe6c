"""`mirrorflow.lock`: the digest of every image that a profile takes, as they were when it was written.

JSON with a line for each image, in the order of their names: two of them can be compared line by line. An
image is called by its name here, because that is what clients ask for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from profiles.errors import ProfileError
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, ManifestInvalid
from registry_server.oci.reference import ImageName, RepositoryName, parse_reference
from registry_server.oci.strict_json import load_object, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from registry_server.oci.reference import Tag

VERSION: Final = 1
FILE_NAME: Final = "mirrorflow.lock"
_LARGEST: Final = 256 * 2**20  # bytes
_IMAGE_KEYS: Final = ("registry", "source", "digest")


class LockInvalid(ProfileError):
    """The file is no lock, or cannot be read."""


@dataclass(frozen=True, slots=True)
class LockedImage:
    """One image: `source` is the repository of the upstream of the entry `registry`, `reference` its tag or
    digest there, `digest` what that named.
    """

    registry: str
    source: str
    reference: str
    digest: Digest

    @property
    def upstream(self) -> Tag | Digest:
        """`reference` as what it is."""
        return parse_reference(self.reference)

    @property
    def upstream_name(self) -> str:
        return f"{self.source}{'@' if ':' in self.reference else ':'}{self.reference}"

    def to_json(self) -> dict[str, Any]:
        return {"registry": self.registry, "source": self.upstream_name, "digest": self.digest}


@dataclass(frozen=True, slots=True)
class LockFile:
    """The locked images by their names here."""

    images: Mapping[str, LockedImage] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> LockFile:
        """Raises `LockInvalid`."""
        try:
            with path.open("rb") as file:
                body = file.read(_LARGEST + 1)
        except OSError as error:
            raise LockInvalid(
                f"{path} cannot be read: {error.strerror}; 'mirrorflow lock' writes it"
            ) from error
        if len(body) > _LARGEST:
            raise LockInvalid(f"{path}: larger than {_LARGEST >> 20} MiB, which no lock is")
        try:
            return _parsed(load_object(body))
        except (InvalidName, ManifestInvalid, LockInvalid) as error:
            said = str(error).replace("the manifest", "it")
            raise LockInvalid(f"{path}: {said}; 'mirrorflow lock' writes it anew") from error

    def encoded(self) -> bytes:
        """Equal for equal locks, and a line for each image."""
        lines = (
            f"  {json.dumps(name)}: {json.dumps(self.images[name].to_json())}" for name in sorted(self.images)
        )
        body = ",\n".join(lines)
        return f'{{\n "version": {VERSION},\n "images": {{\n{body}\n }}\n}}\n'.encode()

    def of(self, registry: str) -> dict[str, LockedImage]:
        """Those of one registry entry."""
        return {name: image for name, image in self.images.items() if image.registry == registry}

    def compare(self, now: LockFile, registries: Iterable[str]) -> LockDifference:
        """What has changed since, as far as these registry entries go."""
        before = {name: each for registry in registries for name, each in self.of(registry).items()}
        after = {name: each for registry in registries for name, each in now.of(registry).items()}
        return LockDifference(
            added={name: after[name].digest for name in sorted(after.keys() - before.keys())},
            moved={
                name: (before[name].digest, after[name].digest)
                for name in sorted(after.keys() & before.keys())
                if before[name].digest != after[name].digest
            },
            removed={name: before[name].digest for name in sorted(before.keys() - after.keys())},
        )


@dataclass(frozen=True, slots=True)
class LockDifference:
    """What separates a lock from now. Falsy when nothing does. `moved`: from which digest to which."""

    added: Mapping[str, Digest] = field(default_factory=dict)
    moved: Mapping[str, tuple[Digest, Digest]] = field(default_factory=dict)
    removed: Mapping[str, Digest] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.moved or self.removed)

    def to_json(self) -> dict[str, Any]:
        return {
            "added": dict(self.added),
            "moved": {name: {"from": before, "to": after} for name, (before, after) in self.moved.items()},
            "removed": dict(self.removed),
        }


def json_schema() -> dict[str, Any]:
    """Of the file (JSON Schema 2020-12)."""
    digest = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$"}
    image = {
        "type": "object",
        "required": list(_IMAGE_KEYS),
        "additionalProperties": False,
        "properties": {
            "registry": {"type": "string", "description": "The registry entry that brings it."},
            "source": {"type": "string", "description": "Its name upstream: repository:tag, or @digest."},
            "digest": digest | {"description": "What that name stood for when the lock was written."},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": FILE_NAME,
        "type": "object",
        "required": ["version", "images"],
        "additionalProperties": False,
        "properties": {
            "version": {"const": VERSION},
            "images": {
                "type": "object",
                "description": "Images by their names here, in alphabetical order.",
                "additionalProperties": image,
            },
        },
    }


def _parsed(document: Mapping[str, Any]) -> LockFile:
    version = document.get("version")
    if version != VERSION or isinstance(version, bool):
        raise LockInvalid(f"its version is {shown(version)}, and this mirrorflow knows {VERSION}")
    images = document.get("images")
    if not isinstance(images, dict) or len(document) != 2:
        raise LockInvalid("expected the keys `version` and `images`, an object")
    return LockFile({_local_name(name): _image(name, found) for name, found in images.items()})


def _local_name(name: str) -> str:
    return str(ImageName.parse(name))


def _image(name: str, found: Any) -> LockedImage:
    if not isinstance(found, dict) or set(found) != set(_IMAGE_KEYS):
        raise LockInvalid(f"{name} is {shown(found)}; expected registry, source and digest")
    if not all(isinstance(each, str) and each.isprintable() for each in found.values()):
        raise LockInvalid(f"{name} is {shown(found)}; expected texts")
    repository, at, reference = found["source"].partition("@")
    if not at:
        repository, _, reference = repository.partition(":")
    return LockedImage(
        found["registry"], RepositoryName(repository), parse_reference(reference), Digest(found["digest"])
    )
