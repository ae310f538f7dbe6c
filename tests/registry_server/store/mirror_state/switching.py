"""Programs for tests of many tags that change at once: one changes them for ever, one reads them."""

from __future__ import annotations

import random
import sys
from pathlib import Path

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.mirror_state.tag_switch import Change, TagChange, switch_tags
from registry_server.store.store import Store
from tests.registry_server.store.images import image, put_image, record

REPOSITORIES = tuple(RepositoryName(f"prod/app-{number}") for number in range(4))
TAGS = tuple(Tag(f"tag-{number}") for number in range(5))
VERSIONS = 400


def content(version: int) -> bytes:
    return f"version {version}".encode()


def digests() -> dict[str, int]:
    """Which version an image is, by its digest."""
    return {image(content(version)).descriptor().digest: version for version in range(VERSIONS)}


def change_to(store: Store, version: int) -> Change:
    """All tags to one version."""
    tags = {}
    for name in REPOSITORIES:
        repository = store.repository(name)
        made = put_image(repository, content(version))
        for tag in TAGS:
            tags[f"{name}:{tag}"] = TagChange(repository.tag(tag), record(made))
    return Change(
        f"2026-{version:06}", f"version {version}", "tester@here", "2026-01-02T03:04:05+00:00", tags
    )


def versions(store: Store) -> list[int]:
    """What each tag is, in an order of its own each time; -1 for one that is not there."""
    known, found = digests(), []
    names = [(name, tag) for name in REPOSITORIES for tag in TAGS]
    random.shuffle(names)
    for name, tag in names:
        held = store.repository(name).tag(tag)
        found.append(known[held.digest] if held else -1)
    return found


def change_for_ever(root: Path, first: int) -> None:
    store = Store.open(root, durability="none")
    for version in range(first, VERSIONS):
        switch_tags(store, change_to(store, version))


def read_for_ever(root: Path) -> None:
    """Exits with 1 as soon as a tag is older than one that was read before."""
    store, last, passes = Store.open(root, durability="none"), -1, 0
    while last < VERSIONS - 1:
        for version in versions(store):
            if version < last:
                print(f"saw version {last}, then {version}", flush=True)
                sys.exit(1)
            last = version
        passes += 1
    print(passes, flush=True)


if __name__ == "__main__":
    program, folder, *more = sys.argv[1:]
    if program == "change":
        change_for_ever(Path(folder), int(more[0]))
    else:
        read_for_ever(Path(folder))
