"""Upstream digests that a tag names and that are not in the store, because they wait or were refused.

One small file for each such tag, or digest that is asked for by digest: `withheld/<repository>/_r/<tag>`. It
holds the digest that was seen last. When another one is seen, its time starts again, so that a digest does
not age while the tag names something else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from registry_server.store import records
from registry_server.store.errors import translated
from registry_server.store.objects.objects import content_of, put_if_changed
from registry_server.store.pool.blob_pool import digest_of, file_name
from registry_server.store.repository_reader import VISIBLE
from registry_server.store.store import repositories_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.objects.objects import Objects
    from registry_server.store.run_memory import RunMemory
    from registry_server.store.store import Store

_FOLDER: Final = "withheld"
_TIME: Final = f"{_FOLDER}/time.json"
_STEP: Final = 60.0  # seconds that the latest time must grow by before it is written again


@dataclass(frozen=True, slots=True)
class Withheld:
    """A digest that is not let in. Times in unix seconds.

    `registry` is the entry that saw it, `source` its upstream repository. `until`: it waits until then, 0 for
    one that does not wait. `refused` says why a policy refused it, "" for one that was not refused.
    """

    registry: str
    source: str
    digest: Digest
    since: float
    until: float = 0.0
    refused: str = ""


@translated
def find_withheld(store: Store, name: RepositoryName, reference: Tag | Digest) -> Withheld | None:
    """What the reference was last seen to name, while that is not in the store. Raises `StoreError`."""
    return records.decoded(content_of(_objects(store), _key(name, reference)), _read)


@translated
def put_withheld(store: Store, name: RepositoryName, reference: Tag | Digest, found: Withheld) -> None:
    """Of two that write different digests at once one stays: a time can be lost, and none gained.

    Raises `StoreError`.
    """
    key = _key(name, reference)
    put_if_changed(_objects(store), key, records.encode(asdict(found)))
    _memory(store).forget(key)


@translated
def forget_withheld(store: Store, name: RepositoryName, reference: Tag | Digest) -> None:
    """The reference names what the store has, or nothing. Raises `StoreError`."""
    key, folder = _key(name, reference), _folder(name)
    # A poll asks this of every tag, and nearly none is withheld: a look costs less than to remove nothing.
    if _memory(store).works:
        withheld = key.rpartition("/")[2] in _names(store, folder)
    else:
        withheld = _objects(store).look(key) is not None
    if withheld:
        _objects(store).remove(key)
        _memory(store).forget(key)


@translated
def all_withheld(store: Store, name: RepositoryName) -> dict[Tag | Digest, Withheld]:
    """Everything of one repository, in no order. Raises `StoreError`."""
    found: dict[Tag | Digest, Withheld] = {}
    if _memory(store).works and not _names(store, _folder(name)):
        return found
    for file, content in _objects(store).contents(_folder(name)):
        reference, withheld = _reference(file), records.decoded(content, _read)
        if reference is not None and withheld is not None:
            found[reference] = withheld
    return found


def _names(store: Store, folder: str) -> set[str]:
    return _memory(store).lately(folder, lambda: {*_objects(store).names(folder).objects})


@translated
def withholding(store: Store) -> list[RepositoryName]:
    """All repositories that something was ever withheld from, in ASCII order. Raises `StoreError`."""
    objects = _objects(store)
    return sorted(name for name in repositories_in(objects, _FOLDER) if objects.has_folder(_folder(name)))


@translated
def latest_time(store: Store, now: float, *, write: bool = True) -> float:
    """The later one of `now` and the latest time that this store was told, in unix seconds.

    With it a clock that is slow for a while (a machine without a battery, a virtual machine that was resumed)
    dates no digest back. Raises `StoreError`.
    """
    held = content_of(_objects(store), _TIME)
    known = records.decoded(held, lambda body: float(body["latest"])) or 0.0
    if write and now >= known + _STEP:
        _objects(store).put(_TIME, records.encode({"latest": now}))
    return max(now, known)


def _objects(store: Store) -> Objects:
    return store.roots[0].objects


def _memory(store: Store) -> RunMemory:
    return store.roots[0].pool.memory


def _folder(name: RepositoryName) -> str:
    return f"{_FOLDER}/{name}/{VISIBLE}"


def _key(name: RepositoryName, reference: Tag | Digest) -> str:
    file = file_name(reference) if isinstance(reference, Digest) else str(reference)
    return f"{_folder(name)}/{file}"


def _reference(file: str) -> Tag | Digest | None:
    return digest_of(file) or (Tag(file) if Tag.is_valid(file) else None)


def _read(body: Mapping[str, Any]) -> Withheld:
    return Withheld(
        str(body["registry"]),
        str(body["source"]),
        Digest(body["digest"]),
        float(body["since"]),
        float(body["until"]),
        str(body["refused"]),
    )
