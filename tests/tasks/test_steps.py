"""How the steps behave as Prefect tasks: what is tried again, when, and what they say."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prefect.states import Completed, Failed

from registry_server.oci.errors import ManifestInvalid
from tasks.copy_blob import claim_jobs
from tasks.prefect_tasks import (
    convert_manifest,
    copy_blob,
    filter_tags,
    list_catalog,
    publish_image,
    retry_delays,
    retry_options,
    summary,
    verify_signature,
)
from tasks.run.errors import NotWanted, StepFailed, Unexpected
from tasks.run.values import Findings, Step
from tasks.upstream.errors import Stopped, UpstreamDenied, UpstreamUnavailable, Where
from tests.support_behaviours import answers
from tests.support_misbehaving import well_behaved
from tests.tasks.runs import blob_path, opened, visible
from tests.tasks.things import image, source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.run.context import MirrorRun
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
WHERE = Where("registry1", NAME)
BUSY, DENIED = UpstreamUnavailable(WHERE, "503"), UpstreamDenied(WHERE, "403")


@pytest.mark.parametrize(
    ("retries", "delay", "most", "delays"),
    [
        (0, 5.0, None, []),
        (3, 5.0, None, [5, 5, 5]),
        (3, 5.0, 5.0, [5, 5, 5]),
        (6, 5.0, 60.0, [5, 10, 20, 40, 60, 60]),
        (2, 0.0, 60.0, [0, 0]),
    ],
)
def test_the_delay_doubles_up_to_max_retry_delay(
    retries: int, delay: float, most: float | None, delays: list[float]
) -> None:
    assert retry_delays(retries, delay, most) == delays


@pytest.fixture
def run(upstream: Misbehaving, tmp_path: Path) -> Iterator[MirrorRun]:
    retries: dict[str, Any] = {"maxRetries": 2, "retryDelay": "5s", "maxRetryDelay": "1m"}
    with opened(tmp_path, f"http://{upstream.host}", **retries) as made:
        yield made


def test_an_entry_without_retries_leaves_the_tasks_as_they_are(upstream: Misbehaving, tmp_path: Path) -> None:
    with opened(tmp_path, f"http://{upstream.host}") as run:
        assert retry_options(run) == {}


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (BUSY, True),
        (DENIED, False),
        (ManifestInvalid("no"), False),
        (StepFailed({"a": DENIED, "b": BUSY}, of=2), True),
        (StepFailed({"a": DENIED}, of=2), False),
        (Stopped(), False),
        (KeyError("a bug"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_the_error_decides_whether_a_task_is_tried_again(
    run: MirrorRun,
    error: Exception,
    again: bool,  # noqa: FBT001 - a column of the table
) -> None:
    options = retry_options(run)
    assert (options["retries"], options["retry_delay_seconds"]) == (2, [5, 10])
    asked: Any = SimpleNamespace()
    assert options["retry_condition_fn"](asked, asked, Failed(data=error)) is again
    assert options["retry_condition_fn"](asked, asked, Completed()) is False


def test_nothing_is_tried_again_once_the_run_was_asked_to_stop(run: MirrorRun) -> None:
    run.stop.set()
    asked: Any = SimpleNamespace()
    assert retry_options(run)["retry_condition_fn"](asked, asked, Failed(data=BUSY)) is False


def test_a_step_that_nobody_reached_says_so_instead_of_looking_green() -> None:
    assert summary("nginx: published").message == "nginx: published"
    assert summary("nginx: published", done=0).name == "NotReached"


def test_the_task_bodies_bring_an_image_in_and_say_what_they_did(
    upstream: Misbehaving, run: MirrorRun
) -> None:
    upstream.add_image(NAME, "1", (b"layer",))
    catalog = list_catalog.fn(run, "registry1")
    said = [filter_tags.fn(run, catalog.repositories, NAME)]
    images = run.ledger.changed()
    said += [step.fn(run, images, f"{NAME}:1") for step in (verify_signature, convert_manifest)]
    said += [
        copy_blob.fn(run, claim_jobs(run, images), "2 blobs"),
        publish_image.fn(run, images, f"{NAME}:1"),
    ]
    assert [state.message for state in said] == [
        f"{NAME}: 1 changed",
        f"{NAME}:1: no policy",
        f"{NAME}:1: manifests are stored",
        "2 blobs: 7 bytes are stored",
        f"{NAME}:1: published",
    ]
    assert visible(run.store) == [f"{NAME}:1"]


def test_trying_a_task_again_repeats_only_what_failed(upstream: Misbehaving, run: MirrorRun) -> None:
    upstream.add_image(NAME, "1", (b"one",))
    sick = upstream.add_image(NAME, "2", (b"two",))
    upstream.on(f"/v2/{NAME}/manifests/{sick.manifest.digest}", answers(500))
    filter_tags.fn(run, list_catalog.fn(run, "registry1").repositories, NAME)
    images = run.ledger.changed()
    verify_signature.fn(run, images, NAME)
    with pytest.raises(StepFailed, match=r"1 of 2 failed: library/nginx:2: .*500 Internal Server Error"):
        convert_manifest.fn(run, images, NAME)
    upstream.on(f"/v2/{NAME}/manifests/{sick.manifest.digest}", well_behaved)
    upstream.on(blob_path(NAME, sick.layers[0]), answers(500), well_behaved)
    upstream.seen.clear()
    convert_manifest.fn(run, images, NAME)
    assert len(upstream.requests("GET", "manifests")) == 1
    jobs = claim_jobs(run, images)
    with pytest.raises(StepFailed, match="1 of 3 failed"):
        copy_blob.fn(run, jobs, NAME)
    upstream.seen.clear()
    copy_blob.fn(run, jobs, NAME)
    assert len(upstream.requests("GET", "blobs")) == 1
    publish_image.fn(run, images, NAME)
    assert len(visible(run.store)) == 2


def test_a_bug_in_one_image_stays_that_images(run: MirrorRun) -> None:
    images = [image(f"{NAME}:{number}") for number in range(3)]
    run.ledger.found(Findings(source(), tuple(images)))

    def buggy(one: Any) -> None:
        if one is images[1]:
            raise KeyError("oops")

    with pytest.raises(
        StepFailed, match="1 of 3 failed: library/nginx:1: unexpected KeyError: 'oops'"
    ) as told:
        run.for_each_image(images, Step.VERIFIED, buggy)
    assert [type(error) for error in told.value.failures.values()] == [Unexpected]
    assert run.ledger.waiting(images, Step.CONVERTED) == [images[0], images[2]]


def test_each_gives_results_in_order_and_an_items_error_as_its_result(run: MirrorRun) -> None:
    def work(number: int) -> float:
        if number == 3:
            raise NotWanted("three")
        return 10 / number

    results = [result for _, result in run.each(work, [1, 2, 3, 0])]
    assert results[:2] == [10, 5]
    assert [type(result) for result in results[2:]] == [NotWanted, Unexpected]


def test_the_transfers_of_all_tasks_together_are_no_more_than_the_entry_allows(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1

    with opened(tmp_path, f"http://{upstream.host}", reqConcurrent=3) as run, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: run.each(work, range(50)), range(8)))
    assert most <= 3
