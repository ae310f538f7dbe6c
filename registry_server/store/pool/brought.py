"""What a process has brought into the repositories of a bucket, and what makes sure that it is there still.

A tag is set when its whole closure is there. Who has put a marker himself need not list all markers of the
repository to see it, unless somebody has taken markers away since. So whoever does that, alone in the turn
of the repository, first puts `removals/<folder>`: as long as this object has the version that it had before a
marker was put, that marker is there. One look answers for all who wait for one.
"""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.store.pool.blob_pool import file_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from registry_server.oci.manifest import Manifest
    from registry_server.store.objects.objects import Objects
    from registry_server.store.turns.turns import Turns

_MOST_KEYS: Final = 100_000
_MOST_FOLDERS: Final = 2_000


@dataclass(slots=True)
class Begun:
    """From when on what is put into a folder can be relied upon, until somebody removes something there.

    `version` of the object that is put before a removal, and when it was last asked for."""

    version: str
    asked: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Brought:
    """Of one storage root. Shared by all threads. Methods raise `StoreError`.

    `folder` is that of a repository (`RepositoryReader.folder`), and `key` is below it.
    """

    def __init__(self, objects: Objects, turns: Turns, *, works: bool = True) -> None:
        """`works` is False for a folder: to look at a file takes no time, and sees damage."""
        self._objects, self._turns, self._works = objects, turns, works
        self._lock, self._beginning = threading.Lock(), threading.Lock()
        self._folders = LRUCache[str, Begun](_MOST_FOLDERS)
        self._known = LRUCache[str, tuple[Begun, Descriptor | None]](_MOST_KEYS)

    def begun(self, folder: str) -> Begun | None:
        """Of `begin`, if that was called before."""
        with self._lock:
            return self._folders.get(folder)

    def begin(self, folder: str, turn: str) -> Begun | None:
        """Call it before something is put there.

        `turn` is the one in which others remove, so that none of them is in the middle of it.
        """
        held = self.begun(folder)
        if held is not None or not self._works:
            return held
        with self._beginning:  # one look for all who come at once
            held = self.begun(folder)
            if held is None:
                with self._turns.among_others(turn):
                    held = Begun(self._version(folder))
                with self._lock:
                    self._folders[folder] = held
            return held

    def note(self, begun: Begun | None, key: str, manifest: Descriptor | None = None) -> None:
        """This was put since then. `manifest`: what its record says."""
        if begun is not None:
            with self._lock:
                self._known[key] = begun, manifest

    def confirm(self, folder: str) -> None:
        """In the turn: forget what may have been taken away since it was noted."""
        arrived = time.monotonic()
        held = self.begun(folder)
        if held is None:
            return
        with held.lock:
            if held.asked > arrived:
                return
            asked = time.monotonic()
            if self._version(folder) != held.version:
                with self._lock:
                    self._folders.pop(folder, None)
            held.asked = asked

    def has_all(self, folder: str, keys: Iterable[str]) -> bool:
        """Whether they were noted, and not forgotten."""
        return self._works and all(self._noted(folder, key) for key in keys)

    def manifest(self, folder: str, key: str) -> Descriptor | None:
        """What the record of a manifest says that was noted."""
        noted = self._noted(folder, key)
        return None if noted is None else noted[1]

    def _noted(self, folder: str, key: str) -> tuple[Begun, Descriptor | None] | None:
        with self._lock:
            noted = self._known.get(key)
            return noted if noted is not None and noted[0] is self._folders.get(folder) else None

    def _version(self, folder: str) -> str:
        found = self._objects.look(_key(folder))
        return found.version if found else ""


def announce_removal(objects: Objects, folder: str) -> None:
    """Before markers or manifests of a repository are taken away, alone in its turn."""
    objects.put(_key(folder), secrets.token_bytes(16))


def keys_named_by(folder: str, manifest: Manifest) -> Iterator[str]:
    """The markers of what a manifest needs; an entry of an index is taken for a manifest."""
    for blob in manifest.blobs:
        yield f"{folder}/blobs/{file_name(blob.digest)}"
    for child in manifest.manifests:
        if not child.is_foreign:
            yield f"{folder}/manifests/{file_name(child.digest)}"


def unmarked(objects: Objects, folder: str, manifest: Manifest) -> list[Descriptor]:
    """The blobs and child manifests of `manifest` that have no marker: one look at the markers of all."""
    children = [each for each in manifest.manifests if not each.is_foreign]
    wanted = {file_name(each.digest) for each in (*manifest.blobs, *children)}
    blobs = objects.present(f"{folder}/blobs", wanted)
    # Manifests count as blobs too; an entry of an index may be a blob, unless its type says otherwise.
    known = {file_name(each.digest) for each in children if each.media_type in media_types.MANIFESTS}
    asked = known | (wanted - blobs)
    manifests = objects.present(f"{folder}/manifests", asked) if asked else set()
    there = (blobs - known) | manifests
    found = [*manifest.blobs, *{child.digest: child for child in children}.values()]
    return [each for each in found if file_name(each.digest) not in there]


def _key(folder: str) -> str:
    return f"removals/{folder}"
