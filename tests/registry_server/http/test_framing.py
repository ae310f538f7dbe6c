"""Where a request ends: whatever two parsers could read differently is refused, or is the last one.

Sent by hand, over one connection, with a second request in what one of the two would take for a body.
"""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import begin, finish
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registries import Registry

HIDDEN = "GET /v2/hidden/tags/list HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with running_registry(tmp_path_factory.mktemp("registry"), writable=True) as found:
        yield found


def _exchange(registry: Registry, request: str) -> tuple[list[int], bool]:
    """The statuses that came, and whether the server closed the connection."""
    host, _, port = registry.host.partition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request.encode("latin-1"))
        connection.settimeout(1)
        try:
            while piece := connection.recv(65536):
                answer += piece
            closed = True
        except TimeoutError:
            closed = False
        except ConnectionResetError:
            closed = True
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)], closed


def _upload(registry: Registry, head: str, body: str) -> tuple[list[int], bool]:
    path = begin(registry.client).removeprefix(registry.url)
    return _exchange(registry, f"PATCH {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}")


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("Content-Length: 0\r\nContent-Length: 5", f"hello{HIDDEN}"),
        ("Content-Length: 5\r\nContent-Length: 0", f"hello{HIDDEN}"),
        ("Content-Length: 5, 5", f"hello{HIDDEN}"),
        ("Content-Length: +5", f"hello{HIDDEN}"),
        ("Content-Length: -5", f"hello{HIDDEN}"),
        ("Content-Length: 0x5", f"hello{HIDDEN}"),
        ("Content-Length : 5", f"hello{HIDDEN}"),
        ("Content-Length:\r\n 5", f"hello{HIDDEN}"),
        ("Transfer-Encoding: identity", HIDDEN),
        ("Transfer-Encoding: xchunked", f"0\r\n\r\n{HIDDEN}"),
        ("Transfer-Encoding: \x0bchunked", f"0\r\n\r\n{HIDDEN}"),
        ("Transfer-Encoding : chunked", f"0\r\n\r\n{HIDDEN}"),
        ("Transfer-Encoding: chunked, identity", f"0\r\n\r\n{HIDDEN}"),
        # These end where one thinks; but their content would be stored as it was coded.
        ("Transfer-Encoding: gzip, chunked", f"0\r\n\r\n{HIDDEN}"),
        ("Transfer-Encoding: chunked, chunked", f"0\r\n\r\n{HIDDEN}"),
        (f"{CHUNKED}\r\n{CHUNKED}", f"0\r\n\r\n{HIDDEN}"),
        ("Host: b", HIDDEN),
        (CHUNKED, f"0x5\r\nhello\r\n0\r\n\r\n{HIDDEN}"),
        (CHUNKED, f"-5\r\nhello\r\n0\r\n\r\n{HIDDEN}"),
        (CHUNKED, f"5\r\nhelloX0\r\n\r\n{HIDDEN}"),
        (CHUNKED, f"ffffffffffffffff1\r\nhello\r\n0\r\n\r\n{HIDDEN}"),
    ],
)
def test_a_request_of_doubtful_length_is_refused_and_is_the_last_one(
    registry: Registry, head: str, body: str
) -> None:
    registry.requests.new()
    statuses, closed = _upload(registry, head, body)
    assert statuses == [400]
    assert closed
    assert "hidden" not in str(registry.requests.new())


@pytest.mark.parametrize(
    "head", [f"Content-Length: 5\r\n{CHUNKED}", f"{CHUNKED}\r\nContent-Length: 5"], ids=["before", "behind"]
)
def test_a_length_beside_chunks_hides_nothing(registry: Registry, head: str) -> None:
    """RFC 9112, 6.1: the chunks count, and the connection ends, so what is behind them is never read."""
    registry.requests.new()
    statuses, closed = _upload(registry, head, f"0\r\n\r\n{HIDDEN}")
    assert statuses == [202]
    assert closed
    assert "hidden" not in str(registry.requests.new())


def test_one_length_twice_is_one_length(registry: Registry) -> None:
    """RFC 9110, 8.6."""
    location = begin(registry.client)
    head = "Content-Length: 5\r\nContent-Length: 5"
    path = location.removeprefix(registry.url)
    assert _exchange(registry, f"PATCH {path} HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\nhello{HIDDEN}") == (
        [202, 404],
        False,
    )
    assert finish(registry.client, location, Digest.of(b"hello")).status_code == 201


def test_chunks_of_http_1_0_are_refused(registry: Registry) -> None:
    path = begin(registry.client).removeprefix(registry.url)
    statuses, closed = _exchange(
        registry, f"PATCH {path} HTTP/1.0\r\nHost: a\r\n{CHUNKED}\r\n\r\n0\r\n\r\n{HIDDEN}"
    )
    assert closed
    assert statuses in ([], [400])  # the answer is one of HTTP/1.0
