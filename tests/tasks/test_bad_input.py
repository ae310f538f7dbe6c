"""Whatever one repository does wrong: its neighbour is published, and one sentence says what was wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName
from tasks.results.outcomes import Outcome
from tests.support_behaviours import answers, hangs, hangs_in_body, reset_in_body, resets, says, truncated
from tests.support_misbehaving import well_behaved
from tests.tasks.runs import add_document, add_index, assert_complete, mirror, opened, rows, sync, visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support_misbehaving import Image, Misbehaving

LAYER = b"the layer of the sick image " * 100
SICK = "apps/sick"
# A longer wait would show nothing more: each is seconds.
SHORT: dict[str, Any] = {"responseHeaderTimeout": "300ms", "readTimeout": "300ms", "connectTimeout": "1s"}


@dataclass
class Ward:
    """The upstream, and the image in it that will be made sick."""

    upstream: Misbehaving
    image: Image

    @property
    def by_tag(self) -> str:
        return f"/v2/{SICK}/manifests/1.0"

    @property
    def by_digest(self) -> str:
        return f"/v2/{SICK}/manifests/{self.image.manifest.digest}"

    @property
    def layer(self) -> str:
        return f"/v2/{SICK}/blobs/{self.image.layers[0].digest}"

    def manifest(self, body: bytes, media_type: str = media_types.OCI_MANIFEST) -> None:
        """Another manifest under the same tag."""
        self.upstream.add_manifest(SICK, "1.0", body, media_type)

    def document(self, **changes: Any) -> None:
        self.manifest(json.dumps(json.loads(self.image.body) | changes).encode())

    def layer_descriptor(self, **changes: Any) -> None:
        self.document(layers=[self.image.layers[0].to_json() | changes])


def wrong_child(ward: Ward) -> None:
    """An index that calls an image an index."""
    child = ward.image.manifest.to_json() | {"mediaType": media_types.DOCKER_LIST}
    add_document(ward.upstream, SICK, "1.0", media_types.OCI_INDEX, manifests=[child])


def wrong_child_size(ward: Ward) -> None:
    child = ward.image.manifest
    add_index(ward.upstream, SICK, "1.0", Descriptor(child.media_type, child.digest, child.size + 1))


def duplicate_keys(ward: Ward) -> None:
    body = ward.image.body.decode().replace('"layers"', '"layers": [], "layers"', 1)
    ward.manifest(body.encode())


def another_manifest(ward: Ward) -> None:
    body = ward.image.body + b" "
    ward.upstream.on(ward.by_digest, answers(200, body, Content_Type=media_types.OCI_MANIFEST))


def missing_child(ward: Ward) -> None:
    child = Descriptor(media_types.OCI_MANIFEST, Digest.of(b"nowhere"), 7)
    add_index(ward.upstream, SICK, "1.0", child)


def gone_manifest(ward: Ward) -> None:
    ward.upstream.on(ward.by_digest, answers(404))
    ward.upstream.on(ward.by_tag, well_behaved, answers(404))


def deep(ward: Ward) -> None:
    child = ward.image.manifest
    for number in range(18):
        child = add_index(ward.upstream, SICK, f"sha-{number}", child)
        ward.upstream.repositories[SICK].tags.remove(f"sha-{number}")
    media_type, body = ward.upstream.repositories[SICK].manifests[child.digest]
    ward.manifest(body, media_type)


def on(path: str, behaviour: Any) -> Callable[[Ward], None]:
    return lambda ward: ward.upstream.on(getattr(ward, path), behaviour)


WRONG = bytes(len(LAYER))
CASES: list[tuple[str, Callable[[Ward], None], str]] = [
    ("a HEAD that is refused", on("by_tag", answers(401)), "401 Unauthorized"),
    ("a HEAD that is forbidden", on("by_tag", answers(403)), "403 Forbidden"),
    ("a tag that is listed but gone", on("by_tag", answers(404)), "404 Not Found"),
    ("a HEAD over the limit", on("by_tag", answers(429)), "429 Too Many Requests"),
    ("a HEAD that breaks the registry", on("by_tag", answers(500)), "500 Internal Server Error"),
    ("a HEAD during maintenance", on("by_tag", answers(503)), "503 Service Unavailable"),
    ("a HEAD that hangs", on("by_tag", hangs), "0.3 s (responseHeaderTimeout)"),
    ("a HEAD that is reset", on("by_tag", resets), "connection"),
    ("a manifest that is gone", gone_manifest, "404 Not Found"),
    ("a manifest that is forbidden", on("by_digest", says(403, "DENIED", "pay first")), "DENIED: pay first"),
    ("a manifest that hangs", on("by_digest", hangs), "0.3 s (responseHeaderTimeout)"),
    ("a manifest of 5 MiB", on("by_digest", answers(200, b" " * (5 << 20))), "more than 4194304 bytes"),
    ("a manifest with another digest", another_manifest, "expected content with digest sha256:"),
    ("a manifest that is not JSON", lambda ward: ward.manifest(b"{"), "JSON"),
    ("a manifest with duplicate keys", duplicate_keys, "layers"),
    ("a manifest that is a list", lambda ward: ward.manifest(b"[]"), "list"),
    ("a child that is not of the type its index says", wrong_child, "announced as"),
    ("a child that has not the size its index says", wrong_child_size, "bytes, got"),
    ("a child that is not there", missing_child, "404 Not Found"),
    ("indexes nested eighteen deep", deep, "deeper than 16"),
    ("a layer that is gone", on("layer", answers(404)), "404 Not Found"),
    ("a layer that is forbidden", on("layer", answers(403)), "403 Forbidden"),
    ("a layer that breaks the registry", on("layer", answers(500, b"oops")), "500 Internal"),
    ("a layer with another digest", on("layer", answers(200, WRONG)), "expected content with digest sha256:"),
    ("a layer that is too long", on("layer", answers(200, LAYER + b"!")), "expected 2800 bytes, got 2801"),
    ("a layer that is too short", on("layer", answers(200, LAYER[1:])), "expected 2800 bytes, got 2799"),
    ("a layer that is cut off each time", on("layer", truncated(LAYER, 0)), "connection"),
    ("a layer that is reset each time", on("layer", reset_in_body(LAYER, 0)), "connection"),
    ("a layer that hangs", on("layer", hangs_in_body(LAYER, 9)), "0.3 s (readTimeout)"),
    (
        "a layer whose descriptor has the wrong size",
        lambda ward: ward.layer_descriptor(size=len(LAYER) - 1),
        "expected 2799 bytes, got 2800",
    ),
    ("a layer without a digest", lambda ward: ward.layer_descriptor(digest="../../etc"), "layers[0].digest"),
    ("a layer of a negative size", lambda ward: ward.layer_descriptor(size=-1), "layers[0].size"),
]


@pytest.fixture
def ward(upstream: Misbehaving) -> Ward:
    # The name of one neighbour sorts before that of the sick one, and the other's after it.
    for neighbour in ("apps/a-neighbour", "apps/z-neighbour"):
        upstream.add_image(neighbour, "1.0", (b"shared by the neighbours", neighbour.encode()))
    return Ward(upstream, upstream.add_image(SICK, "1.0", (LAYER,)))


@pytest.mark.parametrize(("sicken", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_sick_image_is_reported_and_its_neighbours_are_published(
    ward: Ward, tmp_path: Path, sicken: Callable[[Ward], None], words: str
) -> None:
    sicken(ward)
    with opened(tmp_path, f"http://{ward.upstream.host}", **SHORT) as run:
        report = mirror(run)
        assert visible(run.store) == ["apps/a-neighbour:1.0", "apps/z-neighbour:1.0"]
        for name in visible(run.store):
            assert_complete(run.store, name)
        assert not run.store.repository(RepositoryName(SICK)).exists
        poll = run.store.repository(RepositoryName(SICK)).poll("registry1")
    row = rows(report)[f"{SICK}:1.0"]
    assert row.outcome is Outcome.FAILED
    assert words in row.reason
    assert re.search(rf"{re.escape(ward.upstream.host)}: {SICK}(:1\.0|@sha256:[0-9a-f]{{64}}): ", row.reason)
    assert row.reason.count(ward.upstream.host) == 1, "one sentence, not the same place twice"
    assert row.reason.isprintable()
    assert report.message == "2 of 3 images, 1 failed"
    assert poll is not None
    assert poll.problems == {"1.0": row.reason}


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        (answers(401), "401 Unauthorized"),
        (answers(500), "500 Internal Server Error"),
        (answers(200, b"<html>", Content_Type="text/html"), ""),
        (hangs, "0.3 s (responseHeaderTimeout)"),
    ],
    ids=["refused", "broken", "a web page", "hung"],
)
def test_a_repository_whose_tags_cannot_be_listed_leaves_its_neighbours_alone(
    ward: Ward, tmp_path: Path, behaviour: Any, words: str
) -> None:
    ward.upstream.on(f"/v2/{SICK}/tags/list", behaviour)
    report = sync(tmp_path, ward.upstream, **SHORT)
    [problem] = report.problems
    assert problem.startswith(f"{ward.upstream.host}: {SICK}: ")
    assert words in problem
    assert problem.count(SICK) == 1
    assert report.in_place == 2
    assert not report.complete


def test_what_was_sick_is_brought_in_by_the_next_run_and_nothing_else_is_fetched_again(
    ward: Ward, tmp_path: Path
) -> None:
    ward.upstream.on(ward.layer, answers(200, WRONG))
    sync(tmp_path, ward.upstream)
    ward.upstream.on(ward.layer, well_behaved)
    ward.upstream.seen.clear()
    report = sync(tmp_path, ward.upstream)
    assert report.message == "3 of 3 images"
    assert [str(each) for each in ward.upstream.requests("GET", "blobs")] == [f"GET {ward.layer}"]
    assert ward.upstream.requests("GET", "manifests") == []


def test_names_that_nobody_can_ask_for_are_told_and_nothing_is_asked_under_them(
    ward: Ward, tmp_path: Path
) -> None:
    for name in ("apps/../../etc", "Apps/Upper"):
        ward.upstream.repositories[name] = ward.upstream.repositories[SICK]
    ward.upstream.repositories[SICK].tags += ["../../etc/passwd", "-dash"]
    report = sync(tmp_path, ward.upstream)
    [note] = report.notes
    assert note == (
        f"{ward.upstream.host}: its catalog has 2 names that are no repository's by distribution-spec: "
        "'Apps/Upper', 'apps/../../etc'"
    )
    assert report.message == "3 of 3 images"
    assert ward.upstream.requests(path="etc") == ward.upstream.requests(path="Upper") == []
