"""Pushing blobs (distribution-spec, "Pushing Blobs"): at once, in chunks, as a stream, or by mounting.

All ways go through a session of the store: whatever breaks off leaves nothing behind but what was said to be
there, and any of several server processes may get the next request.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from starlette.responses import Response

from registry_server.http.bodies import declared_length, pour
from registry_server.http.content_range import check_length, parse_content_range
from registry_server.http.errors import Refused
from registry_server.http.mounting import mount
from registry_server.http.pushed import blob_created, query_digest
from registry_server.http.room import check_room
from registry_server.oci.digest import Digest
from registry_server.oci.errors import InvalidName, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request

    from registry_server.http.limits import Limits
    from registry_server.http.routes import Upload as Route
    from registry_server.store.store import Store
    from registry_server.store.uploads import Upload

_ALGORITHMS = ("sha256", "sha512")
_POLL_SECONDS = 0.05
_EXPIRE_EVERY = 60.0  # seconds
_LOOK_AT_DISK_EVERY = 64 * 1024 * 1024  # bytes


class UploadHandlers:
    """The endpoints under `/blobs/uploads/`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._expired = 0.0

    async def begin(self, store: Store, route: Route, request: Request) -> Response:
        """POST: a mount, a whole blob, or a new session (end-11, end-4b, end-4a)."""
        if route.session:
            raise Refused(405, "UNSUPPORTED", "POST begins an upload; it goes on with PATCH and PUT")
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
            return _accepted(opened, 0)
        return await self._whole(store, opened, request, digest)

    async def append(self, store: Store, route: Route, request: Request) -> Response:
        """PATCH: a chunk with a Content-Range, or a stream (end-5)."""
        async with self._opened(store, route) as upload:
            await self._receive(store, route, request, upload)
            await asyncio.to_thread(upload.publish)
            return _accepted(route, upload.offset)

    async def finish(self, store: Store, route: Route, request: Request) -> Response:
        """PUT: the last chunk, if any, and the digest of it all (end-6)."""
        digest = query_digest(request, "digest")
        if digest is None:
            raise Refused(400, "DIGEST_INVALID", "the upload is ended with ?digest=<digest of the content>")
        async with self._opened(store, route) as upload:
            await self._receive(store, route, request, upload)
            await asyncio.to_thread(upload.commit, store.repository(route.repository), digest)
        return blob_created(route.repository, digest)

    async def status(self, store: Store, route: Route, _request: Request) -> Response:
        """GET: how far it is (end-13)."""
        state = await asyncio.to_thread(
            store.uploads(route.repository).state, route.repository, route.session
        )
        return Response(status_code=204, headers=_progress(route, state.offset))

    async def cancel(self, store: Store, route: Route, _request: Request) -> Response:
        """DELETE: the client has changed its mind (end-14)."""
        await asyncio.to_thread(store.uploads(route.repository).cancel, route.repository, route.session)
        return Response(status_code=204, headers={"Docker-Upload-UUID": route.session})

    async def _whole(self, store: Store, route: Route, request: Request, digest: Digest) -> Response:
        """A blob in the POST itself. Without a body it announces the digest, unless it is that of nothing."""
        try:
            async with self._opened(store, route) as upload:
                received = await self._receive(store, route, request, upload)
                if not received and digest != Digest.of(b"", digest.algorithm):
                    return _accepted(route, 0)
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
        self._check_room(store, route, declared_length(request) or 0)
        if await asyncio.to_thread(uploads.count) >= limits.sessions:
            raise _too_many("there are")
        if await asyncio.to_thread(uploads.count, owner) >= limits.client_sessions:
            raise _too_many("you have")
        return await asyncio.to_thread(uploads.begin, route.repository, algorithm=algorithm, owner=owner)

    @contextlib.asynccontextmanager
    async def _opened(self, store: Store, route: Route) -> AsyncIterator[Upload]:
        """The session, when no other request has it any more. Raises `Refused` with 409."""
        upload = await self._turn(store, route)
        try:
            yield upload
        finally:
            await asyncio.to_thread(upload.close)

    async def _turn(self, store: Store, route: Route) -> Upload:
        uploads, deadline = store.uploads(route.repository), time.monotonic() + self._limits.busy_seconds
        while True:
            upload = await asyncio.to_thread(uploads.open, route.repository, route.session)
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

    async def _receive(self, store: Store, route: Route, request: Request, upload: Upload) -> int:
        """Write the body behind what is there; how many bytes it had. Raises `Refused`."""
        length = declared_length(request)
        chunk = parse_content_range(request.headers.get("Content-Range"), length)
        if chunk is not None and chunk.start != upload.offset:
            raise _out_of_order(route, upload.offset)
        self._check_room(store, route, length or 0)
        received = await pour(
            request, self._writer(store, route, upload),
            idle=self._limits.body_idle_seconds, limit=self._left(upload),
        )  # fmt: skip
        if chunk is not None:
            check_length(chunk, received)
        return received

    def _writer(self, store: Store, route: Route, upload: Upload) -> _Writer:
        return _Writer(upload, lambda: self._check_room(store, route, 0))

    def _left(self, upload: Upload) -> int | None:
        limit = self._limits.blob_bytes
        return max(limit - upload.offset, 0) if limit else None

    def _check_room(self, store: Store, route: Route, needed: int) -> None:
        check_room(store, route.repository, needed, spare=self._limits.spare_bytes)


class _Writer:
    """Writes pieces, and looks at the disk now and then: a streamed body does not say how long it is."""

    def __init__(self, upload: Upload, check_room: Callable[[], None]) -> None:
        self._upload, self._check_room = upload, check_room
        self._until_look = _LOOK_AT_DISK_EVERY

    def __call__(self, piece: bytearray) -> None:
        self._until_look -= len(piece)
        if self._until_look <= 0:
            self._check_room()
            self._until_look = _LOOK_AT_DISK_EVERY
        self._upload.write(piece)


def _accepted(route: Route, offset: int) -> Response:
    return Response(status_code=202, headers=_progress(route, offset))


def _progress(route: Route, offset: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{route.repository}/blobs/uploads/{route.session}",
        # No byte cannot be written down as a range: 0-0 is what distribution says for it.
        "Range": f"0-{max(offset - 1, 0)}",
        "Docker-Upload-UUID": route.session,
    }


def _out_of_order(route: Route, offset: int) -> Refused:
    message = f"the next byte of this upload is number {offset}: chunks come in order, each one once"
    return Refused(416, "BLOB_UPLOAD_INVALID", message, _progress(route, offset))


def _too_many(whose: str) -> Refused:
    message = f"{whose} too many unfinished uploads; finish or cancel some, or wait until they expire"
    return Refused(429, "TOOMANYREQUESTS", message, {"Retry-After": "60"})


def _algorithm(request: Request) -> str:
    """end-4c: what the digest will be made with; a guess that the PUT may prove wrong."""
    algorithm = request.query_params.get("digest-algorithm", _ALGORITHMS[0])
    if algorithm not in _ALGORITHMS:
        known = " and ".join(_ALGORITHMS)
        raise InvalidName(
            f"no digest is made with {algorithm[:80]!r} here; there are {known}", code="DIGEST_INVALID"
        )
    return algorithm


def _owner(request: Request) -> str:
    """Whose session it is: the user's, or that of the address where nobody has a name."""
    user = request.scope.get("mirrorflow.user")
    return f"user:{user}" if user else f"address:{(request.scope.get('client') or ('',))[0]}"
