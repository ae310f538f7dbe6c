"""Upload sessions: content that clients push before its digest is known (distribution-spec, "Pushing blobs").

A session is the folder `uploads/<id>` with the bytes in `data` and, in `meta`, how many of them count. A
request writes behind that offset and publishes a new one when its body was there in full, so a process that
is killed in the middle leaves the session as it was. The lock on `data` makes one request at a time the
writer, in whichever process it runs; and nothing of a session is only in memory. The running hash is (see
`_Hashers`): a process that does not have it reads the bytes again.

So any server over the folder goes on with any session. A store whose sessions are known to one server only
would raise `UploadUnknown` at the others, which clients see as 404: then the load balancer has to send all
requests of a session, whose id is the last part of their path, to one server.

A file system that hosts share may show for some seconds less than another host has written. A client says
what it was told (`acknowledged`, in bytes), and nobody writes before he sees as much.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cachetools import LRUCache

from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch
from registry_server.store.errors import translated
from registry_server.store.filesystem import disk as files
from registry_server.store.spool.upload_session_files import (
    UploadBehind,
    UploadFiles,
    UploadState,
    UploadUnknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.reference import RepositoryName
    from registry_server.store.filesystem.disk import Disk
    from registry_server.store.repository import Repository

Seen = TypeVar("Seen")
_HASHERS_KEPT: Final = 256
_PIECE: Final = 1 << 20  # bytes
_LAG: Final = 5.0  # seconds that content may be behind
_POLL: Final = 0.05  # seconds


class Uploads:
    """The sessions of one storage root. Safe to share between threads; other processes see the same ones.

    `may_lag`: what another host writes may be seen some seconds later. Then the methods that take
    `acknowledged` raise `UploadBehind`, and are to be called again.
    """

    def __init__(self, disk: Disk, *, may_lag: bool = False) -> None:
        self._disk, self.may_lag = disk, may_lag
        self._hashers = _Hashers()

    @translated
    def begin(self, repository: RepositoryName, *, algorithm: str = "sha256", owner: str = "") -> str:
        """A new session, and its id. `algorithm` is what its content will probably be named by."""
        session = uuid.uuid4().hex
        UploadFiles(self._disk, session).create(UploadState(repository, 0, algorithm, owner))
        return session

    @translated
    def state(
        self, repository: RepositoryName, session: str, *, acknowledged: int | None = None
    ) -> UploadState:
        """Also while another request writes. Raises `UploadUnknown`, `UploadBehind`."""
        return self._seen(repository, acknowledged, self._files(repository, session).state)

    @translated
    def open(
        self, repository: RepositoryName, session: str, *, acknowledged: int | None = None
    ) -> UploadSession | None:
        """The session, to be written to; None as long as another request has it.

        Raises `UploadUnknown`, `UploadBehind`.
        """
        there = self._files(repository, session)
        self._seen(repository, acknowledged, there.state)
        fd = self._seen(repository, acknowledged, there.lock)
        if fd is None:
            return None
        try:
            # Read again: the offset may have moved until we had the lock.
            state = self._seen(repository, acknowledged, there.state)
            return UploadSession(session, there, fd, state, self._hashers, lag=_LAG if self.may_lag else 0.0)
        except BaseException:
            os.close(fd)
            raise

    def _seen(
        self, repository: RepositoryName, acknowledged: int | None, look: Callable[[RepositoryName], Seen]
    ) -> Seen:
        """What `look` finds. Raises `UploadUnknown`, or `UploadBehind` if it may be there in a moment."""
        if not self.may_lag or acknowledged is None:
            return look(repository)
        try:
            found = look(repository)
        except UploadUnknown as error:
            raise UploadBehind(repository) from error
        if isinstance(found, UploadState) and found.offset < acknowledged:
            raise UploadBehind(repository)
        return found

    @translated
    def cancel(self, repository: RepositoryName, session: str, *, acknowledged: int | None = None) -> None:
        """End a session; a request that is writing to it finds out.

        Raises `UploadUnknown`, `UploadBehind`.
        """
        there = self._files(repository, session)
        self._seen(repository, acknowledged, there.state)
        there.forget()

    @translated
    def count(self, owner: str | None = None) -> int:
        """How many sessions there are; with an `owner`, how many are his."""
        sessions = self._all()
        if owner is None:
            return len(sessions)
        states = (session.read() for session in sessions)
        return sum(state is not None and state.owner == owner for state in states)

    @translated
    def free_bytes(self) -> int:
        """What may still be written to the disk that the sessions and their pool are on."""
        found = os.statvfs(self._disk.root)
        return found.f_bavail * found.f_frsize

    @translated
    def expire(self, *, idle: float, empty: float, dry_run: bool = False) -> list[str]:
        """End sessions that nobody wrote to for `idle` seconds, and those without a byte after `empty`.

        Clients leave an empty one behind for each mount that did not work out. Returns the ids of those that
        ended, or would have.
        """
        now, ended = time.time(), []
        for session in self._all():
            state = session.read()
            limit = empty if state is not None and state.offset == 0 else idle
            if now - session.touched() > limit and not session.is_in_use():
                ended.append(session.session)
                if not dry_run:
                    session.forget()
        return ended

    def _all(self) -> list[UploadFiles]:
        found = filter(UploadFiles.is_id, files.names(f"{self._disk.root}/uploads"))
        return [UploadFiles(self._disk, session) for session in found]

    def _files(self, repository: RepositoryName, session: str) -> UploadFiles:
        if not UploadFiles.is_id(session):
            raise UploadUnknown(repository)
        return UploadFiles(self._disk, session)


class UploadSession:
    """A session in the hands of one request: write, then publish or commit, then close; one thread at a time.

    `offset` bytes counted when it was opened; `position` is where the next byte goes.
    """

    def __init__(
        self,
        session: str,
        there: UploadFiles,
        fd: int,
        state: UploadState,
        hashers: _Hashers,
        *,
        lag: float = 0.0,
    ) -> None:
        """`lag`: seconds that content which counts may be missing, because another host has written it."""
        self.session, self._lag = session, lag
        self.position = state.offset
        self._files, self._state, self._hashers = there, state, hashers
        self._fd: int | None = fd
        # None when another worker had the bytes: then they are hashed again, when the digest is known.
        self._hasher = hashers.take(session, state)
        # What a request left that was cut short, or killed. The size that is shown here may be an older one.
        if lag or os.fstat(fd).st_size > state.offset:
            os.ftruncate(fd, state.offset)

    @property
    def offset(self) -> int:
        return self._state.offset

    @translated
    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append; it does not count before `publish`."""
        files.write_all(self._open(), data, self.position)
        self.position += memoryview(data).nbytes
        if self._hasher:
            self._hasher.update(data)

    @translated
    def publish(self) -> None:
        """What was written counts from now on. Raises `UploadUnknown` if it was cancelled meanwhile."""
        self._check()
        state = replace(self._state, offset=self.position)
        self._files.write(state)
        self._state = state
        if self._hasher:
            self._hashers.keep(self.session, state, self._hasher)

    @translated
    def commit(self, repository: Repository, digest: Digest) -> None:
        """Make the content a blob of `repository`; with that the session is over, and with a wrong one too.

        Raises `DigestMismatch`, and `UploadUnknown` if the session was cancelled meanwhile.
        """
        actual = self._digest(digest.algorithm)
        if actual != digest:
            self._files.forget()
            raise DigestMismatch(expected=digest, actual=actual)
        self._check()
        repository.adopt_upload(digest, self._open(), self._files.data)
        self._files.forget()

    @translated
    def close(self) -> None:
        """Let the next request have it; what was not published is gone."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        try:
            # Once it has moved into the pool, this is a file that must not change any more.
            if self.position != self.offset and self._files.is_named(fd):
                os.ftruncate(fd, self.offset)
        finally:
            os.close(fd)

    def _check(self) -> None:
        if not self._files.is_named(self._open()):
            raise UploadUnknown(self._state.repository)

    def _digest(self, algorithm: str) -> Digest:
        hasher = self._hasher
        if hasher is None or hasher.name != algorithm:
            hasher = hashlib.new(algorithm)
            self._hash_again(hasher)
        return Digest(f"{algorithm}:{hasher.hexdigest()}")

    def _hash_again(self, hasher: Any) -> None:
        """Of content that another server received. Raises `UploadBehind` when it does not come."""
        done, deadline = 0, time.monotonic() + self._lag
        while done < self.position:
            piece = os.pread(self._open(), min(_PIECE, self.position - done), done)
            if not piece and time.monotonic() >= deadline:
                raise UploadBehind(self._state.repository)
            if not piece:
                time.sleep(_POLL)
            hasher.update(piece)
            done += len(piece)

    def _open(self) -> int:
        if self._fd is None:
            raise RuntimeError("the upload is closed")
        return self._fd


class _Hashers:
    """Running hashes of this process, by session: a hash cannot be written to a file.

    A copy is kept, of the bytes that count: what a failed request adds to it is of no consequence.
    """

    def __init__(self) -> None:
        self._kept: LRUCache[str, tuple[int, Any]] = LRUCache(_HASHERS_KEPT)
        self._lock = threading.Lock()

    def take(self, session: str, state: UploadState) -> Any:
        if state.offset == 0:
            return hashlib.new(state.algorithm)
        with self._lock:
            offset, hasher = self._kept.get(session, (-1, None))
        return hasher.copy() if offset == state.offset else None

    def keep(self, session: str, state: UploadState, hasher: Any) -> None:
        with self._lock:
            self._kept[session] = (state.offset, hasher.copy())
