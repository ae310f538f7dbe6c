"""One HTTP/1.1 response: its head and its body out of the bytes that a connection brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LONGEST_HEAD: Final = 100 * 1024  # bytes, with the interim responses before it
_LONGEST_FRAME: Final = 100 * 1024  # bytes between two of a body: extensions of a chunk, trailers
# What Go's client takes, and so docker, containerd and crane: registries behind odd proxies send it. llhttp
# calls it dangerous because a proxy and a server may read it differently. Here is nobody in between.
_LENIENT: Final = {
    "lenient_headers": True,
    "lenient_chunked_length": True,  # chunked goes before Content-Length (RFC 9112, 6.3)
    "lenient_optional_cr_before_lf": True,
    "lenient_spaces_after_chunk_size": True,
    "lenient_data_after_close": True,
}


class ResponseParser:
    """`status` and `headers` are set when `has_head`; interim responses (1xx) before it are left out.

    `left`: bytes of the body that are still to come, None where only the end of a chunk or of the
    connection tells. `is_reusable`: whether another response may follow on this connection.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.has_head = self.is_whole = False
        self.left: int | None = None
        self.is_reusable = False
        self._is_head = method == "HEAD"
        self._is_surplus = False
        self._ends_with_connection = False
        self.seen = 0  # bytes of the head and before
        self._framing = 0  # bytes since the last one of the body
        self._body: list[bytes] = []
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(**_LENIENT)

    def feed(self, data: bytes) -> None:
        """What the connection brought; b"" when it ended. Raises `httpx.RemoteProtocolError`."""
        if not data:
            self._end()
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.is_whole:  # else it follows the response, and is not read
                raise httpx.RemoteProtocolError(f"no HTTP response: {error}") from None
            self._is_surplus = True
        if not self.has_head:
            self.seen += len(data)
            if self.seen > _LONGEST_HEAD:
                raise httpx.RemoteProtocolError(f"its headers have more than {_LONGEST_HEAD} bytes")
        else:
            self._count_framing(len(data))
        self.is_reusable = self.is_reusable and not self._is_surplus

    def _count_framing(self, number: int) -> None:
        """Nobody who counts the bytes of a body would notice an extension without an end."""
        self._framing = 0 if self._body else self._framing + number
        if self._framing > _LONGEST_FRAME:
            raise httpx.RemoteProtocolError(f"more than {_LONGEST_FRAME} bytes of its chunks are no content")

    def body(self) -> bytes:
        """What came of the body since the last call."""
        found, self._body = b"".join(self._body), []
        return found

    def skip(self, number: int) -> None:
        """`number` bytes of a body whose length is known were read from the connection by somebody else."""
        assert self.left is not None
        self.left -= number
        self.is_whole = self.left <= 0

    def _end(self) -> None:
        if not self.has_head:
            raise httpx.RemoteProtocolError("the connection was closed without an answer")
        if not self._ends_with_connection:
            raise httpx.RemoteProtocolError("the connection was closed in the middle of the body")
        self.is_whole = True

    # What llhttp calls:

    def on_message_begin(self) -> None:
        if self.is_whole:
            self._is_surplus = True
        else:
            self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.has_head or status < 200:
            return
        self.status, self.has_head = status, True
        self.is_reusable = self._parser.should_keep_alive()
        self._find_length()

    def _find_length(self) -> None:
        """RFC 9112, 6.3: by what the end of the body is found."""
        if self._is_head or self.status in (204, 304):
            self.is_whole = True
            return
        found = {name.lower(): value for name, value in self.headers}
        if b"transfer-encoding" not in found:
            length = found.get(b"content-length", b"")
            self.left = int(length) if length.isdigit() else None
            self._ends_with_connection = self.left is None

    def on_body(self, data: bytes) -> None:
        if self.is_whole:
            self._is_surplus = True
            return
        self._body.append(data)
        if self.left is not None:
            self.left -= len(data)

    def on_message_complete(self) -> None:
        self.is_whole = self.has_head


class Body(httpx.SyncByteStream):
    """What of a response's body has not been read. `receive` brings more bytes, b"" at the connection's end.

    `finished` is told once whether the connection can be used again.
    """

    def __init__(
        self, parser: ResponseParser, receive: Callable[[], bytes], finished: Callable[[bool], None]
    ) -> None:
        self._parser = parser
        self._receive = receive
        self._finished: Callable[[bool], None] | None = finished
        self._look()

    def __iter__(self) -> Iterator[bytes]:
        """Raises `httpx.TransportError`."""
        if found := self._parser.body():
            yield found
        while not self._parser.is_whole:
            yield self._more()

    def _more(self) -> bytes:
        data = self._receive()
        if self._parser.left is None or not data:
            self._parser.feed(data)
            data = self._parser.body()
        else:
            self._parser.skip(len(data))
        self._look()
        return data

    def consumed(self, number: int) -> None:
        """`number` bytes were read past this object."""
        self._parser.skip(number)
        self._look()

    def _look(self) -> None:
        if self._parser.is_whole:
            self._finish(reusable=self._parser.is_reusable)

    def _finish(self, *, reusable: bool) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(reusable)

    def close(self) -> None:
        self._finish(reusable=False)
