"""Moving one blob: as fast as a bare socket, and from where it broke off."""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from registry_server.oci.errors import SizeMismatch
from tasks.upstream.bodies import GZIP, encoding_of, gunzipped
from tasks.upstream.connection.error_mapping import mapped
from tasks.upstream.connection.receiving import received
from tasks.upstream.errors import UpstreamContentError, UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from contextlib import AbstractContextManager

    from registry_server.oci.descriptor import Descriptor
    from tasks.upstream.connection.bandwidth import Bandwidth
    from tasks.upstream.connection.wire import Answer
    from tasks.upstream.errors import Where

_FAST_FROM = 4 * 1024 * 1024  # bytes: for less a thread is not worth it
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class BlobSink(Protocol):
    """Where a blob goes, e.g. `registry_server.store.spool.incoming_blob.IncomingBlob`."""

    @property
    def offset(self) -> int:
        """Bytes that are there already."""

    def write(self, data: bytes | bytearray | memoryview) -> object:
        """Append; the buffer is used again afterwards."""

    def restart(self) -> object:
        """Throw away what is there."""


class Transfer:
    """One blob on its way into one sink, in as many answers as it takes."""

    def __init__(
        self,
        descriptor: Descriptor,
        sink: BlobSink,
        count: Callable[[int], None],
        bandwidth: Bandwidth,
    ) -> None:
        self._bandwidth = bandwidth
        self.descriptor = descriptor
        self._sink = sink
        self._count = count
        self.position = sink.offset
        self.moved = 0  # bytes
        self.ranges = True

    @property
    def done(self) -> bool:
        return self.position >= self.descriptor.size > 0

    def headers(self) -> dict[str, str]:
        if self.position and not self.ranges:
            self._restart()
        return {"Range": f"bytes={self.position}-"} if self.position else {}

    def take_all(
        self, ask: Callable[[Mapping[str, str]], AbstractContextManager[Answer]], where: Where
    ) -> None:
        """Take answers until the blob is whole; `ask` gets the headers of each request.

        An answer without progress ends it, and so does one to a request without Range that has not all of it.
        Raises as `take` does.
        """
        while True:
            moved, ranges, headers = self.moved, self.ranges, self.headers()
            try:
                with ask(headers) as answer:
                    self.take(answer)
            except UpstreamProtocolError as error:
                if error.status != 416 or not headers:
                    raise
                self.refuse_ranges()
            if self.done or not self.descriptor.size:
                return
            if not ranges or (self.ranges and self.moved == moved):
                raise UpstreamProtocolError(where, "its answers together are not the whole blob")

    def take(self, answer: Answer) -> None:
        """Write what `answer` brings. Raises an `UpstreamError`, `Stopped`, or what the sink raises."""
        if not self._fits(answer):
            return
        encoded = self._is_encoded(answer)
        length = None if encoded else self._length(answer)
        with closing(gunzipped(answer) if encoded else chunks(answer, length)) as body:
            for chunk in body:
                self._put(answer, chunk)
        if self.position < self.descriptor.size and answer.status == 200:
            raise self._wrong_size(answer, self.position)

    def _is_encoded(self, answer: Answer) -> bool:
        """Whether a proxy compressed it on the way. Object stores label layers gzip that are gzip themselves.

        A part of an encoded body begins somewhere else (RFC 9110 section 14.2): never of a 206.
        """
        if encoding_of(answer) not in GZIP or answer.status != 200:
            return False
        length = answer.headers.get("Content-Length", "")
        if length.isdecimal():
            return int(length) != self.descriptor.size
        return not self.descriptor.media_type.endswith("gzip")

    def _put(self, answer: Answer, chunk: bytes | memoryview) -> None:
        if self.position + len(chunk) > self.descriptor.size:
            raise self._wrong_size(answer, self.position + len(chunk), at_least=True)
        for piece in self._bandwidth.paced(chunk, answer.waits):
            self._sink.write(piece)
            self.position += len(piece)
            self.moved += len(piece)
            self._count(len(piece))

    def _fits(self, answer: Answer) -> bool:
        """Whether the answer begins where we are. RFC 9110 section 14: Range may be ignored, and a
        Content-Range that is not what was asked for must not be trusted."""
        if answer.status != 206:
            if self.position:
                self._restart()
            return True
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
        if match and int(match[1]) == self.position and match[3] in ("*", str(self.descriptor.size)):
            return True
        if not self.ranges:
            raise UpstreamProtocolError(answer.where, "it answers 206 to a request without Range")
        self.refuse_ranges()
        return False

    def refuse_ranges(self) -> None:
        """They cannot go on from where we are (416, nonsense): take it from the beginning."""
        self.ranges = False

    def _restart(self) -> None:
        self._sink.restart()
        self.position = 0

    def _length(self, answer: Answer) -> int | None:
        """Content-Length, checked before a byte is read."""
        text = answer.headers.get("Content-Length", "")
        if not text.isdecimal() or "Transfer-Encoding" in answer.headers:
            return None
        length = int(text)
        promised = self.descriptor.size - self.position
        if length > promised or (length < promised and answer.status == 200):
            raise self._wrong_size(answer, self.position + length)
        return length

    def _wrong_size(self, answer: Answer, actual: int, *, at_least: bool = False) -> UpstreamContentError:
        encoding = answer.headers.get("Content-Encoding", "")
        hint = f" (it came with Content-Encoding {encoding!r}, which was not requested)" if encoding else ""
        mismatch = SizeMismatch(expected=self.descriptor.size, actual=actual, at_least=at_least)
        return UpstreamContentError(answer.where, f"{mismatch}{hint}")


def chunks(answer: Answer, length: int | None) -> Generator[bytes | memoryview]:
    if length is not None and is_fast(answer, length):
        return fast_chunks(answer, length)
    return answer.chunks()


def is_fast(answer: Answer, length: int) -> bool:
    """Whether `fast_chunks` may be used."""
    response = answer.response
    if length < _FAST_FROM or response.http_version != "HTTP/1.1":
        return False
    if response.headers.get("Content-Encoding") or response.headers.get("Transfer-Encoding"):
        return False
    sock = response.extensions["network_stream"].get_extra_info("socket")
    # Through a proxy, https is TLS inside of whatever this socket is.
    wanted = ssl.SSLSocket if response.request.url.scheme == "https" else socket.socket
    return isinstance(sock, wanted)


def fast_chunks(answer: Answer, length: int) -> Generator[bytes | memoryview]:
    """The body, past httpx: from its socket into buffers, which are filled before they are handed out.

    The first chunk is all that has been read. The connection is used again, but not to a proxy, which httpx
    has. `raw` has to live until the end: collected, it closes httpx's socket.
    """
    raw = answer.response.iter_raw()
    with mapped(answer.where, answer.options, body=True):
        first = next(raw)
    yield first
    sock = answer.response.extensions["network_stream"].get_extra_info("socket")
    yield from received(answer, sock, length - len(first))
    if consumed := answer.response.extensions.get("consumed"):
        consumed(length - len(first))
    del raw


@dataclass(slots=True)
class InMemory:
    """Keeps what arrives. The caller has looked at the blob's size, and checks its digest."""

    content: bytearray = field(default_factory=bytearray)

    @property
    def offset(self) -> int:
        return len(self.content)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.content += data

    def restart(self) -> None:
        self.content.clear()
