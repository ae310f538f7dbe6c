"""The tree of manifests under one digest: each asked for once, whatever shape it has."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.errors import ContentError
from registry_server.oci.manifest import MAX_MANIFEST_BYTES, Manifest
from registry_server.oci.reference import RepositoryName, Tag
from tasks.manifests.manifest_tree import MAX_DEPTH, MAX_MANIFESTS, plan_image, walk
from tasks.run.errors import WrongContent
from tasks.run.values import Image, ImagePlan
from tasks.upstream.errors import Stopped
from tests.support.stored_files import file_of
from tests.tasks.runs import add_document, add_index, assert_complete, mirror, opened, sync
from tests.tasks.things import LAYER_TYPE, image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.context.mirror_run import MirrorRun
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
BUILDKIT_CONFIG = "application/vnd.buildkit.cacheconfig.v0"


def the_image(run: MirrorRun, tag: str = "1.25", **more: Any) -> Image:
    head = run.upstream.head(NAME, tag)
    return Image(NAME, RepositoryName(NAME), Tag(tag), head.digest, head.media_type, **more)


def plan(folder: Path, upstream: Misbehaving, tag: str = "1.25") -> ImagePlan:
    with opened(folder, f"http://{upstream.host}") as run:
        return plan_image(run, the_image(run, tag))


def gets(upstream: Misbehaving) -> list[str]:
    """Digests in the order in which they were asked for."""
    return [each.path.rpartition("/")[2] for each in upstream.requests("GET", "/manifests/")]


def test_children_come_before_what_refers_to_them(upstream: Misbehaving, tmp_path: Path) -> None:
    images = [upstream.add_image(NAME, f"i{number}", (b"layer%d" % number,)) for number in range(3)]
    inner = add_index(upstream, NAME, "inner", images[1].manifest, images[2].manifest)
    outer = add_index(upstream, NAME, "1.25", images[0].manifest, inner)
    found = plan(tmp_path, upstream)
    order = [images[0].manifest, images[1].manifest, images[2].manifest, inner, outer]
    assert found.manifests == tuple(order)
    assert found.root == outer
    assert {each.digest for each in found.blobs} == {
        each.digest for image in images for each in (image.config, *image.layers)
    }
    assert found.sparse == ()


def test_a_child_that_is_reached_on_many_ways_is_read_once(upstream: Misbehaving, tmp_path: Path) -> None:
    """Each index lists the one below twice: walked without a memory, that is 2^14 reads."""
    child = upstream.add_image(NAME, "leaf").manifest
    for number in range(MAX_DEPTH - 2):
        child = add_index(upstream, NAME, f"n{number}", child, child)
    media_type, body = upstream.repositories[NAME].manifests[child.digest]
    upstream.add_manifest(NAME, "1.25", body, media_type)
    assert len(plan(tmp_path, upstream).manifests) == MAX_DEPTH - 1
    assert len(gets(upstream)) == len(set(gets(upstream))) == MAX_DEPTH - 1


@pytest.mark.parametrize(("levels", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_a_tree_may_be_deep_but_not_without_an_end(
    upstream: Misbehaving,
    tmp_path: Path,
    levels: int,
    fits: bool,  # noqa: FBT001 - a column of the table
) -> None:
    child = upstream.add_image(NAME, "leaf").manifest
    for number in range(levels):
        child = add_index(upstream, NAME, "1.25" if number == levels - 1 else f"n{number}", child)
    if fits:
        assert len(plan(tmp_path, upstream).manifests) == levels + 1
        return
    with pytest.raises(WrongContent, match=r"nginx:1\.25: the tree of manifests is deeper than 16"):
        plan(tmp_path, upstream)


class Endless:
    """A source in which every index has a thousand children that nobody has seen before."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, descriptor: Descriptor) -> Manifest:
        self.reads += 1
        kind = (
            media_types.OCI_INDEX if descriptor.media_type == media_types.OCI_INDEX else descriptor.media_type
        )
        children = tuple(
            Descriptor(
                media_types.OCI_MANIFEST if number else media_types.OCI_INDEX,
                Digest.of(f"{descriptor.digest}{number}".encode()),
                2,
            )
            for number in range(1000 if kind == media_types.OCI_INDEX else 0)
        )
        return Manifest(b"{}", kind, manifests=children)

    peek = read


