"""Blobs on their way into a registry: by every kind of registry, over connections that break."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import DigestMismatch
from tasks.upstream.errors import UpstreamDenied, UpstreamProtocolError, UpstreamUnavailable, Where
from tasks.upstream.login.credentials import NoCredentials
from tasks.upstream.options import PlainUrl, UpstreamOptions
from tasks.upstream.push.registry import PushRegistry
from tests.support.cutting_proxy import cutting_proxy
from tests.support.push_registries import distribution_3, docker_registry, our_own, stand_in, zot
from tests.support.push_target import push_target
from tests.support.registry_answers import HARBOR_QUOTA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.upstream.blob import BlobSink

MIB = 1024 * 1024
BIG = os.urandom(5 * MIB + 17)


def blob_of(content: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", Digest.of(content), len(content))


class Source:
    """Writes content into a sink from its offset on, as an upstream with Range does. `read` counts bytes."""

    def __init__(self, content: bytes, *, ranges: bool = True) -> None:
        self.content, self.ranges, self.read = content, ranges, 0

    def __call__(self, sink: BlobSink) -> None:
        if sink.offset and not self.ranges:
            sink.restart()
        for start in range(sink.offset, len(self.content), 256 * 1024):
            piece = self.content[start : start + 256 * 1024]
            self.read += len(piece)
            sink.write(memoryview(piece))


@contextmanager
def pushing(url: str, **more: Any) -> Iterator[PushRegistry]:
    """Waits that pass at once."""
    scheme, _, host = url.partition("://")
    options = UpstreamOptions(urls=(PlainUrl(scheme, host),), read_timeout=10)
    with PushRegistry(options, NoCredentials(), sleep=lambda _: None, **more) as registry:
        yield registry


KINDS = [
    pytest.param(our_own, id="our own server"),
    pytest.param(stand_in, id="the stand-in"),
    pytest.param(docker_registry, id="docker-registry 2.8"),
    pytest.param(distribution_3, id="distribution 3"),
    pytest.param(zot, id="zot"),
]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Every kind of registry."""
    with request.param(tmp_path) as found:
        yield found


@pytest.mark.parametrize("chunk", [None, MIB + 5], ids=["in one request", "in chunks"])
@pytest.mark.parametrize("content", [b"", b"{}", BIG], ids=["no byte", "from memory", "as a stream"])
def test_a_blob_arrives_as_it_is(url: str, content: bytes, chunk: int | None) -> None:
    blob = blob_of(content)
    with pushing(url, chunk=chunk) as registry:
        registry.upload("a/b", blob, Source(content))
        assert registry.has_blob("a/b", blob.digest)
        received = bytearray()
        registry.blob("a/b", blob, Collected(received))
    assert received == content


class Collected:
    """A sink in memory."""

    def __init__(self, into: bytearray) -> None:
        self._into = into

    @property
    def offset(self) -> int:
        return len(self._into)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._into += data

    def restart(self) -> None:
        self._into.clear()


def test_a_blob_is_mounted_from_another_repository(url: str) -> None:
    blob, source = blob_of(BIG), Source(BIG)
    with pushing(url) as registry:
        registry.upload("a/b", blob, Source(BIG))
        registry.upload("c/d", blob, source, mount_from="a/b")
        assert registry.has_blob("c/d", blob.digest)
    assert source.read == 0


@pytest.mark.parametrize("chunk", [None, 2 * MIB], ids=["in one request", "in chunks"])
def test_a_connection_that_breaks_twice_is_gone_on_with(url: str, chunk: int | None) -> None:
    """docker-registry 2.8 and zot forget an upload that is cut, so there it begins anew."""
    with cutting_proxy(url, MIB + 7, MIB) as proxy, pushing(proxy.url, chunk=chunk) as registry:
        registry.upload("a/b", blob_of(BIG), Source(BIG))
        received = bytearray()
        registry.blob("a/b", blob_of(BIG), Collected(received))
        assert not proxy.cuts
    assert received == BIG


