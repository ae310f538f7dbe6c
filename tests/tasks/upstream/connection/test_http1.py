"""HTTP/1.1 as servers and proxies really speak it, and one connection for many exchanges."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tasks.upstream.connection.http1 import Http1Transport
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tests.support.certificates import KeyPair

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Raw:
    """A server that answers with given bytes: `answers[n]` to the nth connection, one to each request.

    b"" closes the connection instead. With `pair` it speaks TLS.
    """

    answers: Sequence[Sequence[bytes]]
    pair: KeyPair | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if self.pair else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/v2/"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                answers = self.answers[min(self.connections, len(self.answers) - 1)]
                self.connections += 1
                threading.Thread(target=self._answer, args=(sock, answers), daemon=True).start()

    def _answer(self, plain: socket.socket, answers: Sequence[bytes]) -> None:
        with suppress(OSError), closing(self._secured(plain)) as sock:
            for answer in answers:
                if not (request := sock.recv(65536)):
                    return
                self.requests.append(request)
                if not answer:
                    return
                sock.sendall(answer)

    def _secured(self, sock: socket.socket) -> socket.socket:
        if self.pair is None:
            return sock
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pair.cert, self.pair.key)
        return context.wrap_socket(sock, server_side=True)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def transport() -> Iterator[Http1Transport]:
    with Http1Transport(ssl.create_default_context()) as transport:
        yield transport


def ask(transport: Http1Transport, url: str, method: str = "GET", **more: Any) -> tuple[int, bytes]:
    timeout = dict.fromkeys(("connect", "read", "write"), 5.0)
    request = httpx.Request(method, url, extensions={"timeout": timeout}, **more)
    response = transport.handle_request(request)
    with closing(response):
        return response.status_code, b"".join(response.iter_raw())


READ = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "no reason phrase": (b"HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    "chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        b"abc",
    ),
    "chunk extensions and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nDigest: z\r\n\r\n",
        b"abc",
    ),
    "chunked goes before a length (RFC 9112, 6.3)": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"abc",
    ),
    "interim responses come before it (RFC 9110, 15.2)": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
        b"ok",
    ),
    "lines without CR (RFC 9112, 2.2)": (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nabc", b"abc"),
    "HTTP/1.0, until the connection ends": (b"HTTP/1.0 200 OK\r\n\r\nabc", b"abc"),
    "nothing tells the length but the end": (b"HTTP/1.1 200 OK\r\n\r\nabc", b"abc"),
    "a header on two lines (RFC 9112, 5.2)": (
        b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 3\r\n\r\nabc",
        b"abc",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
}


@pytest.mark.parametrize(("answer", "body"), READ.values(), ids=READ.keys())
def test_what_registries_and_their_proxies_send_is_read(
    transport: Http1Transport, answer: bytes, body: bytes
) -> None:
    with closing(Raw([[answer, b""]])) as server:
        if b"200 OK\r\n\r\n" in answer:
            server.answers = [[answer]]  # the end of the connection is the end of the body
        assert ask(transport, server.url)[1] == body


REFUSED = {
    "not HTTP": b"<html>hello</html>",
    "HTTP/2": b"HTTP/2 200\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice, which RFC 9112, 6.3 lets one refuse": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"
    ),
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
    "a wrong chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"X-Y: z\r\n" * 20_000,
    "interim responses without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 5_000,
    "cut in the headers": b"HTTP/1.1 200 OK\r\nContent-Le",
    "cut in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nabc",
    "cut in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30\r\nabc",
}


@pytest.mark.parametrize("answer", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_whole_response_is_a_protocol_error(transport: Http1Transport, answer: bytes) -> None:
    with closing(Raw([[answer]])) as server, pytest.raises(httpx.RemoteProtocolError):
        ask(transport, server.url)


@pytest.mark.parametrize("start", [b"2;", b"0\r\nX-Trailer: "], ids=["an extension", "a trailer"])
def test_chunks_that_never_come_to_their_content_are_given_up(
    transport: Http1Transport, start: bytes
) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with (
        closing(Raw([[head + start + b"a" * 400_000]])) as server,
        pytest.raises(httpx.RemoteProtocolError, match="of its chunks are no content"),
    ):
        ask(transport, server.url)


def test_many_exchanges_need_one_connection(transport: Http1Transport) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n"
    with closing(Raw([[OK, chunked, missing, head, OK]])) as server:
        for method in ("GET", "GET", "GET", "HEAD", "GET"):
            ask(transport, server.url, method)
        assert (server.connections, len(server.requests)) == (1, 5)


ENDS = {
    "it says so": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "it answered more than was asked": OK + OK,
    "bytes follow the body": OK + b"garbage",
}


@pytest.mark.parametrize("answer", ENDS.values(), ids=ENDS.keys())
def test_a_connection_is_not_used_again_after(transport: Http1Transport, answer: bytes) -> None:
    with closing(Raw([[answer, b"never"], [OK]])) as server:
        assert [ask(transport, server.url) for _ in range(2)] == [(200, b"ok")] * 2
        assert server.connections == 2


def test_what_tls_has_kept_behind_a_body_answers_no_further_request(tmp_path: Path) -> None:
    """The end of the body and what follows it come in one record, of which only the body is read."""
    authority = Authority(tmp_path)
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20000
    surplus = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    with (
        Http1Transport(ssl.create_default_context(cafile=authority.cert)) as transport,
        closing(Raw([[first + surplus], [OK]], authority.server())) as server,
    ):
        assert ask(transport, server.url)[1] == b"x" * 20000
        assert ask(transport, server.url) == (200, b"ok")


def test_a_body_that_is_left_ends_its_connection(transport: Http1Transport) -> None:
    with closing(Raw([[OK, OK], [OK]])) as server:
        timeout = dict.fromkeys(("connect", "read", "write"), 5.0)
        request = httpx.Request("GET", server.url, extensions={"timeout": timeout})
        server.answers = [[b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nab", b"never"], [OK]]
        transport.handle_request(request).close()
        assert ask(transport, server.url) == (200, b"ok")
        assert server.connections == 2


def test_a_question_to_a_connection_that_ended_meanwhile_is_asked_on_a_new_one(
    transport: Http1Transport,
) -> None:
    with closing(Raw([[OK, b""], [OK]])) as server:
        assert [ask(transport, server.url) for _ in range(2)] == [(200, b"ok")] * 2
        assert (server.connections, len(server.requests)) == (2, 3)


def test_what_changes_something_is_not_sent_twice(transport: Http1Transport) -> None:
    with closing(Raw([[OK, b""], [OK]])) as server:
        ask(transport, server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            ask(transport, server.url, "PUT", content=b"x")
        assert len(server.requests) == 2


def test_an_answer_that_comes_before_all_was_sent_is_heard(transport: Http1Transport) -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with closing(Raw([[refusal]])) as server:
        pieces = (b"x" * 65536 for _ in range(1000))
        try:
            assert ask(transport, server.url, "PUT", content=pieces)[0] == 413
        except httpx.ReadError:
            pytest.skip("the reset came before the answer was read, which TCP allows")


def test_a_body_of_unknown_length_is_sent_in_chunks(transport: Http1Transport) -> None:
    with closing(Raw([[OK]])) as server:
        ask(transport, server.url, "POST", content=iter([b"ab", b"", b"c"]))
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in head
        assert body.startswith(b"2\r\nab\r\n")


def test_an_error_of_the_source_of_a_body_stays_what_it_is(transport: Http1Transport) -> None:
    def broken() -> Iterator[bytes]:
        yield b"ab"
        raise OSError("the disk is broken")

    with closing(Raw([[b""]])) as server, pytest.raises(OSError, match="the disk is broken"):
        ask(transport, server.url, "PUT", content=broken())


def test_a_header_with_a_line_break_is_not_sent(transport: Http1Transport) -> None:
    with closing(Raw([[OK]])) as server, pytest.raises(httpx.LocalProtocolError):
        ask(transport, server.url, headers={"X-A": "b\r\nX-C: d"})


def test_an_address_that_is_refused_is_sent_nothing(transport: Http1Transport) -> None:
    def refuse(address: str) -> None:
        raise PermissionError(address)

    with closing(Raw([[OK, OK]])) as server:
        timeout = dict.fromkeys(("connect", "read", "write"), 5.0)
        request = httpx.Request("GET", server.url, extensions={"timeout": timeout, "connected": refuse})
        with pytest.raises(PermissionError, match=r"127\.0\.0\.1"):
            transport.handle_request(request)
        assert server.requests == []
        assert ask(transport, server.url) == (200, b"ok")
        with pytest.raises(PermissionError, match=r"127\.0\.0\.1"):  # nor by the connection that is kept
            transport.handle_request(request)
        assert len(server.requests) == 1


def test_who_is_silent_is_waited_for_as_long_as_the_timeout_says(transport: Http1Transport) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        timeout = {"connect": 5.0, "read": 0.05, "write": 5.0}
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises(httpx.ReadTimeout):
            transport.handle_request(httpx.Request("GET", url, extensions={"timeout": timeout}))


def test_who_sends_a_byte_now_and_then_is_not_waited_for_longer(transport: Http1Transport) -> None:
    done = threading.Event()

    def drip(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with closing(sock), suppress(OSError):
            sock.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
            while not done.wait(0.02):
                sock.sendall(b"x")

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        timeout = {"connect": 5.0, "read": 0.2, "write": 5.0}
        with pytest.raises(httpx.ReadTimeout):
            transport.handle_request(httpx.Request("GET", url, extensions={"timeout": timeout}))
        done.set()


def test_nobody_there_is_a_connect_error(transport: Http1Transport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(httpx.ConnectError):
        ask(transport, f"http://127.0.0.1:{port}/")


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example", ".example"])
def test_a_host_that_is_no_name_is_a_connect_error(transport: Http1Transport, host: str) -> None:
    with pytest.raises(httpx.ConnectError):
        ask(transport, f"http://{host}/")
