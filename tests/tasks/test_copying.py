"""Each blob once, from where it broke off, and never a tag without all that is below it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.errors import NotFound
from registry_server.oci.reference import RepositoryName, Tag
from tasks.copy_blob import copy_one
from tasks.results.outcomes import Outcome
from tasks.run.values import BlobCopy
from tests.support_behaviours import answers, reset_in_body, truncated
from tests.support_misbehaving import well_behaved
from tests.tasks.runs import (
    add_document,
    assert_complete,
    blob_path,
    made_ready,
    mirror,
    opened,
    reported,
    rows,
    sync,
    visible,
)

if TYPE_CHECKING:
    from registry_server.oci.descriptor import Descriptor
    from tasks.context.mirror_run import MirrorRun
    from tests.support_misbehaving import Exchange, Misbehaving

NAME = "library/nginx"
ROOT = Path(__file__).parents[2]


def test_each_digest_is_fetched_once_however_many_images_share_it(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    for name in ("apps/a", "apps/b", "library/c"):
        for tag in ("1", "2", "3"):
            upstream.add_image(name, tag, (b"base", b"runtime", f"{name}{tag}".encode()))
    report = sync(tmp_path, upstream)
    assert report.in_place == 9
    fetched = [each.path.rpartition("/")[2] for each in upstream.requests("GET", "/blobs/")]
    assert len(fetched) == len(set(fetched)) == 9 + 3
    own = sum(len(f"{name}{tag}") for name in ("apps/a", "apps/b", "library/c") for tag in "123")
    assert report.bytes_moved == own + len(b"baseruntime{}")
    assert report.bytes_saved == 8 * len(b"baseruntime{}")


def test_the_failure_of_a_blob_fails_the_images_that_need_it_and_says_which_and_why(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "good", (b"base",))
    bad = upstream.add_image(NAME, "bad", (b"base", b"broken")).layers[1]
    upstream.add_image(NAME, "bad-too", (b"broken", b"more"))
    upstream.on(blob_path(NAME, bad), answers(403))
    report = sync(tmp_path, upstream)
    why = (
        f"the blob {bad.digest.short} (6 bytes) is not here: "
        f"{upstream.host}: {NAME}@{bad.digest}: 403 Forbidden"
    )
    assert {name: row.reason for name, row in rows(report).items()} == {
        f"{NAME}:bad": why,
        f"{NAME}:bad-too": why,
        f"{NAME}:good": "new",
    }
    assert {row.step for row in report.images} == {"publish_image"}
    assert len(upstream.requests("GET", str(bad.digest))) == 1, "asked for once, also when it fails"


def test_a_blob_that_one_repository_refuses_comes_from_the_other_that_has_it(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """Shared blobs are fetched for the first image; a sick repository must not make its neighbours fail."""
    shared = upstream.add_image("apps/a-sick", "1", (b"shared",)).layers[0]
    upstream.add_image("library/healthy", "1", (b"shared",))
    asked_first = threading.Event()

    def refuses(exchange: Exchange) -> None:
        asked_first.set()
        answers(500)(exchange)

    def waits(exchange: Exchange) -> None:
        assert asked_first.wait(30)
        well_behaved(exchange)

    upstream.on(blob_path("apps/a-sick", shared), refuses)
    upstream.on("/v2/library/healthy/tags/list", waits)
    report = sync(tmp_path, upstream)
    assert {name: row.outcome for name, row in rows(report).items()} == {
        "apps/a-sick:1": Outcome.FAILED,
        "library/healthy:1": Outcome.COPIED,
    }
    assert len(upstream.requests("GET", blob_path("library/healthy", shared))) == 1
    assert sync(tmp_path, upstream).complete, "by now the store has it"


def test_subpaths_have_pools_of_their_own_and_each_gets_what_it_needs(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1", (b"shared",))
    rules = ({"prefix": NAME}, {"prefix": NAME, "destination": "/other"})
    storage = {"subPaths": {"/other": {"rootDirectory": str(tmp_path / "other")}}}
    with opened(tmp_path, f"http://{upstream.host}", *rules, storage=storage) as run:
        assert mirror(run).message == "2 of 2 images"
        for name in visible(run.store):
            assert_complete(run.store, name)
        assert visible(run.store) == [f"{NAME}:1", f"other/{NAME}:1"]


def test_the_bytes_of_a_try_that_failed_are_in_the_report(upstream: Misbehaving, tmp_path: Path) -> None:
    content = bytes(1024 * 1024)
    layer = upstream.add_image(NAME, "1", (content,)).layers[0]
    path, broken_off = blob_path(NAME, layer), reset_in_body(content, 500_000)
    upstream.on(path, broken_off, *[answers(500)] * 3, well_behaved)
    with opened(tmp_path, f"http://{upstream.host}", maxRetries=4, retryDelay="0s") as run:
        report = mirror(run)
        assert report.complete
        assert report.bytes_moved == run.live.bytes_moved
    assert len(upstream.requests("GET", path)) > 2, "more than one try"


def test_a_blob_that_publish_image_fetches_itself_is_tried_again_as_well(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """copy_blob brings it into one of the two pools."""
    layer = upstream.add_image(NAME, "1", (b"shared",)).layers[0]
    rules = ({"prefix": NAME}, {"prefix": NAME, "destination": "/other"})
    storage = {"subPaths": {"/other": {"rootDirectory": str(tmp_path / "other")}}}
    upstream.on(blob_path(NAME, layer), well_behaved, answers(500), well_behaved)
    retries: dict[str, Any] = {"maxRetries": 1, "retryDelay": "0s"}
    with opened(tmp_path, f"http://{upstream.host}", *rules, storage=storage, **retries) as run:
        assert mirror(run).message == "2 of 2 images"
        for name in visible(run.store):
            assert_complete(run.store, name)


def test_content_that_the_manifest_brings_itself_is_not_fetched(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """image-spec descriptor.md, `data`."""
    config = upstream.add_blob(NAME, b"{}", media_types.OCI_EMPTY).to_json() | {"data": "e30="}
    add_document(upstream, NAME, "1", media_types.OCI_MANIFEST, config=config, layers=[])
    assert sync(tmp_path, upstream).complete
    assert upstream.requests("GET", "/blobs/") == []


def test_a_wrong_digest_leaves_nothing_that_anybody_can_see(upstream: Misbehaving, tmp_path: Path) -> None:
    layer = upstream.add_image(NAME, "1", (b"layer",)).layers[0]
    upstream.on(blob_path(NAME, layer), answers(200, b"relay"))
    with opened(tmp_path, f"http://{upstream.host}") as run:
        mirror(run)
        repository = run.store.repository(RepositoryName(NAME))
        for digest in (layer.digest, Digest.of(b"relay")):
            assert not repository.pool_holds(digest)
        with pytest.raises(NotFound):
            repository.find_manifest(Tag("1"))
        assert list((run.store.root / "incoming").iterdir()) == []


def leave(run: MirrorRun, blob: Descriptor, content: bytes) -> None:
    """What a run that was cut off leaves behind."""
    with run.store.repository(RepositoryName(NAME)).receive_blob(blob) as incoming:
        incoming.write(content)


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        pytest.param(b"the la", ["bytes=6-"], id="the rest, with Range"),
        pytest.param(b"", [""], id="nothing was left: all of it"),
        pytest.param(b"the layer", [], id="all was here: nothing is asked"),
        pytest.param(b"THE LA", ["bytes=6-", ""], id="what was left is damaged: all of it, in the same run"),
        pytest.param(b"THE LAYER", [""], id="all was here, and damaged"),
    ],
)
def test_a_blob_goes_on_from_what_an_earlier_run_left(
    upstream: Misbehaving, tmp_path: Path, left: bytes, asked: list[str]
) -> None:
    layer = upstream.add_image(NAME, "1", (b"the layer",)).layers[0]
    with opened(tmp_path, f"http://{upstream.host}") as run:
        if left:
            leave(run, layer, left)
        report = mirror(run)
        assert report.complete
        assert_complete(run.store, f"{NAME}:1")
    requests = upstream.requests("GET", str(layer.digest))
    assert [each.headers.get("range", "") for each in requests] == asked


def test_a_cut_connection_is_gone_on_with_in_the_same_run(upstream: Misbehaving, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    layer = upstream.add_image(NAME, "1", (content,)).layers[0]
    upstream.on(blob_path(NAME, layer), truncated(content, 200_000), well_behaved)
    report = sync(tmp_path, upstream)
    assert report.complete
    requests = upstream.requests("GET", str(layer.digest))
    assert [each.headers.get("range", "") for each in requests] == ["", "bytes=200000-"]
    assert report.bytes_moved == len(content) + len(b"{}")


class Half:
    """Sends the first half, says so, and hangs."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.sent = threading.Event()

    def __call__(self, exchange: Exchange) -> None:
        length = {"Content-Length": str(len(self.content))}
        exchange.answer(200, self.content[: len(self.content) // 2], length)
        self.sent.set()
        exchange.hang()


def size_of_incoming(folder: Path, blob: Descriptor) -> int:
    time.sleep(0.01)
    return (folder / "store" / "incoming" / f"sha256-{blob.digest.hex}").stat().st_size


def test_after_sigkill_in_mid_blob_the_next_run_asks_only_for_the_rest(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    content = os.urandom(8 << 20)
    layer = upstream.add_image(NAME, "1", (content,)).layers[0]
    half = Half(content)
    upstream.on(blob_path(NAME, layer), half)
    command = [sys.executable, "-m", "tests.tasks.killed", str(tmp_path), f"http://{upstream.host}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert half.sent.wait(30)
        while size_of_incoming(tmp_path, layer) < len(content) // 2:
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    with opened(tmp_path, f"http://{upstream.host}") as run:
        assert visible(run.store) == []
    upstream.on(blob_path(NAME, layer), well_behaved)
    upstream.seen.clear()
    report = sync(tmp_path, upstream)
    assert report.complete
    [request] = upstream.requests("GET", str(layer.digest))
    assert request.headers["range"] == f"bytes={len(content) // 2}-"
    assert report.bytes_moved <= len(content) // 2 + len(b"{}")
    assert upstream.requests("GET", "/manifests/") == [], "it was in the pool by then"


def test_two_runs_that_want_the_same_blob_at_once_fetch_it_once(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    layer = upstream.add_image(NAME, "1", (b"shared",)).layers[0]
    arrived, go_on = threading.Event(), threading.Event()

    def slow(exchange: Exchange) -> None:
        arrived.set()
        assert go_on.wait(30)
        well_behaved(exchange)

    upstream.on(blob_path(NAME, layer), slow)
    url = f"http://{upstream.host}"
    with opened(tmp_path, url) as one, opened(tmp_path, url) as two:
        first, second = (BlobCopy(layer, made_ready(run).images[0].image) for run in (one, two))
        threads = [threading.Thread(target=copy_one, args=(one, first))]
        threads[0].start()
        assert arrived.wait(30)
        threads.append(threading.Thread(target=copy_one, args=(two, second)))
        threads[1].start()
        go_on.set()
        for thread in threads:
            thread.join()
        assert one.store.repository(RepositoryName(NAME)).has_blob(layer.digest)
    assert len(upstream.requests("GET", str(layer.digest))) == 1


def test_a_stop_in_mid_blob_keeps_what_came_and_blames_nobody(upstream: Misbehaving, tmp_path: Path) -> None:
    content = os.urandom(8 << 20)
    layer = upstream.add_image(NAME, "1", (content,)).layers[0]
    upstream.add_image(NAME, "2", (b"never reached",))
    half = Half(content)
    upstream.on(blob_path(NAME, layer), half)
    with opened(tmp_path, f"http://{upstream.host}") as run:
        batch = made_ready(run)
        thread = threading.Thread(target=batch.bring_in)
        thread.start()
        assert half.sent.wait(30)
        while not size_of_incoming(tmp_path, layer):
            assert thread.is_alive()
        run.stop.set()
        thread.join()
        report = reported(run, batch.record)
        assert report.message == "stopped: 0 of 2 images are in place"
        assert {row.outcome for row in report.images} == {Outcome.NOT_REACHED}
        assert {row.reason for row in report.images} == {"the run ended before its turn"}
    upstream.on(blob_path(NAME, layer), well_behaved)
    upstream.seen.clear()
    assert sync(tmp_path, upstream).complete
    assert "range" in upstream.requests("GET", str(layer.digest))[0].headers
