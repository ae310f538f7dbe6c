"""One clear error for each thing that an upstream can do wrong, naming registry, repository and reference."""

from __future__ import annotations

import gzip
import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError, ManifestInvalid
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, parse_manifest
from tasks.upstream.errors import (
    UpstreamContentError,
    UpstreamDenied,
    UpstreamError,
    UpstreamLimited,
    UpstreamNotFound,
    UpstreamProtocolError,
    UpstreamSchema1,
    UpstreamUnavailable,
)
from tests.support_behaviours import answers, endless, hangs, hangs_in_body, resets, says
from tests.support_misbehaving import well_behaved
from tests.tasks.upstream.clients import FakeTime, RealTime, client

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Behaviour, Misbehaving

NAME = "library/nginx"
TAG = f"/v2/{NAME}/manifests/1.25"
BIG = b"0123456789abcdef" * 4 * 65536 * 2 + b"end"  # 8 MiB and a bit: the fast path
SHORT: dict[str, Any] = {"response_header_timeout": 0.2, "read_timeout": 0.2, "connect_timeout": 0.2}


@pytest.mark.parametrize(
    ("behaviour", "kind", "message"),
    [
        (says(401, "UNAUTHORIZED", "no"), UpstreamDenied, "401 Unauthorized: UNAUTHORIZED: no"),
        (says(403, "DENIED", "not you"), UpstreamDenied, "403 Forbidden: DENIED: not you"),
        (
            says(404, "MANIFEST_UNKNOWN", "gone"),
            UpstreamNotFound,
            "404 Not Found: MANIFEST_UNKNOWN: gone",
        ),
        (
            says(429, "TOOMANYREQUESTS", "slow"),
            UpstreamLimited,
            "429 Too Many Requests: TOOMANYREQUESTS",
        ),
        (answers(500, b"oops"), UpstreamUnavailable, "500 Internal Server Error: oops"),
        (answers(503), UpstreamUnavailable, "503 Service Unavailable"),
        (answers(418, b"tea"), UpstreamProtocolError, "418 I'm a Teapot: tea"),
        (answers(299 + 700), UpstreamUnavailable, "999"),
        (answers(302), UpstreamProtocolError, "302 Found"),
        (
            answers(503, b"\x1b[31mred\nand <b>"),
            UpstreamUnavailable,
            "503 Service Unavailable: [31mred and",
        ),
        (answers(503, b"<html>", Content_Type="text/html"), UpstreamUnavailable, "Service Unavailable"),
        (answers(503, b"x" * 2_000_000), UpstreamUnavailable, "x" * 300 + "…"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)[:20]),
)
def test_a_status_becomes_one_error(
    upstream: Misbehaving, behaviour: Behaviour, kind: type[UpstreamError], message: str
) -> None:
    upstream.on(TAG, behaviour)
    with client(upstream) as registry, pytest.raises(UpstreamError) as caught:
        registry.manifest(NAME, "1.25")
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"{upstream.host}: library/nginx:1.25: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        (answers(200, b" " * (5 << 20)), f"the manifest has more than {MAX_MANIFEST_BYTES} bytes"),
        (endless(), f"the manifest has more than {MAX_MANIFEST_BYTES} bytes"),
        (endless(Content_Length="10"), ""),
        (answers(200, b"{}", Content_Encoding="br"), "Content-Encoding 'br'"),
        (answers(200, b"{}", Content_Encoding="gzip"), "it says that its answer is gzip, and it is not"),
        (answers(200, gzip.compress(b"{}")[:-9], Content_Encoding="gzip"), "ends too early"),
        (
            answers(200, gzip.compress(b" " * (5 << 20)), Content_Encoding="gzip"),
            f"the manifest has more than {MAX_MANIFEST_BYTES} bytes",
        ),
        (answers(200, b"<html>", Content_Type="text/html; charset=utf-8"), "answered with a web page"),
    ],
    ids=[
        "5 MiB",
        "endless",
        "endless after Content-Length",
        "brotli",
        "no gzip",
        "half of gzip",
        "bomb",
        "web page",
    ],
)
def test_a_manifest_that_is_none(upstream: Misbehaving, behaviour: Behaviour, message: str) -> None:
    upstream.on(TAG, behaviour)
    with client(upstream) as registry:
        if not message:
            assert len(registry.manifest(NAME, "1.25").body) == 10
            return
        with pytest.raises(UpstreamProtocolError, match=re.escape(message)) as caught:
            registry.manifest(NAME, "1.25")
    assert str(caught.value).startswith(f"{upstream.host}: library/nginx:1.25: ")


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{", media_types.OCI_MANIFEST, "is not JSON"),
        (b'{"schemaVersion": 2, "schemaVersion": 2}', media_types.OCI_MANIFEST, "stands twice"),
        (
            b'{"schemaVersion": 2, "manifests": []}',
            media_types.OCI_MANIFEST,
            "must not have the key 'manifests'",
        ),
        (b"\xff", media_types.OCI_MANIFEST, "not UTF-8"),
    ],
    ids=["broken", "duplicate keys", "an index in disguise", "binary"],
)
def test_what_is_in_a_manifest_is_judged_by_the_parser(
    upstream: Misbehaving, body: bytes, content_type: str, message: str
) -> None:
    upstream.on(TAG, answers(200, body, Content_Type=content_type))
    with client(upstream) as registry:
        fetched = registry.manifest(NAME, "1.25")
    with pytest.raises(ManifestInvalid, match=message):
        parse_manifest(fetched.body, fetched.media_type)


