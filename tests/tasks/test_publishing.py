"""The tag comes last: what is visible is whole (invariant 1), whatever happens."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry_server.oci import media_types
from registry_server.oci.errors import NotFound
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tasks.copy_blob import copy_one
from tasks.pipeline import Batch
from tasks.publish_image.publish import publish
from tasks.results.outcomes import Outcome
from tasks.run.errors import BlobNotCopied
from tests.support_behaviours import answers, hangs
from tests.support_misbehaving import well_behaved
from tests.tasks.runs import (
    add_index,
    assert_complete,
    blob_path,
    made_ready,
    mirror,
    opened,
    rows,
    searched,
    sync,
    visible,
)

if TYPE_CHECKING:
    from registry_server.oci.digest import Digest
    from tests.support_misbehaving import Exchange, Misbehaving

NAME = "library/nginx"
ROOT = Path(__file__).parents[2]


def test_an_image_is_not_published_before_its_last_blob(upstream: Misbehaving, tmp_path: Path) -> None:
    layers = upstream.add_image(NAME, "1", (b"one", b"two")).layers
    with opened(tmp_path, f"http://{upstream.host}") as run:
        [progress] = made_ready(run).images
        for copy in progress.lacking:
            if copy.blob != layers[1]:
                copy_one(run, copy)
        upstream.on(blob_path(NAME, layers[1]), answers(404))
        with pytest.raises(BlobNotCopied, match="404 Not Found"):
            publish(run, progress, {})
        assert visible(run.store) == []
        with pytest.raises(NotFound):
            run.store.repository(RepositoryName(NAME)).find_manifest(progress.image.digest)
        assert not run.store.repository(RepositoryName(NAME)).exists


def test_a_moved_tag_shows_the_old_image_until_the_new_one_is_whole(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    old = upstream.add_image(NAME, "latest", (b"old",)).manifest
    sync(tmp_path, upstream)
    new = upstream.add_image(NAME, "latest", (b"new",))
    upstream.on(blob_path(NAME, new.layers[0]), answers(500))
    with opened(tmp_path, f"http://{upstream.host}") as run:
        mirror(run)
        repository = run.store.repository(RepositoryName(NAME))
        assert repository.find_manifest(Tag("latest")).descriptor.digest == old.digest
        assert_complete(run.store, f"{NAME}:latest")
        upstream.on(blob_path(NAME, new.layers[0]), well_behaved)
    assert sync(tmp_path, upstream).complete


def test_a_tag_remembers_where_it_came_from(upstream: Misbehaving, tmp_path: Path) -> None:
    digest = upstream.add_image(NAME, "1").manifest.digest
    rule = {"prefix": "library/*", "destination": "/mirror", "stripPrefix": True}
    with opened(tmp_path, f"http://{upstream.host}", rule) as run:
        mirror(run)
        record = run.store.repository(RepositoryName("mirror/nginx")).tag(Tag("1"))
    assert record is not None
    assert record.origin is not None
    assert (record.origin.registry, record.origin.repository) == ("registry1", NAME)
    assert record.origin.digest == record.digest == digest


def add_chain(upstream: Misbehaving) -> None:
    """Images that share layers, and indexes over them."""
    for tag in ("1", "2", "3"):
        made = upstream.add_image(NAME, tag, (b"base", tag.encode()))
        add_index(upstream, NAME, f"all-{tag}", made.manifest)


def test_at_any_moment_of_a_run_a_visible_tag_has_everything_below_it(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """Invariant 1, looked at by another process's eyes as often as there is time for."""
    add_chain(upstream)
    looks, broken, ended = 0, list[BaseException](), threading.Event()

    def look(store: Store) -> None:
        nonlocal looks
        try:
            while not ended.is_set():
                for name in visible(store):
                    assert_complete(store, name)
                    looks += 1
        except BaseException as error:  # noqa: BLE001 - told by the test, not by this thread
            broken.append(error)

    with opened(tmp_path, f"http://{upstream.host}") as run:
        found = searched(run)
        onlooker = threading.Thread(target=look, args=(Store.open(tmp_path / "store"),))
        onlooker.start()
        for each in found.images:
            Batch.of(run, [each.image]).bring_in()
        ended.set()
        onlooker.join()
        assert len(visible(run.store)) == 6
    assert broken == []
    assert looks > 0


