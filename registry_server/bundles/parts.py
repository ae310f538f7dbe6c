"""The files of a bundle: writing them so that an interrupted writer goes on, and reading them as one.

While a bundle is written there is `bundle.plan.json`, which says what comes into it, and `SHA256SUMS.part`,
which has a line for each part that is whole and on the disk. A part has another name until it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from registry_server.bundles.document import LARGEST_DOCUMENT, Part
from registry_server.bundles.errors import BundleIncomplete, BundleInvalid, BundleUnwritable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from registry_server.bundles.document import BundleDocument

DOCUMENT: Final = "bundle.json"
SIGNATURE: Final = "bundle.sigstore.json"
SUMS: Final = "SHA256SUMS"
PIECE: Final = 1 << 20
_PLAN: Final = "bundle.plan.json"
_JOURNAL: Final = "SHA256SUMS.part"
_UNFINISHED: Final = ".unfinished"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class BundleFolder:
    """The folder of a bundle that is being written. Methods raise `BundleUnwritable`."""

    path: Path

    def make(self) -> None:
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def claim(self) -> Iterator[None]:
        """One process at a time writes into the folder, which is made. Empty at the end, it goes again."""
        self.make()
        with self._writing():
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._lock(fd)
            yield
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):  # a part of a bundle is in it
                self.path.rmdir()

    def _lock(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BundleUnwritable(f"another process is making a bundle in {self.path}") from error

    @property
    def is_complete(self) -> bool:
        """Whether there is a whole bundle, or the document of one that nobody is making."""
        unfinished = (self.path / _PLAN).exists()
        return (self.path / SIGNATURE).exists() or ((self.path / DOCUMENT).exists() and not unfinished)

    @property
    def plan(self) -> bytes | None:
        """What an interrupted writer was at; None: there was none."""
        with self._writing(), contextlib.suppress(FileNotFoundError):
            return (self.path / _PLAN).read_bytes()
        return None

    def put(self, name: str, content: bytes) -> None:
        """A small file, whole or not at all."""
        with self._writing():
            staged = self.path / f"{name}{_UNFINISHED}"
            with staged.open("wb") as file:
                file.write(content)
                os.fsync(file.fileno())
            staged.replace(self.path / name)
            self._flush_names()

    def put_plan(self, content: bytes) -> None:
        self.put(_PLAN, content)

    def forget_parts(self) -> None:
        """Parts of whatever was made here before are none of the new bundle's."""
        with self._writing():
            (self.path / _JOURNAL).unlink(missing_ok=True)

    def finished(self) -> dict[str, str]:
        """The parts that are whole, with their SHA-256 in hex."""
        with self._writing(), contextlib.suppress(FileNotFoundError):
            lines = (self.path / _JOURNAL).read_text(encoding="ascii").splitlines(keepends=True)
            pairs = (line.split() for line in lines if line.endswith("\n"))
            return {pair[1]: pair[0] for pair in pairs if len(pair) == 2}
        return {}

    def write_part(self, name: str, size: int, pieces: Iterator[bytes]) -> Part:
        """`size` bytes into the part `name`, which is on the disk and recorded afterwards."""
        hasher, left = hashlib.sha256(), size
        staged = self.path / f"{name}{_UNFINISHED}"
        with self._writing():
            with staged.open("wb") as file:
                for piece in pieces:
                    hasher.update(piece)
                    file.write(piece)
                    left -= len(piece)
                assert left == 0, "the tar has exactly the bytes that its parts were made for"
                os.fsync(file.fileno())
            staged.replace(self.path / name)
            self._flush_names()
            self._record(f"{hasher.hexdigest()}  {name}\n")
        return Part(name, size, hasher.hexdigest())

    def finish(self, parts: Sequence[Part], document: bytes, signature: bytes) -> None:
        """The document, the list of checksums, and the signature last: with it the bundle is whole."""
        self.put(DOCUMENT, document)
        sums = [
            (hashlib.sha256(document).hexdigest(), DOCUMENT),
            *((each.sha256, each.name) for each in parts),
        ]
        self.put(SUMS, "".join(f"{found}  {name}\n" for found, name in sums).encode())
        self.put(SIGNATURE, signature)
        with self._writing():
            for name in (_PLAN, _JOURNAL):
                (self.path / name).unlink(missing_ok=True)

    def _record(self, line: str) -> None:
        with (self.path / _JOURNAL).open("a", encoding="ascii") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _flush_names(self) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self.path
            raise BundleUnwritable(
                f"{where}: {error.strerror}; the next 'bundle create' goes on there"
            ) from error


@dataclass(slots=True)
class PartFiles:
    """The parts of a bundle in `folder` as one file. Close it."""

    folder: Path
    document: BundleDocument
    _open: dict[int, int] = field(default_factory=dict)

    def check_sizes(self) -> None:
        """All that is wrong with names and sizes, in one sentence. Raises `BundleIncomplete`."""
        wrong = [said for each in self.document.parts if (said := self._problem(each))]
        if wrong:
            more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
            raise BundleIncomplete(f"{self.folder}: {'; '.join(wrong[:_SHOWN])}{more}; copy that again")

    def read(self, start: int, length: int) -> Iterator[bytes]:
        """So many bytes from the byte `start` on, in pieces. Raises `BundleIncomplete`."""
        while length:
            number, at = self._place(start)
            part = self.document.parts[number]
            piece = os.pread(self._file(number), min(PIECE, length, part.size - at), at)
            if not piece:
                raise BundleIncomplete(f"{self.folder}: {part.name} has become shorter; copy it again")
            yield piece
            start += len(piece)
            length -= len(piece)

    def part_at(self, start: int) -> Part:
        """The part in which the byte `start` is."""
        return self.document.parts[self._place(start)[0]]

    def close(self) -> None:
        for fd in self._open.values():
            os.close(fd)
        self._open.clear()

    def _place(self, start: int) -> tuple[int, int]:
        split = self.document.split if len(self.document.parts) > 1 else 0
        return divmod(start, split) if split else (0, start)

    def _file(self, number: int) -> int:
        if number not in self._open:
            self.close()  # they are read in their order: one is enough
            part = self.document.parts[number]
            if problem := self._problem(part):
                raise BundleIncomplete(f"{self.folder}: {problem}; copy it again")
            self._open[number] = os.open(self.folder / part.name, _READ)
        return self._open[number]

    def _problem(self, part: Part) -> str:
        try:
            found = os.lstat(self.folder / part.name)
        except OSError:
            return f"{part.name} is missing"
        if not stat.S_ISREG(found.st_mode):
            return f"{part.name} is no regular file"
        return "" if found.st_size == part.size else f"{part.name} has {found.st_size} bytes, not {part.size}"


_SHOWN: Final = 5


def read_small(folder: Path, name: str, at_most: int = LARGEST_DOCUMENT) -> bytes:
    """A file of a bundle beside its parts. Raises `BundleIncomplete`, `BundleInvalid`."""
    try:
        fd = os.open(folder / name, _READ)
    except OSError as error:
        raise BundleIncomplete(
            f"{folder} is no bundle, or an incomplete one: {name}: {error.strerror}"
        ) from error
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_size > at_most:
        os.close(fd)
        raise BundleInvalid(f"{folder / name} is no file of at most {at_most} bytes")
    with os.fdopen(fd, "rb") as file:
        return file.read(at_most)


def as_parts(finished: Mapping[str, str], expected: Sequence[tuple[str, int]]) -> list[Part]:
    """The finished parts, in the order of the expected ones."""
    return [Part(name, size, finished[name]) for name, size in expected if name in finished]
