"""Following a file on a file system that shows its size before its content, as FUSE does between hosts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from registry_server.http.pull.file_response import FileTruncated
from registry_server.http.pull_through.incoming_response import IncomingBlobResponse
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.spool.incoming_reader import IncomingAborted, IncomingReader, open_incoming
from registry_server.store.store import Store

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

    from registry_server.store.repository import Repository

CONTENT = bytes(range(256)) * 4
BLOB = Descriptor("", Digest.of(CONTENT), len(CONTENT))


class Lagging(IncomingReader):
    """Its `state` is that of the file; its content comes `missed` reads later, at each position."""

    def __init__(self, fd: int, missed: int, *, hidden_from: int = len(CONTENT)) -> None:
        super().__init__(fd)
        self.missed, self.hidden_from = missed, hidden_from
        self.reads: dict[int, int] = {}

    def read(self, size: int, position: int) -> bytes:
        self.reads[position] = self.reads.get(position, 0) + 1
        if self.reads[position] <= self.missed:
            return b""
        return super().read(min(size, self.hidden_from - position), position)


@dataclass
class Client:
    """As much of an ASGI server as an answer needs."""

    body: bytes = b""
    stays: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> MutableMapping[str, Any]:
        await self.stays.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.body += message.get("body", b"")

    async def get(self, file: IncomingReader) -> None:
        answer = IncomingBlobResponse(file, range(len(CONTENT)), 200, {}, lag=0.5)
        await answer({"type": "http"}, self.receive, self.send)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Store.open(tmp_path, durability="none").repository(RepositoryName("a"))


def opened(repository: Repository) -> int:
    file = open_incoming(repository, BLOB.digest)
    assert file is not None
    return file.fd


def test_content_that_is_not_visible_yet_is_waited_for(repository: Repository) -> None:
    async def follow() -> Client:
        client = Client()
        with repository.receive_blob(BLOB) as incoming:
            incoming.write(CONTENT[:700])
            follower = asyncio.create_task(client.get(Lagging(opened(repository), missed=2)))
            while len(client.body) < 700:  # noqa: ASYNC110 - what is polled is a list of bytes
                await asyncio.sleep(0.01)
            incoming.write(CONTENT[700:])
            incoming.commit()
            await follower
        return client

    assert anyio.run(follow).body == CONTENT


def test_a_writer_that_writes_is_waited_for_longer_than_a_finished_file(repository: Repository) -> None:
    async def follow() -> Client:
        client = Client()
        with repository.receive_blob(BLOB) as incoming:
            incoming.write(CONTENT[:700])
            file = Lagging(opened(repository), missed=10**6)
            follower = asyncio.create_task(client.get(file))
            while file.reads.get(0, 0) < 6:  # six ticks are more than `lag`  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)
            file.missed = 0
            incoming.write(CONTENT[700:])
            incoming.commit()
            await follower
        return client

    assert anyio.run(follow).body == CONTENT


@pytest.mark.parametrize(
    ("written", "error"),
    [
        pytest.param(CONTENT, FileTruncated, id="the blob is verified, and damaged on the disk"),
        pytest.param(CONTENT[:900], IncomingAborted, id="the writer is gone, and left less than it seemed"),
    ],
)
def test_a_finished_file_is_not_waited_for_without_end(
    repository: Repository, written: bytes, error: type[Exception]
) -> None:
    async def follow() -> None:
        client = Client()
        with repository.receive_blob(BLOB) as incoming:
            incoming.write(written)
            fd = opened(repository)
            if written == CONTENT:
                incoming.commit()
        with pytest.raises(error):
            await client.get(Lagging(fd, missed=0, hidden_from=300))
        assert client.body == CONTENT[:300]

    anyio.run(follow)
