"""A bundle that was carried here: its document, its contents by digest, and whether all of it is as it was.

Nothing of it is believed: contents are hashed whenever they are read, and the tar around them is compared
byte by byte with the one that the document describes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from registry_server.bundles.document_reading import parse_document
from registry_server.bundles.errors import BundleDamaged, BundleInvalid
from registry_server.bundles.parts import DOCUMENT, PartFiles, read_small
from registry_server.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

    from registry_server.bundles.document import BundleDocument, Part
    from registry_server.bundles.tar_stream import Segment


@dataclass(slots=True)
class Bundle:
    """A bundle in `folder`; `digest` is that of its document, which names everything else in it."""

    folder: Path
    digest: Digest
    document: BundleDocument
    _files: PartFiles

    @classmethod
    def open(cls, folder: Path, trust: Callable[[Digest], object] = lambda _: None) -> Self:
        """`trust` is asked about the digest of the document before anything in that is looked at.

        Raises `BundleIncomplete`, `BundleInvalid`, `BundleTooNew`, and what `trust` raises.
        """
        body = read_small(folder, DOCUMENT)
        digest = Digest.of(body)
        trust(digest)
        document = parse_document(body)
        return cls(folder, digest, document, PartFiles(folder, document))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._files.close()

    def check_sizes(self) -> None:
        """Whether all parts are here. Raises `BundleIncomplete`."""
        self._files.check_sizes()

    def check(self, told: Callable[[int], None] = lambda _: None) -> int:
        """Read all of it once: every part, every digest, every byte around them; how many bytes that is.

        `told` is called with the bytes of each piece. Raises `BundleIncomplete`, `BundleDamaged`.
        """
        self.check_sizes()
        sums = _PartSums(self)
        for segment in self.document.tar.segments():
            for piece in self._checked(segment):
                sums.add(piece)
                told(len(piece))
        sums.finish()
        return self.document.tar.size

    def holds(self, digest: Digest) -> bool:
        return digest in self.document.places

    def size(self, digest: Digest) -> int:
        """Of a content that it holds."""
        return self.document.content(self.document.places[digest]).size

    def stream(self, digest: Digest, start: int = 0) -> Iterator[bytes]:
        """The bytes of a content that it holds, from the byte `start` on. They are not checked here."""
        number = self.document.places[digest]
        place = self.document.tar.content_start(number)
        return self._files.read(place + start, self.size(digest) - start)

    def small(self, digest: Digest, at_most: int) -> bytes | None:
        """A content of at most so many bytes, verified; None if it is not here. Raises `BundleDamaged`."""
        if not self.holds(digest):
            return None
        if self.size(digest) > at_most:
            raise BundleInvalid(
                f"the content {digest} has {self.size(digest)} bytes; at most {at_most} are read"
            )
        content = b"".join(self.stream(digest))
        if Digest.of(content, digest.algorithm) != digest:
            raise self._damaged(self.document.tar.content_start(self.document.places[digest]), digest)
        return content

    def _checked(self, segment: Segment) -> Iterator[bytes]:
        """The bytes of the segment, the last of them only when all are what they have to be."""
        expected = segment.known or self.document.fixed_content(segment.number)
        if expected is not None:
            found = b"".join(self._files.read(segment.start, segment.length))
            if found != expected:
                raise self._damaged(segment.start, "the tar around the contents")
            yield found
            return
        digest = self.document.content(segment.number).digest
        hasher = hashlib.new(digest.algorithm)
        for piece in self._files.read(segment.start, segment.length):
            hasher.update(piece)
            yield piece
        if hasher.hexdigest() != digest.hex:
            # The parts before the one in which it ends had the checksums that they have to have.
            raise self._damaged(segment.start + segment.length - 1, digest)

    def _damaged(self, place: int, what: str) -> BundleDamaged:
        where = self._files.part_at(place).name
        return BundleDamaged(f"{self.folder}: {where}: {what} is not what it was made as; copy that again")


class _PartSums:
    """The SHA-256 of each part, from the bytes of all of them in their order."""

    def __init__(self, bundle: Bundle) -> None:
        self._folder = bundle.folder
        self._parts = iter(bundle.document.parts)
        self._part: Part | None = next(self._parts)
        self._left = bundle.document.parts[0].size
        self._hasher = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Raises `BundleDamaged`."""
        view = memoryview(piece)
        while view:
            taken = view[: self._left]
            self._hasher.update(taken)
            self._left -= len(taken)
            view = view[len(taken) :]
            if not self._left:
                self._end()

    def finish(self) -> None:
        assert self._part is None, "the parts are as long as the tar"

    def _end(self) -> None:
        assert self._part is not None, "the tar is as long as its parts"
        if self._hasher.hexdigest() != self._part.sha256:
            raise BundleDamaged(
                f"{self._folder}: {self._part.name} has another checksum than bundle.json says; copy it again"
            )
        self._part = next(self._parts, None)
        self._left = self._part.size if self._part else 0
        self._hasher = hashlib.sha256()
