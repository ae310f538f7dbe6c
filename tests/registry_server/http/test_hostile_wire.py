"""Hostile bytes over a socket, where a server parses them: no 5xx, and the next one is served."""

from __future__ import annotations

import os
import re
import socket
from select import select
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry_server.http.push.push_limits import PushLimits
from registry_server.oci.digest import Digest
from tests.registry_server.http.pushing import push_image
from tests.support.registries import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.registries import Registry

# A tenth of those that test_hostile.py sends to the application itself.
EXAMPLES = int(os.environ.get("MIRRORFLOW_HOSTILE", "400")) // 10
BLOB = b"a blob that is there"
LAST = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
PATIENCE = 0.05  # seconds

anything = st.binary(max_size=30)
methods = st.sampled_from([b"GET", b"HEAD", b"PUT", b"POST", b"PATCH", b"DELETE", b"CONNECT", b"PRI", b"get"])
paths = [
    b"/v2/", b"*", b"http://elsewhere/v2/", b"//v2/", b"/v2/a/tags/list", b"/v2/../etc/passwd",
    b"/v2/a/manifests/latest", f"/v2/a/blobs/{Digest.of(BLOB)}".encode(), b"/v2/a/blobs/uploads/",
    b"/v2/a/manifests/" + b"x" * 9000, b"/v2/%2e%2e/%2e%2e/etc/passwd", b"/metrics", b"/readyz?x=%ff",
]  # fmt: skip
targets = st.one_of(st.sampled_from(paths), anything.map(lambda text: b"/v2/" + text), anything)
versions = st.sampled_from([b"HTTP/1.1"] * 9 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b""])
known = [
    b"Host", b"Range", b"Content-Range", b"Content-Length", b"Transfer-Encoding", b"Expect", b"Connection",
    b"Content-Type", b"If-Match", b"If-None-Match", b"Authorization", b"X-Request-Id", b"Upgrade",
]  # fmt: skip
names = st.sampled_from([*known, b"X y", b"", b"\xff", b"X-Any"])
said = [
    b"a", b"bytes=0-5", b"bytes=5-", b"bytes=" + b"0-," * 2000, b"chunked", b"gzip, chunked", b"identity",
    b"0", b"5", b"99999999999999999999", b"-1", b"100-continue", b"close", b"h2c", b"Basic \xff", b"\x00",
    b"x" * 70_000,
]  # fmt: skip
values = st.one_of(st.sampled_from(said), anything)
headers = st.lists(st.tuples(names, values), max_size=5).map(
    lambda pairs: b"".join(b"%s: %s\r\n" % pair for pair in pairs)
)
bodies = st.one_of(st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffff\r\n"]), anything)
nearly = st.builds(
    lambda method, target, version, head, body: b"%s %s %s\r\nHost: a\r\n%s\r\n%s"
    % (method, target, version, head, body),
    methods, targets, versions, headers, bodies,
)  # fmt: skip
requests = st.one_of(
    nearly, nearly, nearly,
    st.binary(max_size=200),
    st.binary(max_size=60).map(lambda text: b"\x16\x03\x01" + text),  # TLS, where there is none
)  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("hostile")
    limits = PushLimits(spare_bytes=0, client_sessions=10**6, sessions=10**6)
    with running_registry(folder, writable=True, limits=limits, header_timeout=1.0) as found:
        push_image(found.client, "latest", BLOB)
        yield found
        # Whatever was deleted, as anybody may here: the next one is served.
        body = push_image(found.client, "afterwards", BLOB)
        assert found.client.get("/v2/a/manifests/afterwards").content == body
        assert {each.name for each in folder.iterdir()} == {"store", "access.log"}


def _answer(registry: Registry, request: bytes) -> bytes:
    """What came back until the server closed, which a last request asks it to.

    If it takes that for a part of the first one, it waits for more, and is told that there is none.
    """
    host, _, port = registry.host.partition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            connection.sendall(request + LAST)
            if not select([connection], [], [], PATIENCE)[0]:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except TimeoutError:
            raise
        except OSError:  # closed before it had read everything
            pass
    return answer


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(requests)
def test_no_bytes_break_the_server(registry: Registry, request_bytes: bytes) -> None:
    statuses = re.findall(rb"^HTTP/1\.[01] (\d{3})", _answer(registry, request_bytes), re.MULTILINE)
    assert not [status for status in statuses if status.startswith(b"5")], statuses
