"""HEADs that are refused although there is something to GET."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from tests.in_the_wild.cases.rows import Row
from tests.support_behaviours import answers, get_only, redirects, well_behaved

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Exchange, Misbehaving

    Arrange = Callable[[Misbehaving], None]

APP: Final = "library/app"
MANIFEST: Final = f"/v2/{APP}/manifests/1"


def _refused(status: int) -> Arrange:
    def arrange(upstream: Misbehaving) -> None:
        upstream.add_image(APP, "1")
        upstream.on(MANIFEST, get_only(status))

    return arrange


def _presigned(upstream: Misbehaving) -> None:
    """An address that was signed for GET: object stores refuse any other method with 403."""
    image = upstream.add_image(APP, "1")
    upstream.on(MANIFEST, redirects("/bucket/manifest?X-Amz-Signature=abc"))

    def bucket(exchange: Exchange) -> None:
        head = exchange.seen.method == "HEAD"
        (answers(403) if head else answers(200, image.body, Content_Type=image.manifest.media_type))(exchange)

    upstream.on("/bucket/manifest", bucket)


def _gone(upstream: Misbehaving) -> None:
    upstream.add_image(APP, "1")
    upstream.add_image(APP, "2")
    upstream.on(MANIFEST, answers(404))


def _refused_while_it_lasts(upstream: Misbehaving) -> None:
    """More tags than HEADs are tried for."""
    for number in range(6):
        upstream.add_image(APP, str(number))
        upstream.on(f"/v2/{APP}/manifests/{number}", get_only(404))


def _answers_get_worse(upstream: Misbehaving) -> None:
    upstream.add_image(APP, "1")
    upstream.on(MANIFEST, answers(500), answers(403), well_behaved)


def _schema1(upstream: Misbehaving) -> None:
    """The digest of such a manifest does not cover its bytes, and is none that a GET can check."""
    upstream.add_image(APP, "2")
    body = b'{"schemaVersion": 1, "name": "library/app", "tag": "1", "fsLayers": [], "signatures": []}'
    upstream.add_manifest(APP, "1", body, media_types.DOCKER_SCHEMA1_SIGNED)
    for tag in ("1", "2"):
        upstream.on(f"/v2/{APP}/manifests/{tag}", get_only(405))


ROWS: Final = (
    *(
        Row(f"a registry that answers {status} to HEAD", source, _refused(status), mirrored=(f"{APP}:1",))
        for status, source in (
            (400, "carvel-dev/imgpkg 149"),
            (403, "crossplane/crossplane 3223"),
            (404, "nicholas-fedor/watchtower 669"),
            (405, "distribution/distribution 1485"),
            (406, "merll/docker-registry-util 3: Nexus"),
            (500, "carvel-dev/imgpkg 149"),
            (501, "RFC 9110, 15.6.2"),
            (502, "carvel-dev/imgpkg 149"),
        )
    ),
    Row(
        "a HEAD that is redirected to an address for GET alone",
        "go-containerregistry, remote.Head: errors should be retried with Get",
        _presigned,
        mirrored=(f"{APP}:1",),
    ),
    Row(
        "no HEAD for any of many tags",
        "nicholas-fedor/watchtower 667",
        _refused_while_it_lasts,
        mirrored=tuple(f"{APP}:{number}" for number in range(6)),
    ),
    Row(
        "an image in schema 1 at a registry without HEAD",
        "distribution/distribution 1485",
        _schema1,
        mirrored=(f"{APP}:2",),
    ),
    Row(
        "a tag that is listed and not there",
        "distribution-spec: Pulling manifests",
        _gone,
        mirrored=(f"{APP}:2",),
        failed={f"{APP}:1": "404 Not Found"},
    ),
    Row(
        "a HEAD that breaks and a GET that is forbidden",
        "distribution-spec: Pulling manifests",
        _answers_get_worse,
        failed={f"{APP}:1": "403 Forbidden"},
    ),
)
