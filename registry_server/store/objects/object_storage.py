"""Objects in a bucket: S3, Google Cloud Storage, Azure Blob Storage.

All three are strongly consistent: what was put is in the next listing of every host. Nothing is moved or
copied; what takes long appears as a whole by its last request. obstore retries what may be repeated, and
conditional_put.py the rest.

obstore's calls block and let other threads run meanwhile. Many keys at once go through threads: that took
less time than its asyncio calls, for the same CPU (400 puts: 0.14-0.20 s, and 0.25-0.42 s).
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachetools import LRUCache
from obstore import sign
from obstore.exceptions import NotModifiedError

from registry_server.store.errors import StoreError
from registry_server.store.objects.arriving_upload import ArrivingUpload
from registry_server.store.objects.bucket import Bucket, info_of, version_of
from registry_server.store.objects.conditional_put import ConditionalPut
from registry_server.store.objects.file_parts import FileParts, UploadSlots, part_size
from registry_server.store.objects.objects import Conflict, Names, ObjectInfo, StoredObject
from registry_server.store.objects.small_objects import SmallObjects

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from obstore import GetOptions

    from registry_server.store.objects.storage_driver import Client, StorageDriver

Value = TypeVar("Value")

_REMEMBERED: Final = 32 << 20  # bytes of objects that were parsed
_ENTRY: Final = 800  # bytes that an object takes in memory beside its content
_PIECE: Final = 1 << 20
_PARTS_AT_ONCE: Final = 3  # of a file that is there as a whole
_SMALL: Final = 1 << 20  # of others, so many are uploaded at a time, with their parts in memory:
_LARGE_AT_ONCE: Final = 8
_LARGEST_RENEWED: Final = 16 << 20
_AT_A_TIME: Final = 1_000  # keys that one request removes
_LISTED: Final = 1_000  # names that one request lists
_CLOCK: Final = "clock"


class ObjectStorage:
    """The objects of one storage root in a bucket. Implements `Objects`."""

    def __init__(self, driver: StorageDriver) -> None:
        """Connects when it is first used. Raises `StoreError` for options that nothing can be made of."""
        self._bucket = Bucket(driver)
        self._lock = threading.Lock()
        self._slots = UploadSlots(_LARGE_AT_ONCE)
        self._small = SmallObjects(self._bucket, self.get, self.put)
        self._values = LRUCache[str, tuple[str, Any, int]](_REMEMBERED, lambda held: held[2])

    @property
    def where(self) -> str:
        """See `Objects`."""
        return self._bucket.driver.where

    def check(self) -> None:
        """Raises `StoreError` where the bucket cannot be listed: the question that costs least."""
        self.has_objects(_CLOCK)

    # Reading

    def get(self, key: str) -> StoredObject | None:
        """See `Objects`."""

        def whole(client: Client) -> StoredObject:
            found = client.get(key)
            return StoredObject(bytes(found.bytes()), version_of(found.meta))

        return self._bucket.ask(key, whole)

    def parsed(
        self, key: str, parse: Callable[[bytes], Value | None], *, immutable: bool = False
    ) -> Value | None:
        """See `Objects`: a GET that is answered without a body where the object is as before."""
        with self._lock:
            version, held, _ = self._values.get(key, ("", None, 0))
        if immutable and held is not None:
            known: Value | None = held
            return known
        options: GetOptions | None = {"if_none_match": version} if version else None

        def read(client: Client) -> StoredObject:
            try:
                found = client.get(key, options=options)
            except NotModifiedError:
                return StoredObject(b"", version)
            return StoredObject(bytes(found.bytes()), version_of(found.meta))

        found = self._bucket.ask(key, read)
        if found is None or found.version == version:
            unchanged: Value | None = held if found else None
            return unchanged
        value = parse(found.content)
        if value is not None:
            self._keep(key, (found.version, value, _ENTRY + len(found.content)))
        return value

    def path(self, key: str) -> None:  # noqa: ARG002 - as in `Objects`
        """See `Objects`."""
        return

    def look(self, key: str) -> ObjectInfo | None:
        """See `Objects`."""
        return self._bucket.ask(key, lambda client: info_of(client.head(key)))

    def infos(self, *keys: str) -> dict[str, ObjectInfo]:
        """See `Objects`."""
        found = self._bucket.each(self.look, keys)
        return {key: info for key, info in zip(keys, found, strict=True) if info}

    def present(self, folder: str, names: Collection[str]) -> set[str]:
        """See `Objects`: one page of the listing, and a HEAD for each that comes after it."""
        if len(names) < 3:
            return set(map(_last, self.infos(*(f"{folder}/{name}" for name in names))))
        page = [_last(key) for key, _ in islice(self._bucket.directly_in(folder), _LISTED)]
        listed = {*page}
        after = [name for name in names if name > page[-1]] if len(page) == _LISTED else []
        return {name for name in names if name in listed} | set(
            map(_last, self.infos(*(f"{folder}/{name}" for name in after)))
        )

    def contents(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """See `Objects`."""
        return self._small.contents(folder)

    def leave_snapshot(self, folder: str) -> None:
        """See `Objects`."""
        self._small.leave_snapshot(folder)

    def names(self, folder: str) -> Names:
        """See `Objects`."""
        found = self._bucket.demand(folder, lambda client: client.list_with_delimiter(folder or None))
        objects = (_last(each["path"]) for each in found["objects"])
        return Names(tuple(objects), tuple(map(_last, found["common_prefixes"])))

    def page(
        self, folder: str, wanted: Callable[[str], bool], *, last: str = "", limit: int | None = None
    ) -> list[str]:
        """See `Objects`."""
        names = (_last(key) for key, _ in self._bucket.directly_in(folder, after=last))
        return list(islice(filter(wanted, names), limit))

    def walk(self, folder: str) -> Iterator[tuple[str, ObjectInfo]]:
        """See `Objects`."""
        return self._bucket.below(folder)

    def has_objects(self, folder: str) -> bool:
        """See `Objects`."""
        return next(self._bucket.below(folder), None) is not None

    def has_folder(self, folder: str) -> bool:
        """See `Objects`."""
        return self.has_objects(folder)

    def folder_version(self, folder: str) -> str:
        """See `Objects`."""
        names = sorted(key for key, _ in self._bucket.directly_in(folder))
        return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else ""

    def descriptor(self, key: str) -> None:  # noqa: ARG002 - as in `Objects`
        """See `Objects`."""
        return

    def pieces(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """See `Objects`."""
        if stop is not None and stop <= start:
            return
        options: GetOptions = {"range": {"offset": start} if stop is None else (start, stop)}
        # The whole of an empty object is no range of it.
        found = self._bucket.ask(
            key, lambda client: client.get(key, options=options if start or stop else None)
        )
        if found is None:
            raise self._gone(key)
        pieces = iter(found.stream(min_chunk_size=_PIECE // 4))
        while True:
            piece = self._bucket.ask(key, lambda _: next(pieces, b""))
            if piece is None:  # a connection broke, obstore asked again, and by then it was collected
                raise self._gone(key)
            if not (whole := bytes(piece)):
                return
            for begin in range(0, len(whole), _PIECE):
                yield whole[begin : begin + _PIECE]

    def _gone(self, key: str) -> FileNotFoundError:
        return FileNotFoundError(f"{self.where}/{key}")

    def url(self, key: str, seconds: float) -> str | None:
        """See `Objects`. Made without a request, but for clouds whose credentials cannot sign."""
        return self._bucket.ask(key, lambda client: sign(client, "GET", key, timedelta(seconds=seconds)))

    # Writing

    def put(
        self,
        key: str,
        content: bytes,
        *,
        new: bool = False,
        instead_of: str | None = None,
        immutable: bool = False,  # noqa: ARG002 - nobody can change a part of an object
        settled: bool = False,  # noqa: ARG002 - what was put is durable
    ) -> None:
        """See `Objects`."""
        if new or instead_of is not None:
            version = ConditionalPut(self._bucket, key, content, instead_of).run()
        else:
            put = self._bucket.demand(key, lambda client: client.put(key, content, use_multipart=False))
            version = put["e_tag"]
        self._small.written(key, version, content)

    def mark(self, *keys: str) -> None:
        """See `Objects`. Makes those young that are there: that costs no more than to leave them."""
        self._bucket.each(lambda key: self.put(key, b""), keys)

    def renew(self, *keys: str) -> set[str]:
        """See `Objects`, for small objects. Two requests each: what was removed meanwhile stays removed."""
        return {key for key, found in zip(keys, self._bucket.each(self._renew, keys), strict=True) if found}

    def _renew(self, key: str) -> bool:
        found = self.get(key)
        if found is None:
            return False
        if len(found.content) > _LARGEST_RENEWED:
            raise StoreError(f"{self.where}/{key}: too large to be written again only to make it young")
        try:
            self.put(key, found.content, instead_of=found.version)
        except Conflict:  # another writer made it young, or removed it
            return self.look(key) is not None
        return True

    def remove(self, *keys: str) -> None:
        """See `Objects`. S3 removes up to 1,000 with one request."""
        if len(keys) > 1 and self._bucket.driver.name == "s3":
            for start in range(0, len(keys), _AT_A_TIME):
                self._remove_at_once([*keys[start : start + _AT_A_TIME]])
        else:
            self._bucket.each(lambda key: self._bucket.ask(key, lambda client: client.delete(key)), keys)

    def _remove_at_once(self, keys: list[str]) -> None:
        self._bucket.ask(keys[0], lambda client: client.delete(keys))

    def move(self, key: str, target: str) -> None:
        """See `Objects`. Copied within the bucket, which Amazon does up to 5 GiB."""

        def copied(client: Client) -> bool:
            client.copy(key, target)
            return True

        if not self._bucket.ask(key, copied):
            raise FileNotFoundError(f"{self.where}/{key}")
        self.remove(key)

    def upload(self, key: str, size: int) -> ArrivingUpload:
        """See `Objects`. By a multipart upload, if it is large."""
        # One part at a time: an abort while several are under way may leave one of them in the bucket.
        return ArrivingUpload(self, key, size, self._slots, partial(self._put_parts, at_once=1))

    def take_in(self, key: str, path: str, fd: int) -> float:
        """See `Objects`. By a multipart upload, if it is large; one that ends early is aborted.

        Amazon gives such an object the time at which its upload began.
        """
        began, size = time.monotonic(), os.fstat(fd).st_size
        if size <= part_size(size):
            with nullcontext() if size <= _SMALL else self._slots:
                self.put(key, b"".join(self._parts(key, size, UploadSlots(1)).pieces(fd)))
        else:
            parts = self._parts(key, size, self._slots)
            self._put_parts(key, parts.pieces(fd), parts.part)
        os.unlink(path)  # noqa: PTH108 - texts, as in all of the store
        return time.monotonic() - began

    def _parts(self, key: str, size: int, slots: UploadSlots) -> FileParts:
        """Of a file that is there and verified."""
        parts = FileParts(f"{self.where}/{key}", size, slots)
        parts.verified()
        return parts

    def _put_parts(
        self, key: str, pieces: Iterator[bytes], part: int, *, at_once: int = _PARTS_AT_ONCE
    ) -> None:
        """An error while the pieces are read aborts the upload: nothing of it appears."""
        self._bucket.demand(
            key,
            lambda client: client.put(
                key, pieces, use_multipart=True, chunk_size=part, max_concurrency=at_once
            ),
        )

    def settle(self) -> None:
        """See `Objects`."""

    def now(self) -> float:
        """See `Objects`. Two requests; whole seconds, so up to one second too early."""
        self.put(_CLOCK, b"")
        found = self.look(_CLOCK)
        if found is None:
            raise StoreError(
                f"{self.where}/{_CLOCK}: what was just written is not there; is the bucket emptied?"
            )
        return found.modified

    def _keep(self, key: str, held: tuple[str, Any, int]) -> None:
        with self._lock:
            if held[2] <= _REMEMBERED:
                self._values[key] = held


def _last(key: str) -> str:
    return key.rpartition("/")[2]