@pytest.mark.parametrize(
    ("kind", "chunk"),
    [
        pytest.param(our_own, MIB, id="our own server, which keeps whole requests"),
        pytest.param(distribution_3, None, id="distribution 3"),
    ],
)
def test_a_real_registry_gets_no_byte_twice_that_it_has(tmp_path: Path, kind: Any, chunk: int | None) -> None:
    with (
        kind(tmp_path) as url,
        cutting_proxy(url, 2 * MIB) as proxy,
        pushing(proxy.url, chunk=chunk) as registry,
    ):
        registry.upload("a/b", blob_of(BIG), Source(BIG))
        assert registry.requests()["GET upload"] == 1
        assert proxy.sent < len(BIG) + MIB + 64 * 1024  # a chunk, or what was in buffers; and the heads


def test_a_mount_from_the_same_repository_asks_whether_the_blob_is_there(url: str) -> None:
    blob, source = blob_of(BIG), Source(BIG)
    with pushing(url) as registry:
        assert registry.upload("a/b", blob, Source(BIG), mount_from="a/b")
        assert not registry.upload("a/b", blob, source, mount_from="a/b")
        assert registry.has_blob("a/b", blob.digest)
    assert source.read == 0


@pytest.mark.parametrize(
    ("refusal", "posts"),
    [
        pytest.param({"mounts": False}, 1, id="it opens an upload instead"),
        pytest.param({"mounts": False, "refuses_mounts": True}, 2, id="it refuses the request"),
    ],
)
def test_where_mounting_is_refused_the_blob_is_sent(refusal: dict[str, Any], posts: int) -> None:
    blob, source = blob_of(BIG), Source(BIG)
    with push_target(**refusal) as target, pushing(target.url) as registry:
        assert registry.upload("c/d", blob, source, mount_from="a/b")
        assert target.counts() == {"POST uploads": posts, "PUT uploads": 1}
    assert target.blobs["c/d"][blob.digest] == BIG


