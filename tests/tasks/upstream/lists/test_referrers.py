"""What refers to an image, from registries with the referrers API and from those without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.companion_tags import fallback_tag
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_INDEX, OCI_MANIFEST
from tasks.upstream.errors import UpstreamDenied, UpstreamProtocolError
from tests.support_misbehaving import Misbehaving, answers
from tests.tasks.upstream.clients import client

if TYPE_CHECKING:
    from tests.support.registries import Registry

SUBJECT = Digest.of(b"an image")
FOUND = Digest.of(b"a signature")
ENTRY = {"mediaType": OCI_MANIFEST, "digest": FOUND, "size": 11, "artifactType": "application/x-signature"}
LIST = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [ENTRY]}).encode()
API = f"/v2/app/referrers/{SUBJECT}"


def test_the_api_is_asked_first(sample_upstream: Registry) -> None:
    upstream = type("Upstream", (), {"host": sample_upstream.host})
    with client(upstream) as registry:  # type: ignore[arg-type] # it has a host
        found = {
            tag: registry.referrers("apps/web", registry.head("apps/web", tag).digest)
            for tag in ("v2.0.0", "v1.2.3")
        }
    assert [each.artifact_type for each in found["v2.0.0"]] == ["application/spdx+json"]
    assert found["v1.2.3"] == []
    assert sample_upstream.requests.counts()["GET referrers"] == len(found)


@pytest.mark.parametrize("status", [400, 404, 405, 406])
def test_without_the_api_the_fallback_tag_has_the_list(upstream: Misbehaving, status: int) -> None:
    upstream.on(API, answers(status))
    upstream.add_manifest("app", fallback_tag(SUBJECT), LIST, OCI_INDEX)
    with client(upstream) as registry:
        found = registry.referrers("app", SUBJECT)
    assert [(each.digest, each.artifact_type) for each in found] == [(FOUND, "application/x-signature")]


def test_no_api_and_no_fallback_tag_mean_that_nothing_refers(upstream: Misbehaving) -> None:
    upstream.on(API, answers(404))
    with client(upstream) as registry:
        assert registry.referrers("app", SUBJECT) == []


def test_pages_are_followed(upstream: Misbehaving) -> None:
    other = LIST.replace(FOUND.encode(), Digest.of(b"another").encode())
    link = f"<{API}?page=2>; rel=next"
    upstream.on(API, answers(200, LIST, Content_Type=OCI_INDEX, Link=link), answers(200, other))
    with client(upstream) as registry:
        assert [each.digest for each in registry.referrers("app", SUBJECT)] == [FOUND, Digest.of(b"another")]


def test_a_page_without_a_referrer_is_not_the_end(upstream: Misbehaving) -> None:
    nothing = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    upstream.on(
        API,
        answers(200, nothing, Content_Type=OCI_INDEX, Link=f"<{API}?page=2>; rel=next"),
        answers(200, LIST, Content_Type=OCI_INDEX),
    )
    with client(upstream) as registry:
        assert [each.digest for each in registry.referrers("app", SUBJECT)] == [FOUND]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_refused_second_page_does_not_mean_that_there_is_no_api(upstream: Misbehaving, status: int) -> None:
    link = f"<{API}?page=2>; rel=next"
    upstream.on(API, answers(200, LIST, Content_Type=OCI_INDEX, Link=link), answers(status))
    with (
        client(upstream) as registry,
        pytest.raises(UpstreamProtocolError, match=f"page 2 of its list of referrers: {status}"),
    ):
        registry.referrers("app", SUBJECT)


def test_a_refused_list_is_an_error_and_never_an_empty_one(upstream: Misbehaving) -> None:
    upstream.on(API, answers(403))
    with client(upstream) as registry, pytest.raises(UpstreamDenied):
        registry.referrers("app", SUBJECT)


def test_a_list_that_is_none_is_an_error(upstream: Misbehaving) -> None:
    upstream.on(API, answers(200, b"{}", Content_Type=OCI_INDEX))
    with (
        client(upstream) as registry,
        pytest.raises(UpstreamProtocolError, match="list of referrers is none"),
    ):
        registry.referrers("app", SUBJECT)
