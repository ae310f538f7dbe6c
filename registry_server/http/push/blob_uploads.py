"""Pushing blobs (distribution-spec, "Pushing Blobs"): at once, in chunks, as a stream, or by mounting.

All ways go through a session of the store: whatever breaks off leaves nothing behind but what was said to be
there, and any of several server processes may get the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from starlette.responses import Response

from registry_server.http.errors import Refused
from registry_server.http.push.common import blob_created, check_free_space, query_digest
from registry_server.http.request_body import declared_length, stream_body
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, NotFound
from registry_server.oci.reference import RepositoryName
from registry_server.store.spool.upload_session_files import UploadBehind, UploadUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from registry_server.http.push.push_limits import PushLimits
    from registry_server.http.routes import UploadOf as Route
    from registry_server.store.records import StoredBlob
    from registry_server.store.spool.upload_sessions import UploadSession
    from registry_server.store.store import Store

_ALGORITHMS = ("sha256", "sha512")
_POLL_SECONDS = 0.05
_EXPIRE_EVERY = 60.0  # seconds
_LOOK_AT_DISK_EVERY = 64 * 1024 * 1024  # bytes
_CONTENT_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)
_PIECE_BYTES = 1024 * 1024
# In the Location that clients come back with, as distribution has it there: what they were told.
_STATE = "_state"
_LONGEST_STATE = 18  # digits
_LAG_SECONDS = 5.0  # that a server waits to see it, on a file system that hosts share
T = TypeVar("T")


class UploadHandlers:
    """The endpoints under `/blobs/uploads/`."""

    def __init__(self, limits: PushLimits) -> None:
        self._limits = limits
        self._expired = 0.0

    async def begin(self, store: Store, route: Route, request: Request) -> Response:
        """POST: a mount, a whole blob, or a new session (end-11, end-4b, end-4a)."""
        if route.session:
            raise Refused(405, "UNSUPPORTED", "POST starts an upload; continue it with PATCH and PUT")
        mounted = query_digest(request, "mount")
        if mounted is not None:
            spare = self._limits.spare_bytes
            if await asyncio.to_thread(mount, store, route.repository, mounted, request, spare=spare):
                return blob_created(route.repository, mounted)
        digest = query_digest(request, "digest")
        algorithm = digest.algorithm if digest else _algorithm(request)
        session = await self._new_session(store, route, request, algorithm)
        opened = type(route)(route.repository, session)
        if digest is None:
            return _accepted(store, opened, 0)
        return await self._whole(store, opened, request, digest)

    async def append(self, store: Store, route: Route, request: Request) -> Response:
        """PATCH: a chunk with a Content-Range, or a stream (end-5)."""
        async with self._opened(store, route, request) as upload:
            await self._receive(store, route, request, upload)
            await asyncio.to_thread(upload.publish)
            return _accepted(store, route, upload.offset)

    async def finish(self, store: Store, route: Route, request: Request) -> Response:
        """PUT: the last chunk, if any, and the digest of it all (end-6)."""
        digest = query_digest(request, "digest")
        if digest is None:
            raise Refused(400, "DIGEST_INVALID", "finish the upload with ?digest=<digest of the content>")
        try:
            async with self._opened(store, route, request) as upload:
                await self._receive(store, route, request, upload)
                await asyncio.to_thread(upload.commit, store.repository(route.repository), digest)
        except UploadUnknown:
            # A load balancer repeats a PUT whose server was killed after it had finished the upload.
            if declared_length(request) != 0 or not await asyncio.to_thread(
                store.repository(route.repository).has_blob, digest
            ):
                raise
        return blob_created(route.repository, digest)

    async def status(self, store: Store, route: Route, request: Request) -> Response:
        """GET: how far it is (end-13)."""
        state = await _once_visible(request, partial(store.uploads(route.repository).state, *_names(route)))
        return Response(status_code=204, headers=_progress(store, route, state.offset))

    async def cancel(self, store: Store, route: Route, request: Request) -> Response:
        """DELETE: the client cancels the upload (end-14)."""
        await _once_visible(request, partial(store.uploads(route.repository).cancel, *_names(route)))
        return Response(status_code=204, headers={"Docker-Upload-UUID": route.session})

    async def _whole(self, store: Store, route: Route, request: Request, digest: Digest) -> Response:
        """A blob in the POST itself. Without a body it announces the digest, unless it is that of nothing."""
        try:
            async with self._opened(store, route, request) as upload:
                received = await self._receive(store, route, request, upload)
                if not received and digest != Digest.of(b"", digest.algorithm):
                    return _accepted(store, route, 0)
                await asyncio.to_thread(upload.commit, store.repository(route.repository), digest)
        except BaseException:
            with contextlib.suppress(NotFound):
                await asyncio.to_thread(
                    store.uploads(route.repository).cancel, route.repository, route.session
                )
            raise
        return blob_created(route.repository, digest)

    async def _new_session(self, store: Store, route: Route, request: Request, algorithm: str) -> str:
        limits, uploads, owner = self._limits, store.uploads(route.repository), _owner(request)
        if time.monotonic() - self._expired > _EXPIRE_EVERY:
            self._expired = time.monotonic()
            await asyncio.to_thread(
                store.expire_uploads, idle=limits.session_idle_seconds, empty=limits.session_empty_seconds
            )
        self._check_free_space(store, route, declared_length(request) or 0)
        if await asyncio.to_thread(uploads.count) >= limits.sessions:
            raise _too_many("there are")
        if await asyncio.to_thread(uploads.count, owner) >= limits.client_sessions:
            raise _too_many("you have")
        return await asyncio.to_thread(uploads.begin, route.repository, algorithm=algorithm, owner=owner)

    @contextlib.asynccontextmanager
    async def _opened(self, store: Store, route: Route, request: Request) -> AsyncIterator[UploadSession]:
        """The session, when no other request has it any more. Raises `Refused` with 409."""
        upload = await self._turn(store, route, request)
        try:
            yield upload
        finally:
            await asyncio.to_thread(upload.close)

    async def _turn(self, store: Store, route: Route, request: Request) -> UploadSession:
        opening = partial(store.uploads(route.repository).open, *_names(route))
        deadline = time.monotonic() + self._limits.busy_seconds
        while True:
            upload = await _once_visible(request, opening)
            if upload is not None:
                return upload
            if time.monotonic() >= deadline:
                raise Refused(
                    409, "BLOB_UPLOAD_INVALID",
                    "another request is writing to this upload; wait for it, or cancel the upload",
                    {"Retry-After": "5"},
                )  # fmt: skip
            # Not in a thread: there are few, and the one who has it needs them.
            await asyncio.sleep(_POLL_SECONDS)

    async def _receive(self, store: Store, route: Route, request: Request, upload: UploadSession) -> int:
        """Write the body behind what is there; how many bytes it had. Raises `Refused`."""
        length = declared_length(request)
        chunk = parse_content_range(request.headers.get("Content-Range"), length)
        if chunk is not None and chunk.start != upload.offset:
            raise _out_of_order(store, route, upload.offset)
        self._check_free_space(store, route, length or 0)
        received = await stream_body(
            request, self._writer(store, route, upload),
            idle=self._limits.body_idle_seconds, limit=self._left(upload),
        )  # fmt: skip
        if chunk is not None:
            check_length(chunk, received)
        return received

    def _writer(self, store: Store, route: Route, upload: UploadSession) -> _Writer:
        return _Writer(upload, lambda: self._check_free_space(store, route, 0))

    def _left(self, upload: UploadSession) -> int | None:
        limit = self._limits.blob_bytes
        return max(limit - upload.offset, 0) if limit else None

    def _check_free_space(self, store: Store, route: Route, needed: int) -> None:
        check_free_space(store, route.repository, needed, spare=self._limits.spare_bytes)


class _Writer:
    """Writes pieces, and looks at the disk now and then: a streamed body does not say how long it is."""

    def __init__(self, upload: UploadSession, check_free_space: Callable[[], None]) -> None:
        self._upload, self._check_free_space = upload, check_free_space
        self._until_look = _LOOK_AT_DISK_EVERY

    def __call__(self, piece: bytearray) -> None:
        self._until_look -= len(piece)
        if self._until_look <= 0:
            self._check_free_space()
            self._until_look = _LOOK_AT_DISK_EVERY
        self._upload.write(piece)


def _names(route: Route) -> tuple[RepositoryName, str]:
    return route.repository, route.session


async def _once_visible(request: Request, look: Callable[..., T]) -> T:
    """What `look` finds, once it sees what the client was told. Raises `UploadUnknown`."""
    acknowledged, deadline = _acknowledged(request), time.monotonic() + _LAG_SECONDS
    while True:
        try:
            return await asyncio.to_thread(look, acknowledged=acknowledged)
        except UploadBehind:
            if time.monotonic() >= deadline:
                raise
        await asyncio.sleep(_POLL_SECONDS)


def _acknowledged(request: Request) -> int | None:
    """From the Location that the client was given: how many bytes counted then. None: it does not say."""
    text = request.query_params.get(_STATE, "")
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_STATE else None


def _accepted(store: Store, route: Route, offset: int) -> Response:
    return Response(status_code=202, headers=_progress(store, route, offset))


def _progress(store: Store, route: Route, offset: int) -> dict[str, str]:
    state = f"?{_STATE}={offset}" if store.uploads(route.repository).may_lag else ""
    return {
        "Location": f"/v2/{route.repository}/blobs/uploads/{route.session}{state}",
        # No byte cannot be written down as a range: 0-0 is what distribution says for it.
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": route.session,
    }


def _out_of_order(store: Store, route: Route, offset: int) -> Refused:
    message = f"the next byte of this upload is number {offset}: send chunks in order, each one once"
    return Refused(416, "BLOB_UPLOAD_INVALID", message, _progress(store, route, offset))


def _too_many(whose: str) -> Refused:
    message = f"{whose} too many unfinished uploads; finish or cancel some, or wait until they expire"
    return Refused(429, "TOOMANYREQUESTS", message, {"Retry-After": "60"})


def _algorithm(request: Request) -> str:
    """end-4c: what the digest will be made with; a guess that the PUT may prove wrong."""
    algorithm = request.query_params.get("digest-algorithm", _ALGORITHMS[0])
    if algorithm not in _ALGORITHMS:
        known = " or ".join(_ALGORITHMS)
        raise InvalidName(
            f"{algorithm[:80]!r} is no known digest algorithm; use {known}", code="DIGEST_INVALID"
        )
    return algorithm


def _owner(request: Request) -> str:
    """Whose session it is: the user's, or that of the address where nobody has a name."""
    user = request.scope.get("mirrorflow.user")
    return f"user:{user}" if user else f"address:{(request.scope.get('client') or ('',))[0]}"


