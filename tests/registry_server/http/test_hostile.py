"""Requests that nobody means well with: whatever they hold, no 5xx, and no file outside of the store."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from registry_server.http.app import create_app
from registry_server.http.push.push_limits import PushLimits
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.registry_server.http.pushing import image
from tests.registry_server.store.images import layer, tag_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Scope

# `MIRRORFLOW_HOSTILE=100000` for a night of it.
EXAMPLES = int(os.environ.get("MIRRORFLOW_HOSTILE", "400"))
BLOB = b"a blob that is there"
BODY = image(layer(b"{}"), layer(BLOB))

digests = st.sampled_from(
    [
        *(Digest.of(content) for content in (BLOB, BODY, b"", b"absent")),
        *(Digest.of(content, "sha512") for content in (BLOB, BODY, b"", b"absent")),
        "sha256:", "sha256:../../etc/passwd", f"sha256:{'A' * 64}", f"md5:{'0' * 32}", f"sha256:{'0' * 63}\n",
    ]
)  # fmt: skip
nasty = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["..", ".", "%2e%2e", "..%2f..", "\x00", "a" * 300, "_r", "tags", "-", "%", "%zz", "é", "\\"]
    ),
)
segments = st.one_of(
    st.sampled_from(
        ["library", "a", "blobs", "uploads", "manifests", "tags", "list", "referrers", "_catalog", ""]
    ),
    nasty,
    digests,
)
names = st.one_of(st.sampled_from(["a", "library/a", "a/blobs/uploads", "nobody"]), nasty)
references = st.one_of(digests, st.sampled_from(["latest", "1.0", "sha256-abc"]), nasty)
sessions = st.one_of(st.sampled_from(["", "SESSION", "0" * 32]), nasty)
paths = st.one_of(
    st.builds("/v2/{}/manifests/{}".format, names, references),
    st.builds("/v2/{}/blobs/{}".format, names, references),
    st.builds("/v2/{}/blobs/uploads/{}".format, names, sessions),
    st.builds("/v2/{}/referrers/{}".format, names, references),
    st.builds("/v2/{}/tags/list".format, names),
    st.lists(segments, max_size=6).map(lambda parts: "/v2/" + "/".join(parts)),
    st.text(max_size=30),
)
numbers = st.one_of(st.integers(-10, 10**25).map(str), nasty)
queries = st.dictionaries(
    st.sampled_from(
        ["n", "last", "digest", "mount", "from", "tag", "digest-algorithm", "artifactType", "ns", "x"]
    ),
    st.one_of(numbers, digests, names, st.sampled_from(["sha512", "a/b+json"])),
    max_size=3,
)
values = st.one_of(
    numbers, digests.map('"{}"'.format), nasty,
    st.builds("{}-{}".format, numbers, numbers), st.builds("bytes={}-{}".format, numbers, numbers),
    st.sampled_from(
        ["*", "bytes=0-,5-", "chunked", "100-continue", "text/html", *sorted(media_types.MANIFESTS)]
    ),
)  # fmt: skip
headers = st.dictionaries(
    st.sampled_from(
        [
            "content-range",
            "range",
            "content-type",
            "if-match",
            "if-none-match",
            "if-range",
            "accept",
            "expect",
            "host",
        ]
    ),
    values,
    max_size=4,
)
bodies = st.one_of(
    st.sampled_from([b"", BLOB, BODY, b"{}", b"[", b"[" * 5000, b"\xff\xfe"]),
    st.just(b'{"schemaVersion":2,"manifests":[]}'),
    st.binary(max_size=200),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
            ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "subject"]
        ), inner, max_size=4),
        max_leaves=8,
    ).map(lambda document: str(document).replace("'", '"').encode(errors="replace")),
)  # fmt: skip
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])


class Caller:
    """Calls the application as the server would, without one."""

    def __init__(self, app: ASGIApp, runner: asyncio.Runner) -> None:
        self._app, self._runner = app, runner

    def __call__(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = MappingProxyType({}),
        headers: Mapping[str, str] = MappingProxyType({}),
        pieces: Sequence[bytes] = (),
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers, body."""
        return self._runner.run(self._call(_scope(method, path, query, headers), [*pieces] or [b""]))

    async def _call(self, scope: Scope, incoming: list[bytes]) -> tuple[int, dict[str, str], bytes]:
        sent: list[Message] = []

        async def receive() -> Message:
            if not incoming:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": incoming.pop(0), "more_body": bool(incoming)}

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        found = {key.decode().lower(): value.decode("latin-1") for key, value in sent[0]["headers"]}
        return sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:])


