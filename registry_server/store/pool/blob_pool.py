"""The pool: immutable content by digest, one per storage root (manifests included)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName
from registry_server.store.run_memory import RunMemory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from registry_server.store.objects.objects import Objects, Upload


SIZE_NOT_TOLD: Final = -1


def file_name(digest: Digest) -> str:
    """`sha256-<hex>`: a colon is no good in a file name on every system."""
    return digest.replace(":", "-", 1)


def digest_of(file: str) -> Digest | None:
    """`sha256-<hex>` -> `sha256:<hex>`; None for any other name."""
    try:
        return Digest(file.replace("-", ":", 1))
    except InvalidName:
        return None


def blob_key(digest: Digest) -> str:
    """Where content is: `blobs/sha256/ab/<hex>`."""
    algorithm, _, encoded = digest.partition(":")
    return f"blobs/{algorithm}/{encoded[:2]}/{encoded}"


def blob_of(key: str) -> Digest | None:
    """The digest of `blobs/sha256/ab/<hex>`; None for any other key."""
    _, algorithm, _, encoded = key.split("/") if key.count("/") == 3 else ("", "", "", "")
    return digest_of(f"{algorithm}-{encoded}")


@dataclass(frozen=True, slots=True)
class Trashed:
    """Something in the trash; no digest: nobody knows how it came there."""

    key: str
    digest: Digest | None


class Trash(Protocol):
    """What the collector took out of the pool, and how a writer relies on a blob that it may be taking.

    Raises OSError or `StoreError`.
    """

    has_content: bool
    """Whether what is missing in the pool may be here."""
    spared_seconds: float
    """What is younger than that is not to be collected: writers rely on it without a look."""
    marks_suffice: bool
    """Whether what is marked is in the pool for certain, so that a marker alone answers for its blob."""

    def put(self, digest: Digest, content: bytes, mark: Callable[[], object]) -> None:
        """Put content into the pool, and call `mark`, which marks it: a collector sees that in time."""
        ...

    def mark(self, marker: str) -> None:
        """Mark a blob that was brought a moment ago."""
        ...

    def forget(self, digest: Digest, marker: str) -> None:
        """Remember no more that this was put and marked."""
        ...

    def recent(self, digest: Digest, marker: str) -> bytes | None:
        """What this process has put and marked a moment ago, where it remembers that. Asks nobody."""
        ...

    def is_marked(self, marker: str) -> bool:
        """Whether this process marked it a moment ago, where it remembers that. Asks nobody."""
        ...

    def put_lately(self, digest: Digest) -> bytes | None:
        """As `recent`, whether it was marked or not."""
        ...

    def adopt(self, digest: Digest, marker: str) -> int | None:
        """Put the marker of a blob that the pool has; None when it has not, and nothing is marked then.

        Its size, or `SIZE_NOT_TOLD`.

        A collector that looks at the markers after taking the blob sees this one, or the blob is gone here.
        What this process marked a moment ago may be answered from memory: `forget` where that was wrong.
        """
        ...

    def give_back(self, digest: Digest) -> bool:
        """Keep a blob in the pool, or put it back; False when it is not in the trash."""
        ...

    def holds(self, digest: Digest) -> bool: ...

    def intents(self) -> Iterator[Digest]:
        """Blobs that a writer is about to mark."""
        ...

    def content(self) -> Iterator[Trashed]:
        """Everything that is in the trash."""
        ...

    def size(self, content: Sequence[Trashed]) -> int:
        """Bytes of these."""
        ...

    def take(self, blobs: Collection[Digest]) -> set[Digest]:
        """Move blobs of the pool here; gives those that were taken."""
        ...

    def purge(self, content: Sequence[Trashed]) -> int:
        """Delete what earlier collections have put here; gives the bytes that this freed."""
        ...

    def tidy(self) -> None:
        """Leave nothing behind that is empty."""
        ...


class Pool:
    """Content under `blobs/`. Methods raise OSError or `StoreError`."""

    def __init__(self, objects: Objects, trash: Trash, memory: RunMemory | None = None) -> None:
        self.objects = objects
        self.trash = trash
        self.memory = memory or RunMemory()

    def size(self, digest: Digest) -> int | None:
        """Bytes; None when it is not here. What a collector was about to throw away is put back."""
        found = self.objects.look(blob_key(digest))
        if found is None and self.restore(digest):
            found = self.objects.look(blob_key(digest))
        return None if found is None else found.size

    def keeps(self, digest: Digest) -> bool:
        """Whether it could be had, be it out of the trash; it stays where it is."""
        return self.objects.look(blob_key(digest)) is not None or self.trash.holds(digest)

    def restore(self, digest: Digest) -> bool:
        """Get a blob that is missing out of the trash, if it is there."""
        return self.trash.has_content and self.trash.give_back(digest)

    def descriptor(self, digest: Digest) -> int | None:
        """An open file of the content; None when it is not here, or is no file."""
        try:
            return self.objects.descriptor(blob_key(digest))
        except FileNotFoundError:
            return None

    def read(self, digest: Digest) -> bytes | None:
        """Small content, as it is: nothing was checked. None when it is not here."""
        found = self.objects.get(blob_key(digest))
        return None if found is None else found.content

    def put(self, digest: Digest, content: bytes, mark: Callable[[], object]) -> None:
        """Small content that was checked in memory; it replaces a damaged object of that name.

        `mark` is called to mark it, once it is there.
        """
        self.trash.put(digest, content, mark)

    def take_in(self, digest: Digest, path: str, fd: int) -> float:
        """Make the verified local file `path`, open as `fd`, the content of `digest`; it is gone then.

        As `Objects.take_in`.
        """
        return self.objects.take_in(blob_key(digest), path, fd)

    def upload(self, digest: Digest, size: int) -> Upload:
        """The same for a file that is still being written."""
        return self.objects.upload(blob_key(digest), size)

    def is_intact(self, digest: Digest) -> bool:
        """Read all of it and compare."""
        hasher = hashlib.new(digest.algorithm)
        for piece in self.objects.pieces(blob_key(digest)):
            hasher.update(piece)
        return hasher.hexdigest() == digest.hex