def test_a_tree_may_be_wide_but_not_without_an_end(upstream: Misbehaving, tmp_path: Path) -> None:
    source = Endless()
    root = image(f"{NAME}:1.25", media_type=media_types.OCI_INDEX)
    with (
        opened(tmp_path, f"http://{upstream.host}") as run,
        pytest.raises(WrongContent, match=r"nginx:1\.25: .* or has more than 4096 manifests"),
    ):
        walk(run, root, source)
    assert source.reads <= MAX_MANIFESTS + MAX_DEPTH


def test_an_entry_of_a_buildkit_cache_is_a_blob_and_not_asked_for_as_a_manifest(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    layers = [upstream.add_blob(NAME, content, LAYER_TYPE) for content in (b"one", b"two")]
    config = upstream.add_blob(NAME, b'{"layers": []}', BUILDKIT_CONFIG)
    add_index(upstream, NAME, "1.25", *layers, config)
    found = plan(tmp_path, upstream)
    assert {each.digest for each in found.blobs} == {each.digest for each in (*layers, config)}
    assert len(gets(upstream)) == 1
    report = sync(tmp_path, upstream)
    assert report.complete
    with opened(tmp_path, f"http://{upstream.host}") as run:
        assert_complete(run.store, f"{NAME}:1.25")


@pytest.mark.parametrize("kind", ["blob", "manifest", "a JSON blob that looks like a broken manifest"])
def test_an_entry_of_a_type_that_nobody_knows_is_kept_as_what_it_turns_out_to_be(
    upstream: Misbehaving, tmp_path: Path, kind: str
) -> None:
    unknown = "application/vnd.example.thing+json"
    if kind == "manifest":
        layer = upstream.add_blob(NAME, b"below", LAYER_TYPE)
        document = {"schemaVersion": 2, "mediaType": unknown, "layers": [layer.to_json()]}
        entry = upstream.add_manifest(NAME, "thing", json.dumps(document).encode(), unknown)
    else:
        content = b'{"manifests": 7}' if "JSON" in kind else b"anything"
        entry = upstream.add_blob(NAME, content, unknown)
        if "JSON" in kind:
            upstream.add_manifest(NAME, "thing", content, unknown)
    add_index(upstream, NAME, "1.25", entry, entry)
    found = plan(tmp_path, upstream)
    assert (entry.digest in {each.digest for each in found.manifests}) is (kind == "manifest")
    assert len(found.blobs) == 1
    report = sync(tmp_path, upstream, only=[f"{NAME}:1.25"])
    assert report.complete, report.images


def test_what_is_wrong_below_an_entry_of_unknown_type_is_not_taken_for_a_blob(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """It is an index all right; that its child is broken must not make it a blob without children."""
    broken = upstream.add_manifest(NAME, "broken", b"{}", media_types.OCI_MANIFEST)
    unknown = "application/vnd.example.index+json"
    document = {"schemaVersion": 2, "mediaType": unknown, "manifests": [broken.to_json()]}
    entry = upstream.add_manifest(NAME, "thing", json.dumps(document).encode(), unknown)
    add_index(upstream, NAME, "1.25", entry)
    with pytest.raises(WrongContent, match=f"nginx@{broken.digest}: "):
        plan(tmp_path, upstream)


def test_foreign_layers_are_not_fetched_wherever_they_are_listed(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    config = upstream.add_blob(NAME, b"{}", media_types.OCI_CONFIG)
    foreign = Descriptor(
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest.of(b"elsewhere"), 9
    )
    made = add_document(
        upstream, NAME, "i", media_types.OCI_MANIFEST, config=config.to_json(), layers=[foreign.to_json()]
    )
    add_index(upstream, NAME, "1.25", made, foreign)
    assert [each.digest for each in plan(tmp_path, upstream).blobs] == [config.digest]
    assert sync(tmp_path, upstream).complete


@contextmanager
def together(run: MirrorRun, images: list[Image]) -> Iterator[list[ImagePlan]]:
    with ThreadPoolExecutor(len(images)) as pool:
        yield list(pool.map(lambda image: plan_image(run, image), images))


def test_each_manifest_is_asked_for_once_a_run_however_many_images_share_it_at_the_same_time(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    shared = [upstream.add_image(NAME, f"s{number}", (b"%d" % number,)).manifest for number in range(4)]
    for number in range(8):
        add_index(upstream, NAME, f"t{number}", *shared, annotations={"n": str(number)})
    with opened(tmp_path, f"http://{upstream.host}") as run:
        images = [the_image(run, f"t{number}") for number in range(8)]
        with together(run, images) as plans:
            assert all(len(plan.manifests) == 5 for plan in plans)
    assert len(gets(upstream)) == len(set(gets(upstream))) == 12


def test_what_another_image_brought_is_not_asked_for_again(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(NAME, "1.25")
    sync(tmp_path, upstream)
    upstream.seen.clear()
    plan(tmp_path, upstream)
    assert gets(upstream) == []


def test_a_manifest_that_was_damaged_in_the_store_is_fetched_again(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    digest = upstream.add_image(NAME, "1.25").manifest.digest
    sync(tmp_path, upstream)
    with opened(tmp_path, f"http://{upstream.host}") as run:
        path = file_of(run.store.repository(RepositoryName(NAME)), digest)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes().replace(b"2", b"3", 1))
        plan_image(run, the_image(run))
        assert Digest.of(path.read_bytes()) == digest


def test_a_manifest_that_was_removed_from_the_store_is_fetched_again_by_the_next_run(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    digest = upstream.add_image(NAME, "1.25").manifest.digest
    sync(tmp_path, upstream)
    with opened(tmp_path, f"http://{upstream.host}") as run:
        file_of(run.store.repository(RepositoryName(NAME)), digest).unlink()
        assert mirror(run).message == "1 of 1 images"
        assert_complete(run.store, f"{NAME}:1.25")


def test_a_layer_in_the_pool_is_never_read_into_memory_as_a_manifest(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """An index that calls a huge layer a manifest, after another image brought that layer."""
    content = bytes(MAX_MANIFEST_BYTES + 1)
    upstream.add_image(NAME, "big", (content,))
    sync(tmp_path, upstream)
    add_index(upstream, NAME, "1.25", Descriptor(media_types.OCI_MANIFEST, Digest.of(content), len(content)))
    report = sync(tmp_path, upstream)
    [row] = report.images
    assert "404 Not Found" in row.reason


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"a":' * 50_000, "cannot be read as JSON"),
        (b'{"schemaVersion": 2, "schemaVersion": 2}', "schemaVersion"),
        (b"\xff\xfe", "UTF-8"),
        (b"", ""),
        (b'{"schemaVersion": 2, "manifests": [], "layers": []}', "must not have the key 'layers'"),
    ],
    ids=["nested without an end", "a key twice", "not UTF-8", "empty", "image and index at once"],
)
def test_what_two_readers_would_read_differently_is_refused_and_not_stored(
    upstream: Misbehaving, tmp_path: Path, body: bytes, words: str
) -> None:
    digest = upstream.add_manifest(NAME, "1.25", body, "application/json").digest
    with opened(tmp_path, f"http://{upstream.host}") as run:
        with pytest.raises(ContentError, match=f"{upstream.host}: {NAME}:1.25: .*{words}"):
            plan_image(run, the_image(run))
        assert not run.store.repository(RepositoryName(NAME)).pool_holds(digest)


def test_a_stop_is_noticed_between_two_manifests(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image(NAME, "1.25")
    with opened(tmp_path, f"http://{upstream.host}") as run:
        image = the_image(run)
        run.stop.set()
        with pytest.raises(Stopped):
            plan_image(run, image)
    assert gets(upstream) == []
