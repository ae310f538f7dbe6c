"""Large blobs: what came is written whatever happens then, and no thread that receives is left behind."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tasks.upstream.errors import Stopped, UpstreamUnavailable
from tests.support_behaviours import hangs_in_body, truncated
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import RealTime, client
from tests.tasks.upstream.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Behaviour, Misbehaving

NAME = "library/nginx"
BIG = b"".join(number.to_bytes(4, "big") for number in range(2_000_000))  # no two pieces are alike


class _Watched(MemorySink):
    """Fills up behind `room` bytes; remembers who received while it was written to."""

    def __init__(self, room: int = len(BIG)) -> None:
        super().__init__()
        self.receivers: set[threading.Thread] = set()
        self._room = room

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.receivers |= {each for each in threading.enumerate() if each.name == "receiver of a blob"}
        if len(self.content) + len(data) > self._room:
            raise OSError(28, "No space left on device")
        super().write(data)


def _closes(content: bytes) -> Behaviour:
    return truncated(content, 4_000_000)


def _hangs(content: bytes) -> Behaviour:
    return hangs_in_body(content, at=4_000_000)


@pytest.mark.parametrize(
    ("behave", "room", "stops"),
    [
        pytest.param(None, len(BIG), False, id="comes to its end"),
        pytest.param(None, 1_000_000, False, id="finds no room"),
        pytest.param(_closes, len(BIG), False, id="breaks off, and goes on"),
        pytest.param(_hangs, len(BIG), False, id="stops coming"),
        pytest.param(_hangs, len(BIG), True, id="is not wanted any more"),
    ],
)
def test_no_thread_outlives_a_transfer_that(
    upstream: Misbehaving,
    behave: Callable[[bytes], Behaviour] | None,
    room: int,
    stops: bool,  # noqa: FBT001 - a column of the table
) -> None:
    blob = upstream.add_blob(NAME, BIG)
    if behave is not None:
        upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", behave(BIG), well_behaved)
    sink = _Watched(room)
    with (
        client(
            upstream,
            time=RealTime(),
            read_timeout=0.5,
            cancelled=lambda: stops and len(sink.content) > 1_000_000,
        ) as registry,
        suppress(OSError, Stopped, UpstreamUnavailable),
    ):
        registry.blob(NAME, blob, sink)
    assert sink.receivers, "nothing was received in a thread: this tests nothing"
    assert not any(each.is_alive() for each in sink.receivers)
    assert sink.content == BIG[: len(sink.content)]


def test_what_came_before_the_network_broke_is_written_before_that_is_told(upstream: Misbehaving) -> None:
    """However far the receiver is ahead: what is lost would be asked for again."""
    blob = upstream.add_blob(NAME, BIG)
    upstream.on(f"/v2/{NAME}/blobs/{blob.digest}", truncated(BIG, 4_000_000), well_behaved)
    sink = MemorySink()
    with client(upstream) as registry:
        registry.blob(NAME, blob, sink)
    assert upstream.seen[1].headers["range"] == "bytes=4000000-"
    assert sink.content == BIG
