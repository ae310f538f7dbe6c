"""The hash of a blob that may be read again from somewhere in the middle."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch, SizeMismatch

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor

_STEP: Final = 4 * 1024 * 1024  # bytes between two states that are kept; one takes some 200 bytes


class ResumableHash:
    """`position` bytes have been hashed. `go_back` goes to a state that was kept on the way."""

    def __init__(self, descriptor: Descriptor) -> None:
        self._descriptor = descriptor
        self._states: list[tuple[int, Any]] = []
        self.restart()

    def restart(self) -> None:
        self._hash = hashlib.new(self._descriptor.digest.algorithm)
        self.position = 0
        self._states = [(0, self._hash.copy())]

    def go_back(self, position: int) -> None:
        """To `position`, or to the last state before it: bytes from there on are hashed once more."""
        self._states = [state for state in self._states if state[0] <= position]
        self.position, kept = self._states[-1]
        self._hash = kept.copy()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Raises `SizeMismatch` for more than is promised, `DigestMismatch` with the last byte."""
        end = self.position + len(data)
        size = self._descriptor.size
        if end > size:
            raise SizeMismatch(expected=size, actual=end, at_least=True)
        self._hash.update(data)
        self.position = end
        if end == size:
            self.check()
        elif end - self._states[-1][0] >= _STEP:
            self._states.append((end, self._hash.copy()))

    def check(self) -> None:
        """Raises `DigestMismatch`, `SizeMismatch` unless exactly the promised content was hashed."""
        expected = self._descriptor
        if self.position != expected.size:
            raise SizeMismatch(expected=expected.size, actual=self.position)
        actual = Digest(f"{expected.digest.algorithm}:{self._hash.hexdigest()}")
        if actual != expected.digest:
            raise DigestMismatch(expected=expected.digest, actual=actual)
