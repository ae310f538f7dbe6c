"""The parts of a local file, for a thread that uploads them while another one still writes the file."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from registry_server.store.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PART: Final = 8 << 20
_MOST_PARTS: Final = 9_000  # S3 takes 10,000
_PIECE: Final = 1 << 20


class UploadSlots:
    """How many uploads may have parts in memory at the same time."""

    def __init__(self, number: int) -> None:
        self.free = number
        self.changed = threading.Condition()

    def __enter__(self) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.free > 0)
            self.free -= 1

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.free += 1
            self.changed.notify_all()


class FileParts:
    """A file of `size` bytes that one thread writes, and whose `pieces` another one uploads.

    `name` is that of the object, for messages.
    """

    def __init__(self, name: str, size: int, slots: UploadSlots) -> None:
        self.size, self.part = size, part_size(size)
        self._name, self._slots = name, slots
        self._piece = size if size <= self.part else _PIECE
        self._written = 0
        self._is_verified = self._is_aborted = self._has_slot = False

    def grown(self, written: int) -> None:
        """So many bytes are in the file, and stay as they are."""
        with self._slots.changed:
            self._written = written
            self._slots.changed.notify_all()

    def verified(self) -> None:
        """The whole file is there, and is what it has to be."""
        with self._slots.changed:
            self._written, self._is_verified = self.size, True
            self._slots.changed.notify_all()

    def abort(self) -> None:
        """`pieces` raises at the next part."""
        with self._slots.changed:
            self._is_aborted = True
            self._slots.changed.notify_all()

    def pieces(self, fd: int) -> Iterator[bytes]:
        """All bytes of the file. Waits until a part is whole, and for the last part until all is verified.

        A slot is held while there is something to upload. Raises `StoreError` where nothing may appear.
        """
        offset = 0
        try:
            while offset < self.size:
                end = min(offset - offset % self.part + self.part, self.size)
                self._await(end)
                piece = os.pread(fd, min(self._piece, end - offset), offset)
                self._check()  # else the file may have been closed meanwhile, and these be of another one
                if not piece:
                    raise StoreError(f"{self._name}: the file that was to be uploaded became shorter")
                yield piece
                offset += len(piece)
        finally:
            with self._slots.changed:
                self._leave_slot()

    def _await(self, end: int) -> None:
        """Until what is before `end` may be uploaded, and there is a slot for it."""
        slots = self._slots
        with slots.changed:
            if not self._may_go(end):
                self._leave_slot()
            slots.changed.wait_for(
                lambda: self._is_aborted or (self._may_go(end) and (self._has_slot or slots.free > 0))
            )
            self._check()
            slots.free -= not self._has_slot
            self._has_slot = True

    def _check(self) -> None:
        if self._is_aborted:
            raise StoreError(f"{self._name}: the upload was aborted")

    def _may_go(self, end: int) -> bool:
        return self._is_verified or end <= min(self._written, self.size - 1)

    def _leave_slot(self) -> None:
        self._slots.free += self._has_slot
        self._has_slot = False
        self._slots.changed.notify_all()


def part_size(size: int) -> int:
    """Of the parts in which a file of that size is uploaded; a smaller one is uploaded as a whole."""
    return max(_PART, -(-size // _MOST_PARTS))
