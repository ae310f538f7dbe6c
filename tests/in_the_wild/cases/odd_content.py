"""Content that is not quite as the specifications have it, and that clients take."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Final

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor, Platform
from registry_server.oci.digest import Digest
from tests.in_the_wild.cases.rows import Row
from tests.support_misbehaving import answers, json_answer, says, well_behaved
from tests.tasks.runs import add_document, add_index

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support_misbehaving import Exchange, Misbehaving

APP: Final = "library/app"
TAG: Final = f"/v2/{APP}/manifests/1"
TAGS: Final = f"/v2/{APP}/tags/list"
NEIGHBOUR: Final = "library/neighbour"
ONE: Final = (f"{APP}:1",)
DESCRIPTOR: Final = "image-spec: descriptor.md"
DOCKER: Final = media_types.DOCKER_MANIFEST
PULLING: Final = "distribution-spec: Pulling manifests"
OCTETS: Final = "application/octet-stream"


def served_as(media_type: str) -> Callable[[Misbehaving], object]:
    def arrange(upstream: Misbehaving) -> None:
        body = upstream.add_image(APP, "1").body
        upstream.add_manifest(APP, "1", body, media_type)

    return arrange


def _index_served_as(media_type: str) -> Callable[[Misbehaving], object]:
    def arrange(upstream: Misbehaving) -> None:
        child = upstream.add_image(APP, "child").manifest
        add_index(upstream, APP, "1", child)
        upstream.add_manifest(APP, "1", upstream.repositories[APP].manifests["1"][1], media_type)
        upstream.repositories[APP].tags.remove("child")

    return arrange


def child_called(media_type: str | None) -> Callable[[Misbehaving], object]:
    """An index that gives its only child this type."""

    def arrange(upstream: Misbehaving) -> None:
        child = upstream.add_image(APP, "child").manifest.to_json()
        upstream.repositories[APP].tags.remove("child")
        entry = {key: value for key, value in child.items() if key != "mediaType"}
        more = {} if media_type is None else {"mediaType": media_type}
        add_document(upstream, APP, "1", media_types.OCI_INDEX, manifests=[entry | more])

    return arrange


def _untyped_layer(upstream: Misbehaving) -> None:
    config = upstream.add_blob(APP, b"{}", media_types.OCI_CONFIG)
    layer = upstream.add_blob(APP, b"layer").to_json() | {"mediaType": ""}
    add_document(upstream, APP, "1", media_types.OCI_MANIFEST, config=config.to_json(), layers=[layer])


def _untyped_manifest(upstream: Misbehaving) -> None:
    document = json.loads(upstream.add_image(APP, "1").body) | {"mediaType": ""}
    upstream.add_manifest(APP, "1", json.dumps(document).encode(), media_types.OCI_MANIFEST)


def _compressed(exchange: Exchange) -> None:
    """A proxy that compresses whatever it passes on."""
    if exchange.seen.method == "HEAD" or "/manifests/" not in exchange.seen.path:
        well_behaved(exchange)
        return
    media_type, body = exchange.upstream.repositories[APP].manifests[exchange.seen.path.rpartition("/")[2]]
    headers = {"Content-Type": media_type, "Docker-Content-Digest": Digest.of(body)}
    exchange.answer(200, gzip.compress(body), headers | {"Content-Encoding": "gzip"})


def _behind_a_compressing_proxy(upstream: Misbehaving) -> None:
    layer = b"a layer that shrinks " * 9
    image = upstream.add_image(APP, "1", (layer,))
    for reference in ("1", image.manifest.digest):
        upstream.on(f"/v2/{APP}/manifests/{reference}", _compressed)
    tags = gzip.compress(json.dumps({"tags": ["1"]}).encode())
    upstream.on(TAGS, answers(200, tags, Content_Encoding="gzip"))
    blob = gzip.compress(layer)
    upstream.on(f"/v2/{APP}/blobs/{Digest.of(layer)}", answers(200, blob, Content_Encoding="x-gzip"))


def by_tag_only(upstream: Misbehaving) -> None:
    image = upstream.add_image(APP, "1")
    missing = says(404, "MANIFEST_UNKNOWN", "not by digest")
    upstream.on(f"/v2/{APP}/manifests/{image.manifest.digest}", missing)


def _no_digests_at_all(upstream: Misbehaving) -> None:
    image = upstream.add_image(APP, "1")
    upstream.on(f"/v2/{APP}/manifests/{image.manifest.digest}", answers(405))
    upstream.on(TAG, answers(200, image.body, Content_Type=media_types.OCI_MANIFEST))


def moved(upstream: Misbehaving) -> None:
    """Between the HEAD and the GET, and what it named is gone."""
    before = upstream.add_image(APP, "1", (b"before",))
    headers = {"Content-Type": media_types.OCI_MANIFEST, "Docker-Content-Digest": before.manifest.digest}
    upstream.on(TAG, lambda exchange: exchange.answer(200, before.body, headers), well_behaved)
    upstream.add_image(APP, "1", (b"after",))
    del upstream.repositories[APP].manifests[before.manifest.digest]


def moves_all_the_time(upstream: Misbehaving) -> None:
    """Each HEAD says another digest, and each is gone."""
    upstream.add_image(APP, "1")
    number = 0

    def behave(exchange: Exchange) -> None:
        nonlocal number
        number += 1
        document = json.loads(upstream.repositories[APP].manifests["1"][1]) | {
            "annotations": {"n": f"{number}"}
        }
        body = json.dumps(document).encode()
        headers = {"Content-Type": media_types.OCI_MANIFEST, "Docker-Content-Digest": Digest.of(body)}
        exchange.answer(200, body, headers)

    upstream.on(TAG, behave)


def _empty_in_the_catalog(upstream: Misbehaving) -> None:
    upstream.add_image(NEIGHBOUR, "1")
    upstream.add_image(APP, "1")
    upstream.on(TAGS, says(404, "NAME_UNKNOWN", "repository name not known to registry"))


def _no_names_in_the_catalog(upstream: Misbehaving) -> None:
    upstream.add_image(APP, "1")
    upstream.on("/v2/_catalog", json_answer({"repositories": [APP, "Upper/Case", "a/../b"]}))


def _schema1_in_a_list(upstream: Misbehaving) -> None:
    upstream.add_image(NEIGHBOUR, "1")
    old = json.dumps({"schemaVersion": 1, "name": APP, "tag": "1", "fsLayers": [], "history": []}).encode()
    child = upstream.add_manifest(APP, "old", old, media_types.DOCKER_SCHEMA1_SIGNED)
    upstream.repositories[APP].tags.remove("old")
    entry = Descriptor(
        media_types.DOCKER_SCHEMA1, child.digest, child.size, platform=Platform("linux", "386")
    )
    add_index(upstream, APP, "1", upstream.add_image(APP, "new").manifest, entry)
    upstream.repositories[APP].tags.remove("new")


ROWS: Final = (
    Row("a manifest of no known type", "harbor 7853", served_as(OCTETS), ONE),
    Row("a manifest from an object store", "harbor 7853", served_as("binary/octet-stream"), ONE),
    Row(
        "an index of no known type",
        "harbor 7853",
        _index_served_as(OCTETS),
        ONE,
    ),
    Row(
        "an OCI image that is announced as Docker's",
        "skopeo 2057",
        served_as(DOCKER),
        ONE,
    ),
    Row(
        "an image that is announced as an index",
        "CVE-2021-41190",
        served_as(media_types.OCI_INDEX),
        failed={f"{APP}:1": "announced as"},
    ),
    Row(
        "a child that its list calls Docker's",
        "skopeo 2057",
        child_called(DOCKER),
        ONE,
    ),
    Row("a child without a type", DESCRIPTOR, child_called(None), ONE),
    Row(
        "a child with an empty type",
        DESCRIPTOR,
        child_called(""),
        ONE,
    ),
    Row(
        "a child of no known type",
        "harbor 7853",
        child_called(OCTETS),
        ONE,
    ),
    Row(
        "a child that its list calls an index",
        "CVE-2021-41190",
        child_called(media_types.OCI_INDEX),
        failed={f"{APP}:1": "announced as"},
    ),
    Row("a layer with an empty type", DESCRIPTOR, _untyped_layer, ONE),
    Row(
        "a manifest with an empty type",
        "image-spec: manifest.md",
        _untyped_manifest,
        ONE,
    ),
    Row(
        "a proxy that compresses manifests, lists and layers unasked",
        "moby 17595, quay 1310",
        _behind_a_compressing_proxy,
        ONE,
    ),
    Row(
        "manifests by tag only",
        PULLING,
        by_tag_only,
        ONE,
    ),
    Row(
        "a registry that knows no digests",
        "distribution 3848",
        _no_digests_at_all,
        ONE,
    ),
    Row(
        "a tag that moved after it was looked at, and what it named is gone",
        PULLING,
        moved,
        ONE,
    ),
    Row(
        "a tag that moves whenever it is looked at",
        PULLING,
        moves_all_the_time,
        ONE,
    ),
    Row(
        "a repository in the catalog whose last tag was deleted",
        "distribution 4324, harbor 22242",
        _empty_in_the_catalog,
        (f"{NEIGHBOUR}:1",),
        notes=(f"its catalog has {APP}, which is not there",),
    ),
    Row(
        "a repository that the profile names, and that is not there",
        "distribution 4324",
        _empty_in_the_catalog,
        (f"{NEIGHBOUR}:1",),
        problem="404 Not Found",
        content=({"prefix": APP}, {"prefix": NEIGHBOUR}),
    ),
    Row(
        "names in a catalog that are no names",
        PULLING,
        _no_names_in_the_catalog,
        ONE,
        notes=("its catalog has 2 names that are no repository's .*'Upper/Case', 'a/../b'",),
    ),
    Row(
        "a list with an image in Docker's schema 1 format",
        "docker.com: image manifest version 2, schema 1",
        _schema1_in_a_list,
        (f"{NEIGHBOUR}:1",),
    ),
)
