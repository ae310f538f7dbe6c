"""Changing many tags at once: for whoever reads, all of them have changed, or none.

Each tag's file first says both what it is and what it becomes, and names the change. One file,
`changes/<id>.done`, then decides for all of them (repository_reader.py looks for it). After that each file is
written plainly. A change that was killed before that file was there is undone by the next one, and else
finished; until then readers are told right all the same. Only lists of tags show new names before the rest.

`changes/<id>.json` is the record of it: who, when, what each tag was and became.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import ImageName, Tag
from registry_server.store import records
from registry_server.store.closure import absent_from
from registry_server.store.errors import ClosureIncomplete, StoreDamaged, TagMoved, translated
from registry_server.store.objects.objects import Conflict
from registry_server.store.pool.blob_pool import file_name
from registry_server.store.records import PendingTag, TagRecord, tag_from_json, tag_to_json
from registry_server.store.repository_reader import done_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.objects.objects import Objects, StoredObject
    from registry_server.store.store import Store

_FOLDER: Final = "changes"
ROLE: Final = "promote"
"""The role that a process claims in the store while it changes tags."""
KEPT: Final = 20
"""Changes that can be taken back: so long the collector keeps what their tags were before."""
RECORDS_KEPT: Final = 100
RECORD_SECONDS: Final = 365 * 86400.0
"""The records of the last 100 changes stay, and all of the last year."""


@dataclass(frozen=True, slots=True)
class TagChange:
    """One tag: what it names before and after; None: it is not there. `verdict`: on the image after."""

    before: TagRecord | None
    after: TagRecord | None
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """Many tags by their names, `repository:tag`. `id` begins with the time; `what` is for people.

    `undoes` is the id of the change that this one takes back. `destination`: the other registry that it is
    made in, by its name in the profile; "" for the store.
    """

    id: str
    what: str
    by: str
    when: str
    tags: Mapping[str, TagChange] = field(default_factory=dict)
    undoes: str = ""
    destination: str = ""
    done: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "what": self.what,
            "by": self.by,
            "when": self.when,
            "undoes": self.undoes,
            "destination": self.destination,
            "tags": {
                name: {
                    "before": each.before and tag_to_json(each.before),
                    "after": each.after and tag_to_json(each.after),
                    "verdict": each.verdict,
                }
                for name, each in self.tags.items()
            },
        }


@translated
def switch_tags(store: Store, change: Change) -> None:
    """Make the change. Everything that the tags will name has to be in their repositories.

    The caller holds `ROLE`. Raises `TagMoved` when a tag is not what it was, `ClosureIncomplete`,
    `ManifestUnknown`, `StoreError`; then nothing has changed.
    """
    finish_interrupted(store)
    objects = _objects(store)
    note_change(store, change)
    try:
        store.sync()
        # New names last: a list of tags shows them from here on.
        for name, each in sorted(change.tags.items(), key=lambda item: item[1].before is None):
            _prepare(store, ImageName.parse(name), each, change.id)
        store.sync()
    except BaseException:
        _settle_all(store, change, done=False)
        objects.remove(_key(change.id))
        raise
    mark_done(store, change)
    _settle_all(store, change, done=True)


@translated
def note_change(store: Store, change: Change) -> None:
    """Write down what is about to be done. Raises `StoreError`."""
    _objects(store).put(_key(change.id), json.dumps(change.to_json(), indent=1).encode() + b"\n")
    _objects(store).settle()


@translated
def mark_done(store: Store, change: Change) -> None:
    """From here on the change counts. Raises `StoreError`."""
    _objects(store).put(done_key(change.id), b"")
    _objects(store).settle()


@translated
def drop_change(store: Store, change: Change) -> None:
    """Forget one that was not made, or is not needed any more. Raises `StoreError`.

    Its record goes first: a record that is not done would be undone.
    """
    _objects(store).remove(_key(change.id))
    _objects(store).remove(done_key(change.id))


@translated
def drop_old(store: Store, now: float) -> int:
    """Forget records of changes that are both old and not among the last ones; how many."""
    old = [
        each for each in all_changes(store)[:-RECORDS_KEPT] if each.done and _age(each, now) > RECORD_SECONDS
    ]
    over = [change for change in old if change.destination or not _waits(store, change)]
    for change in over:
        drop_change(store, change)
    return len(over)


def _age(change: Change, now: float) -> float:
    """In seconds. One whose time cannot be read is young."""
    try:
        return now - datetime.fromisoformat(change.when).timestamp()
    except ValueError:
        return 0.0


@translated
def finish_interrupted(store: Store) -> None:
    """Finish or undo what a killed process left, so that no file says two things. Raises `StoreError`."""
    for change in changes_here(store):
        if _waits(store, change):
            _settle_all(store, change, done=change.done)
        if not change.done:
            _objects(store).remove(_key(change.id))


@translated
def all_changes(store: Store) -> list[Change]:
    """Oldest first, those that were never done included. Raises `StoreError`."""
    objects = _objects(store)
    contents = (content for name, content in objects.contents(_FOLDER) if name.endswith(".json"))
    found = [each for content in contents if (each := records.decoded(content, _from_json)) is not None]
    done = objects.present(_FOLDER, [_done_name(each.id) for each in found])
    return [replace(each, done=_done_name(each.id) in done) for each in found]


def changes_here(store: Store) -> list[Change]:
    """Of `all_changes` those in the store itself."""
    return [change for change in all_changes(store) if not change.destination]


def kept_before(store: Store) -> Iterator[tuple[str, TagRecord]]:
    """What tags were before the last `KEPT` changes, by repository: for the collector.

    Fails closed: raises `StoreDamaged` when the record of one cannot be read, OSError.
    """
    objects = _objects(store)
    for name, content in objects.contents(_FOLDER):
        if name.endswith(".json") and records.decoded(content, _from_json) is None:
            raise StoreDamaged(
                f"{objects.where}/{_FOLDER}/{name} cannot be read, so it is unknown what it keeps; remove it"
            )
    for change in changes_here(store)[-KEPT:]:
        for name, each in change.tags.items():
            if each.before is not None:
                yield name.rpartition(":")[0], each.before


def _prepare(store: Store, name: ImageName, each: TagChange, change: str) -> None:
    """Write both into the tag's file, once everything that it will name is known to be there."""
    repository, tag = store.repository(name.repository), name.reference
    assert isinstance(tag, Tag), "changes are of tags"
    with store.root_of(name.repository).turns.alone(repository.turn):
        held = _held(store, name)
        if _now(store, held) != each.before:
            raise _moved(name)
        if each.after is not None:
            _require_whole(store, name.repository, tag, each.after)
        base = each.before or each.after
        if base is None:
            return
        # As when any tag moves, the age of what it named counts from now: somebody may be pulling it.
        roots = each.before.roots if each.before else ()
        keys = (f"{repository.folder}/manifests/{file_name(root)}" for root in roots)
        store.root_of(name.repository).objects.renew(*keys)
        record = replace(base, pending=PendingTag(change, each.after), absent=each.before is None)
        try:
            _write(store, name.repository, tag, record, held)
        except Conflict as error:
            raise _moved(name) from error


