"""A broken neighbour of a good signature is a note on that neighbour; a network that fails is an error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.media_types import DOCKER_SCHEMA1, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST
from tasks.results.outcomes import Outcome
from tests.support_misbehaving import answers, misbehaving
from tests.tasks.runs import mirror, opened, rows
from tests.tasks.test_verifying import OURS, policy, sign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def entry(content: bytes, **more: Any) -> dict[str, Any]:
    return {
        "mediaType": OCI_MANIFEST,
        "digest": Digest.of(content),
        "size": len(content),
        "artifactType": BUNDLE,
    } | more


def artifact(layer: dict[str, Any], subject: Digest) -> bytes:
    config = {"mediaType": OCI_EMPTY, "digest": Digest.of(b"{}"), "size": 2}
    referred = {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1}
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": BUNDLE, "config": config}
    return json.dumps(document | {"layers": [layer], "subject": referred}).encode()


def serve(upstream: Misbehaving, body: bytes, status: int = 200, media_type: str = OCI_MANIFEST) -> None:
    upstream.on(f"/v2/app/manifests/{Digest.of(body)}", answers(status, body, **{"Content-Type": media_type}))


def wrong_size(upstream: Misbehaving, _: Digest) -> dict[str, Any]:
    serve(upstream, b"{}")
    return entry(b"{}", size=3)


def too_large(_: Misbehaving, __: Digest) -> dict[str, Any]:
    return entry(b"{}", size=2**40)


def other_bytes(upstream: Misbehaving, _: Digest) -> dict[str, Any]:
    upstream.on(
        f"/v2/app/manifests/{Digest.of(b'this')}", answers(200, b"that", **{"Content-Type": OCI_MANIFEST})
    )
    return entry(b"this")


def unknown_algorithm(_: Misbehaving, __: Digest) -> dict[str, Any]:
    return entry(b"{}", digest="blake3:" + "0" * 64)


def no_descriptor(_: Misbehaving, __: Digest) -> dict[str, Any]:
    return {"mediaType": 7}


def schema_1(upstream: Misbehaving, _: Digest) -> dict[str, Any]:
    body = json.dumps({"schemaVersion": 1, "fsLayers": [], "history": []}).encode()
    serve(upstream, body, media_type=DOCKER_SCHEMA1)
    return entry(body, mediaType=DOCKER_SCHEMA1)


def no_manifest(upstream: Misbehaving, _: Digest) -> dict[str, Any]:
    serve(upstream, b"<html>")
    return entry(b"<html>")


def not_there(upstream: Misbehaving, _: Digest) -> dict[str, Any]:
    serve(upstream, b"gone", status=404)
    return entry(b"gone")


def layer_of_other_bytes(upstream: Misbehaving, image: Digest) -> dict[str, Any]:
    upstream.on(f"/v2/app/blobs/{Digest.of(b'this')}", answers(200, b"that"))
    body = artifact({"mediaType": BUNDLE, "digest": Digest.of(b"this"), "size": 4}, image)
    serve(upstream, body)
    return entry(body)


def layer_not_there(upstream: Misbehaving, image: Digest) -> dict[str, Any]:
    body = artifact({"mediaType": BUNDLE, "digest": Digest.of(b"gone"), "size": 4}, image)
    serve(upstream, body)
    return entry(body)


def layer_of_an_unknown_algorithm(upstream: Misbehaving, image: Digest) -> dict[str, Any]:
    body = artifact({"mediaType": BUNDLE, "digest": "blake3:" + "0" * 64, "size": 4}, image)
    serve(upstream, body)
    return entry(body)


NEIGHBOURS = (
    wrong_size,
    too_large,
    other_bytes,
    unknown_algorithm,
    no_descriptor,
    schema_1,
    no_manifest,
    not_there,
    layer_of_other_bytes,
    layer_not_there,
    layer_of_an_unknown_algorithm,
)


def lists(upstream: Misbehaving, image: Digest, *found: dict[str, Any], api: bool) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": found}).encode()
    if api:
        upstream.on(f"/v2/app/referrers/{image}", answers(200, body, **{"Content-Type": OCI_INDEX}))
    else:
        upstream.add_manifest("app", f"sha256-{image.hex}", body, OCI_INDEX)


@pytest.mark.parametrize("api", [True, False], ids=["referrers API", "fallback tag"])
@pytest.mark.parametrize("neighbour", NEIGHBOURS, ids=lambda neighbour: neighbour.__name__)
def test_an_image_with_a_good_signature_comes_whatever_stands_beside_it(
    upstream: Misbehaving,
    tmp_path: Path,
    neighbour: Callable[[Misbehaving, Digest], dict[str, Any]],
    *,
    api: bool,
) -> None:
    image = upstream.add_image("app", "v1").manifest.digest
    sign(upstream, image, OURS)
    lists(upstream, image, neighbour(upstream, image), api=api)
    with opened(tmp_path, f"http://{upstream.host}", more=policy(upstream)) as run:
        report = mirror(run)
    row = rows(report)["app:v1"]
    assert row.outcome is Outcome.COPIED, row.reason
    assert row.verdict.startswith("verified")
    assert not [each for each in row.companions if each["outcome"] == "failed"]


@pytest.mark.parametrize("status", [403, 429, 500, 503])
def test_a_signature_that_cannot_be_asked_for_is_an_error_and_not_unsigned(
    upstream: Misbehaving, tmp_path: Path, status: int
) -> None:
    image = upstream.add_image("app", "v1").manifest.digest
    sign(upstream, image, OURS)
    upstream.on(f"/v2/app/manifests/sha256-{image.hex}.sig", answers(status))
    with opened(tmp_path, f"http://{upstream.host}", more=policy(upstream)) as run:
        report = mirror(run)
    row = rows(report)["app:v1"]
    assert row.outcome is Outcome.FAILED
    assert "no signature" not in row.reason