def stall_at(upstream: Misbehaving, number: int) -> threading.Event:
    """From the `number`-th request on nobody gets an answer; set when that one is here."""
    reached, count = threading.Event(), len(upstream.seen) + number

    def behave(exchange: Exchange) -> None:
        if len(upstream.seen) < count:
            well_behaved(exchange)
            return
        reached.set()
        hangs(exchange)

    held = upstream.repositories[NAME]
    for kind, references in (("manifests", held.manifests), ("blobs", held.blobs)):
        for reference in references:
            upstream.on(f"/v2/{NAME}/{kind}/{reference}", behave)
    return reached


def test_whenever_a_run_is_killed_nothing_is_visible_that_is_not_whole(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """Killed while it reads manifests, and while it copies blobs: at a request, not at a time."""
    add_chain(upstream)
    command = [sys.executable, "-m", "tests.tasks.killed", str(tmp_path), f"http://{upstream.host}"]
    for number in (13, 8):
        reached = stall_at(upstream, number)
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as child:
            assert reached.wait(60)
            child.kill()
        with opened(tmp_path, f"http://{upstream.host}") as run:
            for name in visible(run.store):
                assert_complete(run.store, name)
    upstream._routes.clear()
    assert sync(tmp_path, upstream).in_place == 6


@pytest.mark.parametrize("back", [False, True], ids=["it stays there", "it goes back upstream"])
def test_a_long_run_does_not_put_an_older_image_back(
    upstream: Misbehaving, tmp_path: Path, *, back: bool
) -> None:
    """What it looked at first, a client or a push notification may have brought newer meanwhile."""
    old = upstream.add_image(NAME, "latest", layers=(b"old",))

    def moved_meanwhile(exchange: Exchange) -> None:
        new = upstream.add_image(NAME, "latest", layers=(b"new",))
        assert sync(tmp_path, upstream).complete
        assert _digest(tmp_path) == new.manifest.digest
        if back:
            upstream.add_image(NAME, "latest", layers=(b"old",))
        well_behaved(exchange)

    upstream.on(f"/v2/{NAME}/blobs/{old.layers[0].digest}", moved_meanwhile, well_behaved)
    report = sync(tmp_path, upstream)
    (row,) = report.images
    if back:
        assert _digest(tmp_path) == old.manifest.digest
    else:
        assert _digest(tmp_path) != old.manifest.digest
        assert "has moved upstream since this run looked at it" in row.reason
        assert row.outcome is Outcome.SKIPPED
    assert_complete(Store.open(tmp_path / "store", durability="none"), f"{NAME}:latest")


def _digest(folder: Path) -> Digest:
    record = (
        Store.open(folder / "store", durability="none").repository(RepositoryName(NAME)).tag(Tag("latest"))
    )
    assert record is not None
    return record.digest


def test_a_layer_that_is_here_in_another_size_fails_as_one_that_has_to_be_fetched_does(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """Otherwise it would depend on other images whether one that nobody can pull is called complete."""
    good = upstream.add_image(NAME, "good")
    for name in (NAME, "other/name"):
        document = json.loads(good.body)
        document["layers"][0]["size"] = 2**50
        upstream.add_manifest(name, "lying", json.dumps(document).encode(), media_types.OCI_MANIFEST)
    upstream.add_blob("other/name", b"{}")
    upstream.add_blob("other/name", b"layer")
    assert not sync(tmp_path, upstream).complete
    report = sync(tmp_path, upstream)
    found = rows(report)
    assert [row.outcome for row in found.values()] == [Outcome.FAILED, Outcome.FAILED]
    assert all("expected 1125899906842624 bytes, got 5" in row.reason for row in found.values())
    assert visible(Store.open(tmp_path / "store", durability="none")) == [f"{NAME}:good"]