def _scope(method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Scope:
    text = "&".join(f"{key}={quote(value, errors='replace')}" for key, value in query.items())
    return {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode() if path.isascii() else quote(path, safe="/%").encode(),
        "query_string": text.encode(),
        "root_path": "",
        "headers": [(key.encode(), value.encode("latin-1", "replace")) for key, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 5000),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def store(folder: Path) -> Store:
    """With something in it to break."""
    store = Store.open(folder / "store", durability="none")
    tag_image(store.repository(RepositoryName("a")), "latest", BLOB)
    return store


@pytest.fixture(scope="module")
def call(store: Store) -> Iterator[Caller]:
    limits = PushLimits(spare_bytes=0, busy_seconds=0.1, client_sessions=10**6, sessions=10**6)
    with asyncio.Runner() as runner:
        yield Caller(create_app(store, writable=True, limits=limits), runner)


@dataclass(frozen=True)
class Hostile:
    """A request; its body comes in `parts` pieces. SESSION in its path becomes an upload that is there."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    parts: int = 1

    @property
    def pieces(self) -> list[bytes]:
        size = max(1, -(-len(self.body) // self.parts))
        return [self.body[start : start + size] for start in range(0, len(self.body), size)]


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(st.builds(Hostile, methods, paths, queries, headers, bodies, st.integers(1, 5)))
@example(
    Hostile("PUT", "/v2/a/manifests/x", {}, {"content-type": media_types.OCI_INDEX}, b'{"schemaVersion":2}')
)
@example(Hostile("POST", "/v2/a/blobs/uploads/", {"mount": Digest.of(BLOB), "from": "../../etc"}))
@example(Hostile("GET", "/v2/a/blobs/uploads/../../../../etc/passwd"))
@example(Hostile("PATCH", "/v2/a/blobs/uploads/SESSION", {}, {"content-range": "0-9"}, b"0123456789", 3))
@example(Hostile("PUT", "/v2/a/blobs/uploads/SESSION", {"digest": Digest.of(BLOB)}, {}, BLOB, 2))
def test_no_request_breaks_anything(call: Caller, hostile: Hostile) -> None:
    path = hostile.path
    if "SESSION" in path:
        status, found, _ = call("POST", "/v2/a/blobs/uploads/")
        assert status == 202
        path = path.replace("SESSION", found["location"].rpartition("/")[2])
    status, found, answer = call(hostile.method, path, hostile.query, hostile.headers, hostile.pieces)
    assert 200 <= status < 500, (status, answer)
    if status >= 400 and hostile.method != "HEAD":
        assert answer.startswith(b'{"errors":')
    assert "\n" not in "".join(found.values())


def test_and_afterwards_all_is_well(call: Caller, store: Store, folder: Path) -> None:
    """What got in is what its digest says, every tag is whole, and nothing was written beside the store."""
    assert call("GET", "/v2/")[0] == 200
    _check(store)
    assert [each.name for each in folder.iterdir()] == ["store"]
    known = {"blobs", "incoming", "locks", "repos", "staging", "uploads", "format.json"}
    assert {each.name for each in store.root.iterdir()} <= known
    assert list((store.root / "staging").iterdir()) == []


def _check(store: Store) -> None:
    for path in (store.root / "blobs").glob("*/*/*"):
        assert Digest.of(path.read_bytes(), path.parts[-3]).hex == path.name
    for name in store.repositories():
        for tag, record in store.repository(name).tag_records().items():
            assert store.repository(name).read_manifest(tag)[0].digest == record.digest