@pytest.mark.parametrize("chunk", [None, 2 * MIB], ids=["in one request", "in chunks"])
def test_a_cut_upload_goes_on_where_the_registry_is(chunk: int | None) -> None:
    source = Source(BIG)
    with push_target(cuts=[MIB + 3, MIB // 2]) as target, pushing(target.url, chunk=chunk) as registry:
        registry.upload("a/b", blob_of(BIG), source)
    assert target.blobs["a/b"][Digest.of(BIG)] == BIG
    assert target.received["a/b"] == len(BIG)  # no byte that the registry had was sent again


def test_a_source_without_ranges_is_read_again_and_not_sent_again() -> None:
    source = Source(BIG, ranges=False)
    with push_target(cuts=[2 * MIB]) as target, pushing(target.url) as registry:
        registry.upload("a/b", blob_of(BIG), source)
    assert target.blobs["a/b"][Digest.of(BIG)] == BIG
    assert target.received["a/b"] == len(BIG)


def test_a_registry_that_forgets_the_upload_gets_the_blob_anew() -> None:
    with push_target(cuts=[2 * MIB], forgets=True) as target, pushing(target.url) as registry:
        registry.upload("a/b", blob_of(BIG), Source(BIG))
    assert target.blobs["a/b"][Digest.of(BIG)] == BIG
    assert target.received["a/b"] == len(BIG) + 2 * MIB


def test_a_blob_whose_confirmation_was_lost_is_not_sent_again() -> None:
    with push_target(lose_answers=1) as target, pushing(target.url) as registry:
        registry.upload("a/b", blob_of(BIG), Source(BIG))
    assert target.received["a/b"] == len(BIG)


def test_connections_that_break_without_progress_end_in_an_error() -> None:
    with push_target(cuts=[0] * 9) as target, pushing(target.url) as registry:
        with pytest.raises(UpstreamUnavailable, match="a/b@sha256"):
            registry.upload("a/b", blob_of(BIG), Source(BIG))
        assert 0 < len(target.cuts) < 9


def test_wrong_bytes_never_become_a_blob() -> None:
    wrong = BIG[:-1] + bytes([BIG[-1] ^ 1])
    with push_target() as target, pushing(target.url) as registry:
        with pytest.raises(DigestMismatch):
            registry.upload("a/b", blob_of(BIG), Source(wrong))
        assert not target.blobs["a/b"]
        assert not target.uploads  # it was told that nothing follows
    assert target.received["a/b"] < len(BIG)


def test_an_upload_whose_source_broke_goes_on_in_the_next_call() -> None:
    class Broken(Source):
        def __call__(self, sink: BlobSink) -> None:
            sink.write(BIG[: 3 * MIB])
            raise UpstreamUnavailable(Where("upstream"), "gone")

    with push_target() as target, pushing(target.url, chunk=MIB) as registry:
        with pytest.raises(UpstreamUnavailable, match="upstream"):
            registry.upload("a/b", blob_of(BIG), Broken(BIG))
        source = Source(BIG)
        registry.upload("a/b", blob_of(BIG), source)
    assert target.received["a/b"] == len(BIG)


def test_a_quota_is_told_in_the_words_of_the_registry_and_once() -> None:
    with push_target(quota=HARBOR_QUOTA) as target, pushing(target.url) as registry:
        with pytest.raises(UpstreamDenied, match=r"DENIED.*upper limit of 10\.0 MiB"):
            registry.upload("a/b", blob_of(BIG), Source(BIG))
        assert target.counts()["PUT uploads"] == 1


@pytest.mark.parametrize("content", [b"{}", BIG], ids=["from memory", "as a stream"])
def test_a_token_that_expires_in_mid_push_is_renewed(content: bytes) -> None:
    class Slow(Source):
        def __call__(self, sink: BlobSink) -> None:
            if len(target.scopes) == 1:
                target.expire()  # after the upload was opened
            super().__call__(sink)

    with push_target(tokens=True) as target, pushing(target.url) as registry:
        registry.upload("a/b", blob_of(content), Slow(content))
    assert target.blobs["a/b"][Digest.of(content)] == content
    assert set(target.scopes) == {"repository:a/b:pull,push"}


def test_a_mount_asks_for_a_token_that_may_read_the_other_repository() -> None:
    with push_target(tokens=True) as target, pushing(target.url) as registry:
        registry.upload("a/b", blob_of(b"{}"), Source(b"{}"))
        registry.upload("c/d", blob_of(b"{}"), Source(b"{}"), mount_from="a/b")
    assert target.scopes[-2:] == ["repository:c/d:pull,push", "repository:a/b:pull"]


def test_memory_does_not_grow_with_the_blob() -> None:
    """96 MiB pass through a process of its own, which may grow by 24."""
    with push_target() as target:
        code = f"""
import resource, hashlib
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from tests.tasks.upstream.push.test_uploads import pushing, MIB
piece, count = b"x" * MIB, 96
made = hashlib.sha256()
for _ in range(count): made.update(piece)
blob = Descriptor("a/b", Digest("sha256:" + made.hexdigest()), count * MIB)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def feed(sink):
    for _ in range(count): sink.write(piece)
with pushing({target.url!r}) as registry: registry.upload("a/b", blob, feed)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 24 * 1024  # KiB


@pytest.mark.parametrize(
    ("least", "requests"),
    [
        pytest.param("", 6, id="none"),
        pytest.param(str(4 * MIB), 2, id="larger than the profile's"),
        pytest.param("9" * 5000, 6, id="a number that nobody means"),
        pytest.param("-1", 6, id="no number"),
    ],
)
def test_chunks_are_as_large_as_the_registry_wants_them(least: str, requests: int) -> None:
    with push_target(least=least) as target, pushing(target.url, chunk=MIB) as registry:
        registry.upload("a/b", blob_of(BIG), Source(BIG))
        assert target.blobs["a/b"] == {Digest.of(BIG): BIG}
        assert [method for method, _, _ in target.seen].count("PATCH") == requests


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"no index", id="no JSON"),
        pytest.param(b"[" * 100_000, id="nested without an end"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'{"config": {}, "layers": []}', id="an image"),
    ],
)
def test_what_is_no_list_of_referrers_is_not_replaced(body: bytes) -> None:
    """distribution-spec "Pushing Manifests with Subject": a failure is to be reported."""
    subject = Digest.of(b"image")
    with push_target(lists_referrers=False) as target, pushing(target.url) as registry:
        target.manifests["a/b"][fallback_tag(subject)] = (media_types.OCI_INDEX, body)
        with pytest.raises(UpstreamProtocolError, match="no list of referrers"):
            registry.list_referrer("a/b", subject, blob_of(b"a referrer"))
        assert target.manifests["a/b"] == {fallback_tag(subject): (media_types.OCI_INDEX, body)}
