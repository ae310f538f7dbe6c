"""One blob on its way into one repository of a registry, over as many requests as that takes.

The bytes come from the source in one stream and go on as they come: hashed, never whole in memory or on disk.
Where a request is cut, the registry is asked how far it got, and the source is read again from there.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from registry_server.oci.errors import MirrorflowError
from tasks.upstream.connection.hosts import MAX_WAIT
from tasks.upstream.errors import UpstreamError, UpstreamLimited, UpstreamUnavailable
from tasks.upstream.push.body import SendingBody, SendingFailed
from tasks.upstream.push.hashing import ResumableHash
from tasks.upstream.push.session import Part, Session, is_forgotten

if TYPE_CHECKING:
    from collections.abc import Callable

    from registry_server.oci.descriptor import Descriptor
    from tasks.upstream.blob import BlobSink
    from tasks.upstream.connection.waits import Waits
    from tasks.upstream.push.session import Sessions

    Feed = Callable[[BlobSink], object]

SMALL: Final = 1024 * 1024  # bytes: what is sent from memory, without a thread
_PIECE: Final = 256 * 1024  # bytes that are handed to that thread at a time
_PAUSES: Final = (0.2, 1.0)  # seconds before the second and the third try without progress
_LIMITED_PAUSES: Final = (1.0, 3.0)
_MOST_TRIES: Final = 50  # however far each of them gets
_RESUMABLE: Final = frozenset({401, 416})  # a token that has expired; a position that is not ours
_BUSY: Final = 409  # the registry has not noticed yet that the connection before this one broke


@dataclass
class BlobUpload:
    """State that outlives a try: the session, and the hash up to some position.

    `chunk`: most bytes in one request; None: all in one.
    """

    sessions: Sessions
    blob: Descriptor
    waits: Waits
    has_blob: Callable[[], bool]
    count: Callable[[int], None]
    chunk: int | None = None
    session: Session | None = None
    hash: ResumableHash = field(init=False)

    def __post_init__(self) -> None:
        self.hash = ResumableHash(self.blob)

    def run(self, feed: Feed, mount_from: str = "") -> bool:
        """Send all of it. `feed` writes the blob into the sink that it is given, from `sink.offset` on.

        False where the registry had the blob, and mounted it.
        Raises an `UpstreamError` of the registry, `ContentError` for other bytes than promised, `Stopped`,
        and what `feed` raises. The session stays for the next call where that may help.
        """
        failed = 0
        for _ in range(_MOST_TRIES):
            try:
                return self._attempt(feed, mount_from)
            except SendingFailed as found:
                error = _cause(found)
            before = self.session.position if self.session else 0
            pause = _pause(error, failed)
            if pause is None:
                self._give_up()
                raise error
            self.waits.sleep(pause)
            if self._is_stored(error):
                return True
            failed = 0 if self.session and self.session.position > before else failed + 1
        raise error

    def _attempt(self, feed: Feed, mount_from: str) -> bool:
        if self.session is None:
            self.hash.restart()
            self.session = self.sessions.begin(mount_from)
            if self.session is None:
                return False
        whole = self.hash.position == self.blob.size == self.session.position
        if not whole:
            self.hash.go_back(self.session.position)
        sink = UploadSink(self, self.session.position)
        try:
            if not whole:
                feed(sink)
            sink.finish()
        except SendingFailed:
            sink.abort()
            raise
        except BaseException as error:
            sink.abort()
            if not isinstance(error, UpstreamUnavailable):
                self._give_up()
            raise
        self.session = None
        return True

    def _is_stored(self, error: UpstreamError) -> bool:
        """After a cut: whether the blob is there after all. If not, the session is where the registry is."""
        if self.session is None:
            return False
        found = None if is_forgotten(error) else self.sessions.find(self.session)
        if found is None and self.has_blob():  # it was complete, and the answer was lost
            return True
        self.session = found
        return False

    def _give_up(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            with suppress(MirrorflowError):
                self.sessions.cancel(session)


class UploadSink:
    """What the source writes into: see `BlobSink`."""

    def __init__(self, upload: BlobUpload, position: int) -> None:
        """`position`: bytes that the registry has. What is hashed once more before them is not sent."""
        self._upload = upload
        self._sent = position
        self._part: _Sending | None = None
        self._completed = False

    @property
    def offset(self) -> int:
        return self._upload.hash.position

    def restart(self) -> None:
        """The source begins anew; what was sent stays sent."""
        self._upload.hash.restart()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Raises `SendingFailed`, `ContentError`."""
        begin = self._upload.hash.position
        self._upload.hash.update(data)  # before the last byte goes out: wrong bytes never become a blob
        data = memoryview(data)[max(self._sent - begin, 0) :]
        while data:
            part = self._part = self._part or self._begin()
            taken = part.write(data)
            self._sent += taken
            data = data[taken:]
            if not part.left:
                self._end(part)

    def finish(self) -> None:
        """Complete the blob, where its last bytes have not done so. Raises as `write` does."""
        upload = self._upload
        upload.hash.check()
        if upload.session is not None and not self._completed:
            part = _Sending(upload, Part(upload.blob.size, 0, last=True))
            self._end(part)

    def abort(self) -> None:
        if self._part is not None:
            self._part.abort()

    def _begin(self) -> _Sending:
        upload = self._upload
        left = upload.blob.size - self._sent
        session = upload.session
        assert session is not None, "there is a session while bytes are sent"
        most = left if upload.chunk is None else min(left, max(upload.chunk, session.least))
        return _Sending(upload, Part(self._sent, most, last=upload.chunk is None))

    def _end(self, part: _Sending) -> None:
        self._upload.session = part.finish()
        self._completed = part.part.last
        self._part = None


class _Sending:
    """One part: from memory where it is small, else in a request that is under way."""

    def __init__(self, upload: BlobUpload, part: Part) -> None:
        self.part, self.left = part, part.length
        self._upload = upload
        assert upload.session is not None, "a part belongs to a session"
        self._send = partial(upload.sessions.send, upload.session, part)
        self._held = bytearray()
        self._body = SendingBody(self._send, upload.waits.check) if part.length > SMALL else None

    def write(self, data: memoryview) -> int:
        """How many bytes were taken."""
        taken = data[: self.left]
        self._held += taken
        self.left -= len(taken)
        if self._body is not None and (len(self._held) >= _PIECE or not self.left):
            piece, self._held = bytes(self._held), bytearray()
            self._body.write(piece)
        self._upload.count(len(taken))
        return len(taken)

    def finish(self) -> Session:
        if self._body is not None:
            return self._body.finish()
        try:
            return self._send(bytes(self._held))
        except UpstreamError as error:
            raise SendingFailed(error) from error

    def abort(self) -> None:
        if self._body is not None:
            self._body.abort()


def _cause(found: SendingFailed) -> UpstreamError:
    """Raises what is no answer of the registry: `Stopped`, a bug."""
    if not isinstance(found.error, UpstreamError):
        raise found.error
    return found.error


def _pause(error: UpstreamError, failed: int) -> float | None:
    """Seconds until the next try; None where another one does not help, or `failed` were without progress."""
    if failed >= len(_PAUSES):
        return None
    if isinstance(error, UpstreamUnavailable):
        if error.retry_after is not None:
            return error.retry_after if error.retry_after <= MAX_WAIT else None
        pauses = _LIMITED_PAUSES if isinstance(error, UpstreamLimited) else _PAUSES
        return pauses[failed] if error.at_once or error.status is None else None
    if error.status == _BUSY:
        return _PAUSES[failed]
    return 0.0 if error.status in _RESUMABLE or is_forgotten(error) else None
