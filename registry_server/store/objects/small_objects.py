"""The contents of a folder of small objects, such as the tags of a repository, for one listing.

The listing has the version of each object, so what is known under its version need not be read again. A
process knows what it read and wrote. One that begins anew finds what others knew in a snapshot: an object
below `snapshots/` with names, versions and contents of a folder. The versions of the listing alone say what
of it holds, so it may be old, lost, or written by two at once.
"""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from registry_server.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from registry_server.store.objects.bucket import Bucket
    from registry_server.store.objects.objects import StoredObject

Known = tuple[str, bytes]  # version and content

_REMEMBERED: Final = 32 << 20  # bytes
_ENTRY: Final = 800  # bytes that an object takes in memory beside its content
_SMALL: Final = 4096  # bytes of an object that is remembered when it is written
_AHEAD: Final = 64  # objects that are read at once
_WORTH_A_SNAPSHOT: Final = 16  # objects that had to be read
_LARGEST_SNAPSHOT: Final = 64 << 20  # bytes of contents


class SmallObjects:
    """What is known of small objects of one bucket. Shared by all threads. Raises `StoreError`."""

    def __init__(
        self,
        bucket: Bucket,
        get: Callable[[str], StoredObject | None],
        put: Callable[[str, bytes], None],
    ) -> None:
        self._bucket, self._get, self._put = bucket, get, put
        self._lock = threading.Lock()
        self._known = LRUCache[str, Known](_REMEMBERED, lambda held: _ENTRY + len(held[1]))

    def written(self, key: str, version: str | None, content: bytes) -> None:
        """This process has put it: the next listing need not read it again."""
        if version and 0 < len(content) <= _SMALL:
            self._keep(key, (version, content))

    def contents(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of every object directly in the folder, in ASCII order."""
        versions = {key.rpartition("/")[2]: info.version for key, info in self._bucket.directly_in(folder)}
        names = sorted(versions)
        snapshot = self._snapshot(folder, versions)
        read, known = 0, dict[str, Known]()
        for start in range(0, len(names), _AHEAD):
            some = names[start : start + _AHEAD]
            unknown = [name for name in some if not self._is_known(folder, name, versions[name], snapshot)]
            found = dict(
                zip(unknown, self._bucket.each(lambda name: self._read(folder, name), unknown), strict=True)
            )
            read += len(unknown)
            for name in some:
                held = found[name] if name in found else self._held(folder, name, versions[name], snapshot)
                if held is not None:
                    known[name] = held
                    yield name, held[1]
        if read >= max(_WORTH_A_SNAPSHOT, len(names) // 20):
            self._put_snapshot(folder, known)

    def _is_known(self, folder: str, name: str, version: str, snapshot: Mapping[str, Known]) -> bool:
        return self._held(folder, name, version, snapshot) is not None

    def _held(self, folder: str, name: str, version: str, snapshot: Mapping[str, Known]) -> Known | None:
        with self._lock:
            held = self._known.get(f"{folder}/{name}") or snapshot.get(name)
        return held if held is not None and held[0] == version else None

    def _read(self, folder: str, name: str) -> Known | None:
        key = f"{folder}/{name}"
        found = self._get(key)
        if found is None:
            return None
        self._keep(key, (found.version, found.content))
        return found.version, found.content

    def _keep(self, key: str, held: Known) -> None:
        with self._lock:
            if _ENTRY + len(held[1]) <= _REMEMBERED:
                self._known[key] = held

    def _snapshot(self, folder: str, versions: Mapping[str, str]) -> Mapping[str, Known]:
        """Only where many would have to be read. What is no snapshot is none."""
        unknown = sum(not self._is_known(folder, name, version, {}) for name, version in versions.items())
        if unknown < _WORTH_A_SNAPSHOT:
            return {}
        found = self._get(_key(folder))
        try:
            body = json.loads(found.content) if found else {}
            return {name: (version, content.encode("latin-1")) for name, (version, content) in body.items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            return {}

    def _put_snapshot(self, folder: str, known: Mapping[str, Known]) -> None:
        if sum(len(content) for _, content in known.values()) > _LARGEST_SNAPSHOT:
            return
        body = {name: (version, content.decode("latin-1")) for name, (version, content) in known.items()}
        with contextlib.suppress(StoreError):  # who may only read can do without
            self._put(_key(folder), json.dumps(body, separators=(",", ":")).encode())


def _key(folder: str) -> str:
    return f"snapshots/{folder}"
