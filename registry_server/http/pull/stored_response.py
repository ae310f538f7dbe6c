"""Blobs of a store that is not made of files: an address to fetch them from, or their bytes by way of us."""

from __future__ import annotations

import asyncio
from contextlib import closing
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from starlette.responses import Response

from registry_server.http.pull.file_response import FileTruncated, watch_disconnect

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from starlette.types import Receive, Scope, Send

    from registry_server.store.records import StoredBlob
    from registry_server.store.store import Store

P = ParamSpec("P")
R = TypeVar("R")


async def ask(store: Store, question: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """What the store answers: at once where it reads files, and in a thread where it asks the network."""
    if store.is_local:
        return question(*args, **kwargs)
    return await asyncio.to_thread(question, *args, **kwargs)


class StoredBlobResponse(Response):
    """Sends the bytes at `positions` of a blob, as they come.

    What turns out too short raises `FileTruncated` in the middle: that makes the server break the connection.
    """

    def __init__(self, blob: StoredBlob, positions: range, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers={**headers, "Content-Length": str(len(positions))})
        self._blob, self._positions = blob, positions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        position, stop = self._positions.start, self._positions.stop
        with closing(_pieces(self._blob, self._positions)) as pieces:
            async with watch_disconnect(receive) as gone:
                while position < stop and not gone.is_set():
                    piece = await asyncio.to_thread(next, pieces, b"")
                    if not piece:
                        raise FileTruncated(position, stop)
                    position += len(piece)
                    await send({"type": "http.response.body", "body": piece, "more_body": position < stop})
        if not len(self._positions):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _pieces(blob: StoredBlob, positions: range) -> Generator[bytes, None, None]:
    """Never more than was announced."""
    left = len(positions)
    for piece in blob.pieces(positions.start, positions.stop) if positions else ():
        yield piece[:left]
        left -= len(piece)
