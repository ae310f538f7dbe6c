"""What rules select by `select`, and why an image is left out for as long as its digest stays."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from profiles.matching import matches_selection
from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.reference import Tag
from tasks.manifests.manifest_tree import MAX_DEPTH
from tasks.manifests.reading import fetch, fetch_small_blob, held_body, parsed
from tasks.run.errors import SCHEMA1, NoPlatform
from tasks.upstream.errors import UpstreamSchema1

if TYPE_CHECKING:
    from collections.abc import Sequence

    from registry_server.oci.manifest import Manifest
    from registry_server.store.repository import Repository
    from tasks.context.mirror_run import MirrorRun
    from tasks.run.values import Image, Target

_MAX_CONFIG_BYTES = 8 * 1024 * 1024
_PREFERRED = (Platform("linux", "amd64"), Platform())
_CONFIGS = frozenset({media_types.OCI_CONFIG, media_types.DOCKER_CONFIG})


def describe(run: MirrorRun, image: Image) -> dict[str, Any]:
    """The document that `profiles.patterns.select_expression.DOCUMENT` lists.

    Of an index, `manifest` is the index; `config` (and labels, created) is that of one child: of the rule's
    first platform if it names some, else linux/amd64, else the first.
    """
    manifest = _read(run, image, Descriptor(image.media_type, image.digest, -1))
    found = _config(run, image, manifest)
    config = found or {}
    inner = config.get("config") if isinstance(config.get("config"), dict) else {}
    return {
        "repository": image.source,
        "tag": str(image.upstream_reference) if isinstance(image.reference, Tag) else None,
        "digest": str(image.digest),
        "mediaType": manifest.media_type,
        "manifest": json.loads(manifest.body),
        "config": found,
        "annotations": dict(manifest.annotations or {}),
        "labels": (inner or {}).get("Labels") or {},
        "platforms": _platforms(manifest, config),
        "created": _unix_time(config.get("created")),
    }


def _read(run: MirrorRun, image: Image, descriptor: Descriptor) -> Manifest:
    """From the store where it is there, else from the upstream; nothing is stored. Raises `WrongContent`."""
    body = held_body(run.store.repository(image.local), descriptor.digest)
    if body is not None:
        return parsed(run, image, descriptor, body, None)
    fetched = fetch(run, image, descriptor.digest, keep=True)
    return parsed(run, image, descriptor, fetched.body, fetched.media_type)


def _config(run: MirrorRun, image: Image, manifest: Manifest) -> dict[str, Any] | None:
    """The config of an image, or of one child of an index; None for an artifact."""
    for _ in range(MAX_DEPTH):
        child = _child(manifest, image)
        if child is None:
            break
        manifest = _read(run, image, child)
    config = manifest.config
    if config is None or config.media_type not in _CONFIGS or config.size > _MAX_CONFIG_BYTES:
        return None
    try:
        document = json.loads(fetch_small_blob(run, image, config))
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _child(index: Manifest, image: Image) -> Descriptor | None:
    manifests = [child for child in index.manifests if child.media_type in media_types.MANIFESTS]
    for wanted in (*image.parts.platforms, *_PREFERRED):
        for child in manifests:
            if wanted.accepts(child.platform or Platform()):
                return child
    return None


def _platforms(manifest: Manifest, config: dict[str, Any]) -> list[str]:
    if manifest.is_index:
        platforms = (child.platform for child in manifest.manifests if child.platform)
        return [str(replace(each, os_version="")) for each in platforms]
    if config.get("architecture"):
        return [
            str(
                Platform(
                    str(config.get("os", "")), str(config["architecture"]), str(config.get("variant", ""))
                )
            )
        ]
    return []


def _unix_time(text: object) -> float | None:
    """RFC 3339, as image-spec config.md has it."""
    try:
        found = datetime.fromisoformat(str(text))
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None


def declined_before(run: MirrorRun, repository: Repository, targets: Sequence[Target], image: Image) -> str:
    """The reason of the last poll, if it holds still: same digest, same rules. Then no GET is needed."""
    record = repository.poll(run.entry.name)
    known, _, reason = (record.declined.get(str(image.reference), "") if record else "").partition(" ")
    lasting = (SCHEMA1, str(NoPlatform(image.parts.platforms)), _not_selected(targets))
    same = reason in lasting or reason.endswith(f" {SCHEMA1}")
    return reason if known == image.digest and same else ""


def why_declined(run: MirrorRun, targets: Sequence[Target], image: Image) -> str:
    """Why this image is left out as long as its digest stays; "" when it is not. May GET its config."""
    if image.media_type in media_types.SCHEMA1:
        return SCHEMA1
    if _not_selected(targets):
        try:
            document = describe(run, image)
        except UpstreamSchema1:
            return SCHEMA1
        if not any(matches_selection(target.rule, document) for target in targets):
            return _not_selected(targets)
    return ""


def _not_selected(targets: Sequence[Target]) -> str:
    """What to say of an image that no rule selects; "" if one of the rules takes any."""
    expressions = [target.rule.select for target in targets]
    if not all(expressions):
        return ""
    return f"is not selected by `select: {'` or `'.join(map(str, dict.fromkeys(expressions)))}`"
