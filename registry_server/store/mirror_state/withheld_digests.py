"""Upstream digests that a tag names and that are not in the store, because they wait or were refused.

One small file for each such tag, or digest that is asked for by digest: `withheld/<repository>/_r/<tag>`. It
holds the digest that was seen last. When another one is seen, its time starts again, so that a digest does
not age while the tag names something else.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from registry_server.store import records
from registry_server.store.blob_pool import digest_of, file_name
from registry_server.store.errors import translated
from registry_server.store.filesystem import disk as files
from registry_server.store.repository_reader import VISIBLE
from registry_server.store.store import folders

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.filesystem.disk import Disk
    from registry_server.store.store import Store

_FOLDER: Final = "withheld"
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
    return records.decoded(files.read(_path(store, name, reference)), _read)


@translated
def put_withheld(store: Store, name: RepositoryName, reference: Tag | Digest, found: Withheld) -> None:
    """Of two that write different digests at once one stays: a time can be lost, and none gained.

    Raises `StoreError`.
    """
    _disk(store).write_if_changed(_path(store, name, reference), records.encode(asdict(found)))


@translated
def forget_withheld(store: Store, name: RepositoryName, reference: Tag | Digest) -> None:
    """The reference names what the store has, or nothing. Raises `StoreError`."""
    files.remove(_path(store, name, reference))


@translated
def all_withheld(store: Store, name: RepositoryName) -> dict[Tag | Digest, Withheld]:
    """Everything of one repository, in no order. Raises `StoreError`."""
    try:
        found = {_reference(file) for file in os.listdir(_folder(store, name))}  # noqa: PTH208 - texts are faster
    except FileNotFoundError:
        return {}
    read = {each: find_withheld(store, name, each) for each in found if each is not None}
    return {reference: each for reference, each in read.items() if each is not None}


@translated
def withholding(store: Store) -> list[RepositoryName]:
    """All repositories that something was ever withheld from, in ASCII order. Raises `StoreError`."""
    root = f"{_disk(store).root}/{_FOLDER}"
    return sorted(name for name in folders(root) if files.is_folder(f"{root}/{name}/{VISIBLE}"))


@translated
def latest_time(store: Store, now: float, *, write: bool = True) -> float:
    """The later one of `now` and the latest time that this store was told, in unix seconds.

    With it a clock that is slow for a while (a machine without a battery, a virtual machine that was resumed)
    dates no digest back. Raises `StoreError`.
    """
    path = f"{_disk(store).root}/{_FOLDER}/time.json"
    known = records.decoded(files.read(path), lambda body: float(body["latest"])) or 0.0
    if write and now >= known + _STEP:
        _disk(store).write(path, records.encode({"latest": now}))
    return max(now, known)


def _disk(store: Store) -> Disk:
    return store.roots[0].disk


def _folder(store: Store, name: RepositoryName) -> str:
    return f"{_disk(store).root}/{_FOLDER}/{name}/{VISIBLE}"


def _path(store: Store, name: RepositoryName, reference: Tag | Digest) -> str:
    file = file_name(reference) if isinstance(reference, Digest) else str(reference)
    return f"{_folder(store, name)}/{file}"


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
