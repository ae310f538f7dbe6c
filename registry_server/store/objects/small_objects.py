"""The contents of a folder of small objects, such as the tags of a repository, for one listing.

The listing has the version of each object, so what is known under its version need not be read again. A
process knows what it read and wrote. One that begins anew finds what others knew in a snapshot: objects below
`snapshots/` with names, versions and contents of a folder. The versions of the listing alone say what of it
holds, so it may be old, lost, or written by two at once.

A snapshot has a power of two of parts, so that a change does not write all of it: a name is in the part of
its hash.
"""

from __future__ import annotations

import contextlib
import json
import threading
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from registry_server.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from registry_server.store.objects.bucket import Bucket
    from registry_server.store.objects.objects import StoredObject

Known = tuple[str, bytes]  # version and content

_REMEMBERED: Final = 32 << 20  # bytes
_ENTRY: Final = 800  # bytes that an object takes in memory beside its content
_SMALL: Final = 4096  # bytes of an object that is remembered when it is written
_AHEAD: Final = 64  # objects that are read at once
_WORTH_A_SNAPSHOT: Final = 16  # objects that had to be read, or would have to be
_IN_A_PART: Final = 1_000  # objects
_MOST_PARTS: Final = 4_096
_LARGEST_PART: Final = 8 << 20  # bytes of contents
_FOLDERS: Final = 10_000  # of which it is remembered what changed


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
        self._changed = LRUCache[str, int](_FOLDERS)  # a bit for each hash of a name that was written

    def written(self, key: str, version: str | None, content: bytes) -> None:
        """This process has put it: the next listing need not read it again."""
        if version and 0 < len(content) <= _SMALL:
            self._keep(key, (version, content))
            folder, _, name = key.rpartition("/")
            with self._lock:
                self._changed[folder] = self._changed.get(folder, 0) | 1 << _hash(name)

    def contents(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of every object directly in the folder, in ASCII order."""
        return self._contents(folder, 0)

    def leave_snapshot(self, folder: str) -> None:
        """For others: of what this process has written there since it last did so."""
        with self._lock:
            changed = self._changed.pop(folder, 0)
        if changed:
            for _ in self._contents(folder, changed):
                pass

    def _contents(self, folder: str, changed: int) -> Iterator[tuple[str, bytes]]:
        versions = {key.rpartition("/")[2]: info.version for key, info in self._bucket.directly_in(folder)}
        names = sorted(versions)
        unknown = [name for name in names if self._held(f"{folder}/{name}", versions[name]) is None]
        snapshot = _Snapshot(folder, _parts_for(len(names)))
        snapshot.read_for(unknown, self._read_parts)
        for start in range(0, len(names), _AHEAD):
            some = {name: versions[name] for name in names[start : start + _AHEAD]}
            for name, held in self._some(folder, some, snapshot).items():
                if held is not None:
                    snapshot.now[name] = held
                    yield name, held[1]
        self._put_parts(snapshot, changed)

    def _some(self, folder: str, versions: Mapping[str, str], snapshot: _Snapshot) -> dict[str, Known | None]:
        found = {
            name: self._held(f"{folder}/{name}", version) or snapshot.held(name, version)
            for name, version in versions.items()
        }
        unknown = [name for name, held in found.items() if held is None]
        read = self._bucket.each(lambda name: self._read(f"{folder}/{name}"), unknown)
        snapshot.missed += unknown
        return found | dict(zip(unknown, read, strict=True))

    def _held(self, key: str, version: str) -> Known | None:
        with self._lock:
            held = self._known.get(key)
        return held if held is not None and held[0] == version else None

    def _read(self, key: str) -> Known | None:
        found = self._get(key)
        if found is None:
            return None
        self._keep(key, (found.version, found.content))
        return found.version, found.content

    def _keep(self, key: str, held: Known) -> None:
        with self._lock:
            if _ENTRY + len(held[1]) <= _REMEMBERED:
                self._known[key] = held

    def _read_parts(self, keys: Iterable[str]) -> list[bytes]:
        found = self._bucket.each(self._get, keys)
        return [each.content if each else b"{}" for each in found]

    def _put_parts(self, snapshot: _Snapshot, changed: int) -> None:
        with contextlib.suppress(StoreError):  # who may only read can do without
            self._bucket.each(lambda part: self._put(*part), snapshot.parts_to_put(changed))


@dataclass(slots=True)
class _Snapshot:
    """What others have left of a folder, and what is known `now`. `missed`: had to be read by itself."""

    folder: str
    parts: int
    now: dict[str, Known] = field(default_factory=dict)
    missed: list[str] = field(default_factory=list)
    _left: dict[str, Known] = field(default_factory=dict)

    def held(self, name: str, version: str) -> Known | None:
        held = self._left.get(name)
        return held if held is not None and held[0] == version else None

    def read_for(self, unknown: Iterable[str], read: Callable[[list[str]], list[bytes]]) -> None:
        """Only the parts of which many would have to be read."""
        parts = [number for number, count in self._counts(unknown).items() if count >= _WORTH_A_SNAPSHOT]
        for content in read([self._key(number) for number in parts]):
            self._left |= _decoded(content)

    def parts_to_put(self, changed: int) -> list[tuple[str, bytes]]:
        """Key and content of those that are worth it: much had to be read, or it `changed`."""
        missed = self._counts(self.missed)
        wanted = {
            number
            for number in range(self.parts)
            if missed.get(number, 0) >= _WORTH_A_SNAPSHOT or changed & self._hashes(number)
        }
        found: dict[int, dict[str, Known]] = {number: {} for number in wanted}
        for name, held in self.now.items() if wanted else ():
            if (number := self._part(name)) in wanted:
                found[number][name] = held
        return [
            (self._key(number), _encoded(known))
            for number, known in found.items()
            if sum(len(content) for _, content in known.values()) <= _LARGEST_PART
        ]

    def _counts(self, names: Iterable[str]) -> dict[int, int]:
        found: dict[int, int] = {}
        for name in names:
            found[self._part(name)] = found.get(self._part(name), 0) + 1
        return found

    def _part(self, name: str) -> int:
        return _hash(name) % self.parts

    def _hashes(self, part: int) -> int:
        """The bits of the hashes of all names that are in it."""
        return sum(1 << each for each in range(part, _MOST_PARTS, self.parts))

    def _key(self, part: int) -> str:
        return f"snapshots/{self.folder}/{self.parts}-{part}"


def _parts_for(number: int) -> int:
    """A power of two, so that a hash of a name says its part whatever their number is."""
    return min(_MOST_PARTS, 1 << (max(number - 1, 0) // _IN_A_PART).bit_length())


def _hash(name: str) -> int:
    return zlib.crc32(name.encode()) % _MOST_PARTS


def _decoded(content: bytes) -> dict[str, Known]:
    """What is no snapshot is none."""
    try:
        body = json.loads(content)
        return {name: (version, content.encode("latin-1")) for name, (version, content) in body.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _encoded(known: Mapping[str, Known]) -> bytes:
    body = {name: (version, content.decode("latin-1")) for name, (version, content) in known.items()}
    return json.dumps(body, separators=(",", ":")).encode()
