"""The content rules that would take what is missing. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from flows.cover.places import entry_names
from profiles.additions import Addition
from profiles.imports.image_reference import destination_keys
from profiles.model.sync import default_name
from profiles.values.upstream_url import UpstreamUrl
from registry_server.counted import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from flows.cover.coverage import Coverage
    from flows.cover.places import ClientView
    from profiles.imports.image_reference import ImageReference
    from profiles.model.registry_entry import RegistryEntry
    from registry_server.oci.descriptor import Platform

_DOCKER_HUB: Final = "docker.io"
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9.]+")
_NEW: Final = {"pollInterval": "6h", "maxRetries": 3, "retryDelay": "30s"}


@dataclass(slots=True)
class _Group:
    """Images of one registry; `entry` is None where no entry can take them."""

    entry: RegistryEntry | None
    images: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, name: str, here: str, reference: str) -> None:
        sign = "@" if ":" in reference else ":"
        self.images.setdefault((name, here), []).append(f"{name}{sign}{reference}")


def suggest(
    coverages: Iterable[Coverage], view: ClientView, platforms: Sequence[Platform] = ()
) -> list[Addition]:
    """One for each registry entry, those that are there first. `platforms` of the nodes, () if not known."""
    groups: dict[tuple[bool, str], _Group] = {}
    for each in coverages:
        image = each.image.name
        if each.is_covered or not each.wants_rule or image is None or view.is_own(image):
            continue
        entry = _entry_for(view, image)
        key = (entry is None, image.registry if entry is None else entry.name)
        name = image.repository if entry is None else entry_names(entry, image)[0]
        groups.setdefault(key, _Group(entry)).add(name, _local(view, image, entry, name), image.reference)
    taken = set(view.profile.entry_names())
    return [
        _addition(group, registry, taken, platforms)
        for (_, registry), group in sorted(groups.items(), key=lambda each: each[0])
    ]


def _entry_for(view: ClientView, image: ImageReference) -> RegistryEntry | None:
    """One that polls this registry. Rules in an entry that takes everything on demand would narrow it."""
    entries = view.profile.sync.registries if view.profile.sync.enable else ()
    return next((each for each in entries if each.is_synced and entry_names(each, image)), None)


def _local(view: ClientView, image: ImageReference, entry: RegistryEntry | None, name: str) -> str:
    """Where clients look already; else below what the entry puts before its names."""
    if looked_for := view.looked_for(image):
        return looked_for[0]
    kept = [rule.destination.strip("/") for rule in entry.content if not rule.strip_prefix] if entry else []
    before = kept[0] if kept else _folder(image.registry)
    return "/".join(filter(None, (before, name)))


def _folder(registry: str) -> str:
    """Of a registry that is new here: two may have repositories of one name. Docker's names stay as they are,
    because its registry mirrors are asked for them."""
    return "" if registry == _DOCKER_HUB else _NOT_IN_NAMES.sub("-", registry).strip("-.")


def _addition(group: _Group, registry: str, taken: set[str], platforms: Sequence[Platform]) -> Addition:
    rules = [*_rules(group, _wanted(group.entry, platforms))]
    number = sum(len(each) for each in group.images.values())
    comment = f"For {counted(number, 'image')} that a cluster, chart or manifest uses (mirrorflow cover)."
    if group.entry is not None:
        return Addition(group.entry.name, rules, comment=comment)
    url = UpstreamUrl.parse(registry)
    scheme = "http" if url.is_loopback else "https"
    name = _free(default_name(url), taken)
    return Addition(name, rules, {"name": name, "urls": [f"{scheme}://{registry}"], **_NEW}, comment)


def _rules(group: _Group, platforms: Sequence[str]) -> Iterable[dict[str, Any]]:
    """One rule for all images that land below the same path."""
    together: defaultdict[str, list[str]] = defaultdict(list)
    more = {"platforms": list(platforms)} if platforms else {}
    for (name, here), images in group.images.items():
        if here == name or here.endswith(f"/{name}"):
            together[here.removesuffix(name).strip("/")] += images
        else:
            yield {**destination_keys(name, here), "images": sorted(images), **more}
    for destination, images in together.items():
        where = {"destination": f"/{destination}"} if destination else {}
        yield {"images": sorted(dict.fromkeys(images)), **where, **more}


def _wanted(entry: RegistryEntry | None, platforms: Sequence[Platform]) -> list[str]:
    """Those of the nodes, where the entry would take others, or would be new. () means all."""
    if not platforms:
        return []
    if entry is None:
        return [str(each) for each in platforms]
    only = entry.platforms.only if entry.platforms else ()
    if not only or all(any(wish.accepts(each) for wish in only) for each in platforms):
        return []
    return [str(each) for each in platforms]


def _free(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken.add(found)
    return found
