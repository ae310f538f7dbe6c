"""Named sets of tags: nothing is copied, and the collector keeps what they name.

One file for each, `snapshots/<name>.json` in the main root. A tag may move or go afterwards; the snapshot
says what it was.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store import records
from registry_server.store.errors import StoreDamaged, StoreError, translated
from registry_server.store.mirror_state.tag_switch import kept_before
from registry_server.store.objects.objects import Conflict, content_of
from registry_server.store.records import TagRecord, tag_from_json, tag_to_json
from registry_server.store.repository_reader import held_manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from registry_server.store.store import Store

_FOLDER: Final = "snapshots"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)


class SnapshotError(StoreError):
    """There is no snapshot of that name, or one already, or it is no name."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the tags of some repositories named. `taken` in UTC, `by` whom."""

    name: str
    taken: str
    by: str
    tags: Mapping[RepositoryName, Mapping[Tag, TagRecord]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(len(each) for each in self.tags.values())

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "taken": self.taken,
            "by": self.by,
            "tags": {
                name: {tag: tag_to_json(record) for tag, record in found.items()}
                for name, found in self.tags.items()
            },
        }


@translated
def take_snapshot(
    store: Store, name: str, *, taken: str, by: str, wanted: Callable[[str], bool] = lambda _: True
) -> Snapshot:
    """Keep what the tags of the `wanted` repositories name now. Raises `SnapshotError`, `StoreError`."""
    key, objects = _key(name), store.roots[0].objects
    tags = {each: store.repository(each).tag_records() for each in store.repositories() if wanted(each)}
    found = Snapshot(name, taken, by, {each: held for each, held in tags.items() if held})
    if not found.tags:
        raise SnapshotError(
            "no repository that was named has a tag, so there is nothing to keep; 'mirrorflow store ls' "
            "lists tags, and `**` in a pattern goes across slashes, as in 'team/**'"
        )
    try:
        objects.put(key, json.dumps(found.to_json(), indent=1).encode() + b"\n", new=True)
    except Conflict as error:
        raise SnapshotError(
            f"there is a snapshot {name} already: delete it first, or take another name"
        ) from error
    objects.settle()
    _check_kept(store, found)
    return found


def _check_kept(store: Store, snapshot: Snapshot) -> None:
    """A collector that is at it, and did not see the snapshot, may have removed tags with what they named.

    Whoever removes something after this turn sees it. Raises `SnapshotError`, and there is no snapshot then.
    """
    for name, tags in snapshot.tags.items():
        repository = store.repository(name)
        with store.root_of(name).turns.among_others(repository.turn):
            gone = tags.keys() - repository.tag_records().keys()
            held = set(held_manifests(repository)) if gone else set()
        for tag in sorted(gone):
            if tags[tag].digest not in held:
                store.roots[0].objects.remove(_key(snapshot.name))
                raise SnapshotError(f"{name}:{tag} was removed while it was taken; take it again")


@translated
def read_snapshot(store: Store, name: str) -> Snapshot:
    """Raises `SnapshotError`, `StoreDamaged`."""
    content = content_of(store.roots[0].objects, key := _key(name))
    if content is None:
        names = ", ".join(each.name for each in all_snapshots(store)) or "none"
        raise SnapshotError(f"there is no snapshot {name}; there is: {names}")
    return _decoded(store, key, content)


@translated
def all_snapshots(store: Store) -> list[Snapshot]:
    """In the order of their names. Raises `StoreDamaged` for one that cannot be read."""
    contents = store.roots[0].objects.contents(_FOLDER)
    return [
        _decoded(store, f"{_FOLDER}/{name}", content) for name, content in contents if name.endswith(".json")
    ]


@translated
def delete_snapshot(store: Store, name: str) -> None:
    """The collector may have what it kept. Raises `SnapshotError`, `StoreError`."""
    read_snapshot(store, name)
    store.roots[0].objects.remove(_key(name))


def kept_digests(store: Store) -> dict[str, set[str]]:
    """What the collector keeps without a tag, by repository: what snapshots name, and what tags were before
    the last promotions. Fails closed: raises `StoreDamaged` when one cannot be read, OSError.
    """
    found: dict[str, set[str]] = {}
    for snapshot in all_snapshots(store):
        for name, tags in snapshot.tags.items():
            for record in tags.values():
                found.setdefault(name, set()).update(record.roots)
    for repository, record in kept_before(store):
        found.setdefault(repository, set()).update(record.roots)
    return found


def _decoded(store: Store, key: str, content: bytes) -> Snapshot:
    found = records.decoded(content, _from_json)
    if found is None:
        raise StoreDamaged(
            f"{store.roots[0].objects.where}/{key} cannot be read, so it is unknown what it keeps; remove it"
        )
    return found


def _from_json(body: Any) -> Snapshot:
    return Snapshot(
        str(body["name"]),
        str(body["taken"]),
        str(body["by"]),
        {
            RepositoryName(name): {Tag(tag): tag_from_json(record) for tag, record in found.items()}
            for name, found in body["tags"].items()
        },
    )


def _key(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SnapshotError(f"{name!r} is not a name of a snapshot; write letters, digits, '.', '_' and '-'")
    return f"{_FOLDER}/{name}.json"