def test_the_type_in_the_descriptor_beats_the_content_type(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25")
    path = f"/v2/{NAME}/manifests/{image.manifest.digest}"
    upstream.on(path, answers(200, image.body, Content_Type=media_types.OCI_INDEX))
    with client(upstream) as registry:
        fetched = registry.manifest(NAME, image.manifest.digest, expected=image.manifest)
    assert fetched.media_type == media_types.OCI_MANIFEST


def test_a_manifest_of_another_digest_than_asked_for(upstream: Misbehaving) -> None:
    digest = Digest.of(b"wanted")
    lying = answers(200, b"{}", Content_Type=media_types.OCI_MANIFEST, Docker_Content_Digest=digest)
    upstream.on(f"/v2/{NAME}/manifests/{digest}", lying)
    with (
        client(upstream) as registry,
        pytest.raises(UpstreamContentError, match="expected content with") as caught,
    ):
        registry.manifest(NAME, digest)
    assert isinstance(caught.value, ContentError)
    assert not caught.value.retryable
    assert f"library/nginx@{digest}" in str(caught.value)


def test_a_manifest_of_another_digest_than_announced(upstream: Misbehaving) -> None:
    upstream.on(TAG, answers(200, b"{}", Docker_Content_Digest=Digest.of(b"other")))
    with client(upstream) as registry, pytest.raises(UpstreamContentError, match=Digest.of(b"other")):
        registry.manifest(NAME, "1.25")


def test_a_head_that_names_another_digest_than_asked_for(upstream: Misbehaving) -> None:
    digest = Digest.of(b"wanted")
    upstream.on(
        f"/v2/{NAME}/manifests/{digest}", answers(200, b"", Docker_Content_Digest=Digest.of(b"other"))
    )
    with client(upstream) as registry, pytest.raises(UpstreamContentError, match=Digest.of(b"other")):
        registry.head(NAME, digest)


def test_a_manifest_of_another_size_than_its_descriptor(upstream: Misbehaving) -> None:
    image = upstream.add_image(NAME, "1.25")
    wrong = Descriptor(image.manifest.media_type, image.manifest.digest, 7)
    with client(upstream) as registry, pytest.raises(UpstreamContentError, match="its descriptor promises 7"):
        registry.manifest(NAME, image.manifest.digest, expected=wrong)


def test_schema_1_is_told_apart(upstream: Misbehaving) -> None:
    body = json.dumps({"schemaVersion": 1, "fsLayers": []}).encode()
    upstream.on(
        TAG,
        answers(
            200,
            body,
            Content_Type=media_types.DOCKER_SCHEMA1_SIGNED,
            Docker_Content_Digest=Digest.of(b"of the payload"),
        ),
    )
    with client(upstream) as registry, pytest.raises(UpstreamSchema1, match="schema 1"):
        registry.manifest(NAME, "1.25")


@pytest.mark.parametrize(
    ("call", "path", "where"),
    [
        (lambda registry: registry.tags(NAME), f"/v2/{NAME}/tags/list", "library/nginx: "),
        (lambda registry: registry.manifest(NAME, "1.25"), TAG, "library/nginx:1.25: "),
        (lambda registry: list(registry.repositories()), "/v2/_catalog", ""),
    ],
    ids=["tags", "manifest", "catalog"],
)
def test_a_hung_upstream_is_given_up(
    upstream: Misbehaving, call: Callable[[object], object], path: str, where: str
) -> None:
    upstream.on(path, hangs)
    with client(upstream, time=RealTime(), **SHORT) as registry, pytest.raises(UpstreamUnavailable) as caught:
        call(registry)
    assert str(caught.value) == f"{upstream.host}: {where}no answer within 0.2 s (responseHeaderTimeout)"
    assert len(upstream.seen) == 1, "a second try would only wait again"


def test_the_wait_within_a_body_has_its_own_limit(upstream: Misbehaving) -> None:
    upstream.on(TAG, hangs_in_body(b"{}" * 100, at=10))
    timeouts: dict[str, Any] = {"response_header_timeout": 60.0, "read_timeout": 0.2}
    with (
        client(upstream, time=RealTime(), **timeouts) as registry,
        pytest.raises(UpstreamUnavailable, match=r"no byte for 0\.2 s \(readTimeout\)"),
    ):
        registry.manifest(NAME, "1.25")


def test_nobody_is_there(upstream: Misbehaving) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    host = f"127.0.0.1:{port}"
    gone = type("Gone", (), {"host": host})
    with client(gone) as registry, pytest.raises(UpstreamUnavailable) as caught:  # type: ignore[arg-type] # has a host
        registry.tags(NAME)
    assert str(caught.value) == (
        f"{host}: library/nginx: connection refused; check that it is running, and the port"
    )


def test_a_name_that_does_not_resolve() -> None:
    gone = type("Gone", (), {"host": "registry.invalid"})
    with client(gone) as registry, pytest.raises(UpstreamUnavailable, match="cannot be resolved"):  # type: ignore[arg-type] # has a host
        registry.tags(NAME)


@pytest.mark.parametrize(
    "behaviour", [answers(502), answers(503), answers(504), resets], ids=["502", "503", "504", "reset"]
)
def test_what_seconds_may_mend_is_tried_again(upstream: Misbehaving, behaviour: Behaviour) -> None:
    image = upstream.add_image(NAME, "1.25")
    upstream.on(TAG, behaviour, behaviour, well_behaved)
    time = FakeTime()
    with client(upstream, time=time) as registry:
        assert registry.manifest(NAME, "1.25").digest == image.manifest.digest
    assert time.slept == pytest.approx(1.2)


@pytest.mark.parametrize(
    "behaviour", [answers(500), answers(401), answers(404), answers(400)], ids=["500", "401", "404", "400"]
)
def test_what_seconds_do_not_mend_is_asked_once(upstream: Misbehaving, behaviour: Behaviour) -> None:
    upstream.on(TAG, behaviour)
    with client(upstream) as registry, pytest.raises(UpstreamError):
        registry.manifest(NAME, "1.25")
    assert len(upstream.requests(path="/manifests/")) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "is a JSON list; expected an object"),
        (b"{", "is not JSON"),
        (b'{"tags": "1.25"}', "`tags` is not a list of names"),
        (b'{"tags": [1]}', "`tags` is not a list of names"),
        (b"[" * 100_000, "is not JSON"),
    ],
    ids=["list", "broken", "text", "numbers", "deep"],
)
def test_a_list_that_is_none(upstream: Misbehaving, body: bytes, message: str) -> None:
    upstream.on(f"/v2/{NAME}/tags/list", answers(200, body))
    with client(upstream) as registry, pytest.raises(UpstreamProtocolError, match=re.escape(message)):
        registry.tags(NAME)


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_refused_catalog_says_what_to_write_instead(upstream: Misbehaving, status: int) -> None:
    upstream.on("/v2/_catalog", says(status, "UNSUPPORTED", "The operation is unsupported."))
    with client(upstream) as registry, pytest.raises(UpstreamError, match="name them literally") as caught:
        list(registry.repositories())
    assert caught.value.status == status
    assert "prefix: library/nginx" in str(caught.value)


def test_one_bad_tag_leaves_its_neighbours_alone(upstream: Misbehaving) -> None:
    good = upstream.add_image(NAME, "1.26")
    upstream.on(TAG, endless())
    with client(upstream) as registry:
        with pytest.raises(UpstreamProtocolError):
            registry.manifest(NAME, "1.25")
        assert registry.manifest(NAME, "1.26").digest == good.manifest.digest