# The Content-Range of chunked uploads: `0-99`, not `bytes 0-99/200` (distribution-spec, "end-5").


def parse_content_range(header: str | None, length: int | None) -> range | None:
    """The positions of a chunk of `length` bytes (None: not known yet); None without the header.

    Raises `Refused` with 400 when it cannot be read, or is not about as many bytes as there are.
    """
    if header is None:
        return None
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise _invalid(f"the Content-Range {header[:80]!r} is not of the form 'first-last', e.g. '0-99'")
    found = range(int(match[1]), int(match[2]) + 1)
    if len(found) == 0:
        raise _invalid(f"the Content-Range {header[:80]!r} ends before it begins")
    if length is not None:
        check_length(found, length)
    return found


def check_length(chunk: range, length: int) -> None:
    """Raises `Refused` with 400."""
    if length != len(chunk):
        raise Refused(
            400,
            "SIZE_INVALID",
            f"the Content-Range and the body differ in length: {len(chunk)} and {length}",
        )


def _invalid(message: str) -> Refused:
    return Refused(400, "BLOB_UPLOAD_INVALID", message)


# Blobs of other repositories (distribution-spec, "Mounting a blob from another repository").


def mount(store: Store, target: RepositoryName, digest: Digest, request: Request, *, spare: int) -> bool:
    """Whether `target` has the blob now. `store` shows the caller's repositories only.

    With `from` it is looked for there only, without it everywhere. Between storage roots it is copied, if
    that leaves `spare` bytes of the disk. Raises `Refused`, `InvalidName` for a `from` that is no repository.
    """
    repository = store.repository(target)
    if repository.has_blob(digest):
        return True
    given = request.query_params.get("from")
    source = store.holder(digest) if given is None else RepositoryName(given)
    if source is None:
        return False
    try:
        found = store.repository(source).find_blob(digest)
    except NotFound:
        return False
    if repository.adopt_blob(digest):
        return True
    check_free_space(store, target, found.size, spare=spare)
    return _copy(store, target, found)


def _copy(store: Store, target: RepositoryName, found: StoredBlob) -> bool:
    """Into another root, hashed on the way like anything that comes in."""
    descriptor = Descriptor("application/octet-stream", found.digest, found.size)
    with store.repository(target).receive_blob(descriptor) as incoming:
        if not incoming.complete:
            for piece in found.pieces(incoming.offset):
                incoming.write(piece)
        incoming.commit()
    return True