def _moved(name: ImageName) -> TagMoved:
    return TagMoved(f"{name} was moved by somebody else; look at it, and try again")


def _require_whole(store: Store, name: RepositoryName, tag: Tag, record: TagRecord) -> None:
    """Invariant 1, of what will be visible."""
    repository = store.repository(name)
    missing = set()
    for root in record.roots:
        descriptor, body = repository.read_manifest(root)
        manifest = parse_manifest(body, descriptor.media_type)
        missing |= set(absent_from(repository, manifest).all) - set(record.sparse)
    if missing:
        raise ClosureIncomplete(f"{name}:{tag}", sorted(missing))


def _settle_all(store: Store, change: Change, *, done: bool) -> None:
    for name in change.tags:
        _settle(store, ImageName.parse(name), change.id, done=done)
    store.sync()


def _settle(store: Store, name: ImageName, change: str, *, done: bool) -> None:
    """Say one thing again, unless somebody else has written the tag meanwhile."""
    repository, tag = store.repository(name.repository), name.reference
    assert isinstance(tag, Tag), "changes are of tags"
    with store.root_of(name.repository).turns.alone(repository.turn):
        stored = _held(store, name)
        held = _record_in(stored)
        if held is None or held.pending is None or held.pending.change != change:
            return
        settled = held.settled(done=done)
        if settled is None:
            _remove(store, name.repository, tag)
        else:
            with suppress(Conflict):
                _write(store, name.repository, tag, settled, stored)


def _now(store: Store, stored: StoredObject | None) -> TagRecord | None:
    """What the tag names, as it is and not as this process remembers it while it holds a lease."""
    held = _record_in(stored)
    if held is None or held.pending is None:
        return held
    return held.settled(done=_objects(store).look(done_key(held.pending.change)) is not None)


def _waits(store: Store, change: Change) -> bool:
    """Whether a killed process has left a tag that says two things: `done` has to stay for it."""
    held = (_raw(store, ImageName.parse(name)) for name in change.tags)
    return any(each is not None and each.pending is not None for each in held)


def _raw(store: Store, name: ImageName) -> TagRecord | None:
    return _record_in(_held(store, name))


def _held(store: Store, name: ImageName) -> StoredObject | None:
    return store.root_of(name.repository).objects.get(_tag_key(store, name.repository, name.reference))


def _record_in(stored: StoredObject | None) -> TagRecord | None:
    return records.decoded(stored.content if stored else None, tag_from_json)


def _write(
    store: Store, name: RepositoryName, tag: Tag, record: TagRecord, held: StoredObject | None
) -> None:
    """In a bucket only in place of what was `held`: the turn may be lost, and not noticed yet. Raises
    `Conflict`."""
    root, key = store.root_of(name), _tag_key(store, name, tag)
    version = held.version if held else None
    guarded = not root.is_local
    content = records.encode(tag_to_json(record))
    root.objects.put(key, content, new=guarded and held is None, instead_of=version if guarded else None)
    root.pool.memory.forget(key)


def _remove(store: Store, name: RepositoryName, tag: Tag) -> None:
    root, key = store.root_of(name), _tag_key(store, name, tag)
    root.objects.remove(key)
    root.pool.memory.forget(key)


def _tag_key(store: Store, name: RepositoryName, tag: str) -> str:
    return f"{store.repository(name).folder}/tags/{tag}"


def _from_json(body: Any) -> Change:
    return Change(
        id=str(body["id"]),
        what=str(body["what"]),
        by=str(body["by"]),
        when=str(body["when"]),
        undoes=str(body["undoes"]),
        destination=str(body.get("destination", "")),
        tags={
            str(name): TagChange(
                each["before"] and tag_from_json(each["before"]),
                each["after"] and tag_from_json(each["after"]),
                str(each["verdict"]),
            )
            for name, each in body["tags"].items()
        },
    )


def _objects(store: Store) -> Objects:
    return store.roots[0].objects


def _done_name(change: str) -> str:
    return done_key(change).rpartition("/")[2]


def _key(change: str) -> str:
    return f"{_FOLDER}/{change}.json"
