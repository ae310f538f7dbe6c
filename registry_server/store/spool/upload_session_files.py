"""The two files of an upload session (upload_sessions.py says what they mean)."""

# Texts instead of Path objects, as in filesystem/disk.py.
# ruff: noqa: PTH106

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from registry_server.oci.errors import NotFound
from registry_server.oci.reference import RepositoryName
from registry_server.store import records
from registry_server.store.filesystem import disk as files
from registry_server.store.filesystem.locks import is_same_file, try_lock

if TYPE_CHECKING:
    from registry_server.store.filesystem.disk import Disk

_ID = re.compile(r"[0-9a-f]{32}")


class UploadUnknown(NotFound):
    """There is no such session in this repository (any more)."""

    code = "BLOB_UPLOAD_UNKNOWN"

    def __init__(self, repository: RepositoryName) -> None:
        super().__init__(f"{repository} has no such upload: it was finished, expired or never started")


class UploadBehind(UploadUnknown):
    """This host sees less of the session than its client was told: soon it may see the rest."""


@dataclass(frozen=True, slots=True)
class UploadState:
    """What is on record of a session: its first `offset` bytes count."""

    repository: RepositoryName
    offset: int = 0
    algorithm: str = "sha256"
    owner: str = ""


class UploadFiles:
    """One session on the disk. Methods raise OSError."""

    def __init__(self, disk: Disk, session: str) -> None:
        self.session = session
        self.folder = f"{disk.root}/uploads/{session}"
        self.data = f"{self.folder}/data"
        self._meta = f"{self.folder}/meta"
        self._disk = disk

    @staticmethod
    def is_id(text: str) -> bool:
        return _ID.fullmatch(text) is not None

    def create(self, state: UploadState) -> None:
        os.close(self._disk.open_in(self.data, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self.write(state)

    def read(self) -> UploadState | None:
        return records.decoded(files.read(self._meta), _state_from_json)

    def write(self, state: UploadState) -> None:
        body: dict[str, Any] = {name: getattr(state, name) for name in UploadState.__slots__}
        self._disk.write(self._meta, records.encode(body), mode=0o600)

    def state(self, repository: RepositoryName) -> UploadState:
        """Raises `UploadUnknown`."""
        found, there = self.read(), files.file_size(self.data)
        # Fewer bytes than promised: a power cut took them, and the client must begin again.
        if found is None or there is None or found.repository != repository or there < found.offset:
            raise UploadUnknown(repository)
        return found

    def lock(self, repository: RepositoryName) -> int | None:
        """The locked data; None as long as somebody else has it. Raises `UploadUnknown`."""
        try:
            fd = self._disk.open_in(self.data, os.O_RDWR, 0)
        except FileNotFoundError:
            raise UploadUnknown(repository) from None
        try:
            if try_lock(fd):
                if not self.is_named(fd):  # committed or cancelled between our open and our lock
                    raise UploadUnknown(repository)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def is_named(self, fd: int) -> bool:
        """Whether the open file is still the one of this session."""
        return is_same_file(fd, self.data)

    def forget(self) -> None:
        files.remove(self.data)
        files.remove(self._meta)
        with contextlib.suppress(OSError):  # gone already, or something of somebody else's is in it
            os.rmdir(self.folder)

    def touched(self) -> float:
        """Unix seconds of the last write."""
        times = [0.0]
        for path in (self.data, self._meta, self.folder):
            with contextlib.suppress(OSError):
                times.append(os.lstat(path).st_mtime)
        return max(times)

    def is_in_use(self) -> bool:
        try:
            fd = self._disk.open_in(self.data, os.O_RDWR, 0)
        except OSError:
            return False
        try:
            return not try_lock(fd)
        finally:
            os.close(fd)


def _state_from_json(body: Any) -> UploadState:
    """Raises LookupError, TypeError or ValueError."""
    return UploadState(
        repository=RepositoryName(body["repository"]),
        offset=int(body["offset"]),
        algorithm=str(body["algorithm"]),
        owner=str(body["owner"]),
    )
