"""How steps behave: values in and out, partial failure, what a retry repeats, what a bug does."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from queue import SimpleQueue
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prefect.states import Completed, Failed

from registry_server.oci.errors import ManifestInvalid
from tasks.engines.direct_engine import DirectEngine, retry_delays
from tasks.engines.prefect_tasks import retry_options
from tasks.engines.steps import STEPS, broken, run_step
from tasks.list_catalog import wanted_repositories
from tasks.pipeline import Batch, advance, failure_of
from tasks.run.errors import LeftOut, NotWanted, StepFailed, Unexpected
from tasks.run.values import BlobCopy, BlobOutcome, Catalog, Findings, Output, Page, Progress, Step
from tasks.upstream.errors import Stopped, UpstreamDenied, UpstreamUnavailable, Where
from tests.support_behaviours import answers
from tests.support_misbehaving import well_behaved
from tests.tasks.runs import blob_path, opened, visible
from tests.tasks.things import blob, entry, image, source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.context.mirror_run import MirrorRun
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
WHERE = Where("registry1", NAME)
BUSY, DENIED = UpstreamUnavailable(WHERE, "503"), UpstreamDenied(WHERE, "403")


@pytest.mark.parametrize(
    ("retries", "delay", "most", "delays"),
    [
        (0, "5s", None, []),
        (3, "5s", None, [5, 5, 5]),
        (3, "5s", "5s", [5, 5, 5]),
        (6, "5s", "60s", [5, 10, 20, 40, 60, 60]),
        (2, "0s", "60s", [0, 0]),
    ],
)
def test_the_delay_doubles_up_to_max_retry_delay(
    retries: int, delay: str, most: str | None, delays: list[float]
) -> None:
    keys: dict[str, Any] = {"maxRetries": retries, "retryDelay": delay, "maxRetryDelay": most}
    made = entry(**{key: value for key, value in keys.items() if value is not None})
    assert retry_delays(made) == delays


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
    error: Any,
    again: bool,  # noqa: FBT001 - a column of the table
) -> None:
    options = retry_options(run)
    assert (options["retries"], options["retry_delay_seconds"]) == (2, [5, 10])
    asked: Any = SimpleNamespace()
    for data in (error, Output(None, error=error)):
        assert options["retry_condition_fn"](asked, asked, Failed(data=data)) is again
    assert options["retry_condition_fn"](asked, asked, Completed()) is False


def test_nothing_is_tried_again_once_the_run_was_asked_to_stop(run: MirrorRun) -> None:
    run.stop.set()
    asked: Any = SimpleNamespace()
    assert retry_options(run)["retry_condition_fn"](asked, asked, Failed(data=BUSY)) is False


def test_the_steps_bring_an_image_in_and_say_what_they_did(upstream: Misbehaving, run: MirrorRun) -> None:
    upstream.add_image(NAME, "1", (b"layer",))
    said = [run_step(run, "list_catalog", [], None)]
    said.append(run_step(run, "filter_tags", [said[-1].value.repositories], None))
    page = Page(tuple(Progress(each) for found in said[-1].value for each in found.changed))
    for step in ("verify_signature", "convert_manifest"):
        said.append(run_step(run, step, [page], None))
        page = said[-1].value
    said.append(run_step(run, "copy_blob", [page.images[0].lacking], None))
    said.append(run_step(run, "publish_image", [page, [said[-1].value]], None))
    assert [output.error for output in said] == [None] * 6
    assert [output.summary for output in said] == [
        "1 repository wanted",
        "1 changed",
        "no policy",
        "manifests are stored",
        "7 bytes are stored",
        "published",
    ]
    assert visible(run.store) == [f"{NAME}:1"]
    assert [output.requests.get("GET blob", 0) for output in said] == [0, 0, 0, 0, 2, 0]


def test_trying_again_repeats_only_what_failed(upstream: Misbehaving, run: MirrorRun) -> None:
    upstream.add_image(NAME, "1", (b"one",))
    sick = upstream.add_image(NAME, "2", (b"two",))
    upstream.on(f"/v2/{NAME}/manifests/{sick.manifest.digest}", answers(500))
    batch = Batch(run)
    batch.filter_tags(wanted_repositories(run).repositories)
    batch.verify_signature()
    with pytest.raises(StepFailed, match=r"1 of 2 failed: library/nginx:2: .*500 Internal Server Error"):
        batch.convert_manifest()
    upstream.on(f"/v2/{NAME}/manifests/{sick.manifest.digest}", well_behaved)
    upstream.on(blob_path(NAME, sick.layers[0]), answers(500), well_behaved)
    upstream.seen.clear()
    batch.convert_manifest()
    assert len(upstream.requests("GET", "manifests")) == 1
    with pytest.raises(StepFailed, match="1 of 3 failed"):
        batch.copy_blob()
    upstream.seen.clear()
    batch.copy_blob()
    assert len(upstream.requests("GET", "blobs")) == 1
    batch.publish_image()
    assert len(visible(run.store)) == 2


def test_a_bug_in_one_image_stays_that_images(run: MirrorRun) -> None:
    images = [Progress(image(f"{NAME}:{number}")) for number in range(3)]

    def buggy(one: Progress) -> Progress:
        if one.image == images[1].image:
            raise KeyError("oops")
        return one

    found = advance(run, images, Step.VERIFIED, buggy)
    assert [each.step for each in found] == [Step.VERIFIED, Step.FOUND, Step.VERIFIED]
    error = failure_of(found, Step.VERIFIED)
    assert isinstance(error, StepFailed)
    assert str(error) == (
        "1 of 3 failed: library/nginx:1: unexpected KeyError: 'oops' (a bug in mirrorflow; please report it)"
    )
    assert failure_of(found, Step.CONVERTED) is None


ONE = Progress(image(f"{NAME}:1"))


@pytest.mark.parametrize(
    ("progress", "step", "waits"),
    [
        pytest.param(ONE, Step.VERIFIED, True, id="found"),
        pytest.param(ONE, Step.CONVERTED, False, id="no step before the one before it"),
        pytest.param(ONE, Step.PUBLISHED, False, id="no step before the two before it"),
        pytest.param(ONE.failed(Step.VERIFIED, BUSY), Step.VERIFIED, True, id="a retry repeats it"),
        pytest.param(ONE.failed(Step.VERIFIED, BUSY), Step.CONVERTED, False, id="failed: no further"),
        pytest.param(ONE.passed(Step.VERIFIED), Step.VERIFIED, False, id="what passed is not done again"),
        pytest.param(replace(ONE, skipped="schema 1"), Step.VERIFIED, False, id="what is left out"),
    ],
)
def test_an_image_waits_for_the_step_after_the_last_that_it_passed(
    progress: Progress,
    step: Step,
    waits: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert progress.waits_for(step) is waits


def test_an_image_that_passes_after_a_failure_has_not_failed() -> None:
    passed = ONE.failed(Step.VERIFIED, BUSY).passed(Step.VERIFIED)
    assert (passed.error, passed.failed_step, passed.step) == (None, None, Step.VERIFIED)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        pytest.param(LeftOut("schema 1"), replace(ONE, skipped="schema 1"), id="left out is no failure"),
        pytest.param(DENIED, ONE.failed(Step.VERIFIED, DENIED), id="a failure"),
        pytest.param(Stopped(), ONE, id="a stop is not the image's failure"),
    ],
)
def test_an_error_of_a_step_is_in_its_answer(run: MirrorRun, error: Exception, outcome: Progress) -> None:
    def fails(_: Progress) -> Progress:
        raise error

    [found] = advance(run, [ONE], Step.VERIFIED, fails)
    assert replace(found, seconds=0.0) == outcome


@pytest.mark.parametrize(
    ("step", "values"),
    [
        ("list_catalog", []),
        ("filter_tags", [(source(),)]),
        ("verify_signature", [Page((ONE,))]),
        ("convert_manifest", [Page((ONE.passed(Step.VERIFIED),))]),
        ("copy_blob", [(BlobCopy(blob("a"), ONE.image),)]),
        ("publish_image", [Page((ONE.passed(Step.CONVERTED),)), []]),
    ],
)
def test_a_step_that_ends_without_an_answer_failed_for_each_of_its_members(
    step: str, values: list[Any]
) -> None:
    assert step in STEPS
    bug = Unexpected(KeyError("oops"))
    value = broken(step, values, bug).value
    if isinstance(value, Page):
        assert [(each.error, each.failed_step) for each in value.images] == [(bug, Step(step))]
    elif isinstance(value, Catalog):
        assert (value.problem, value.error) == (str(bug), bug)
    else:
        assert [each.error for each in value] == [bug]
    stopped = broken(step, values, Stopped())
    assert "stop" not in str(stopped.value), "nothing is blamed for a stop"


PASSED, WAITING = Progress(image("a:1"), Step.PUBLISHED), Progress(image("a:2"), Step.CONVERTED)
COPIES = [BlobCopy(blob("one"), image()), BlobCopy(blob("two"), image())]


@pytest.mark.parametrize(
    ("step", "values", "before"),
    [
        pytest.param(
            "filter_tags",
            [[source("a"), source("b")]],
            [Findings(source("a"), unchanged=1), Findings(source("b"), error=BUSY)],
            id="repositories",
        ),
        pytest.param(
            "copy_blob", [COPIES], [BlobOutcome(COPIES[0], 10), BlobOutcome(COPIES[1], 0, BUSY)], id="blobs"
        ),
        pytest.param(
            "publish_image",
            [Page((replace(PASSED, step=Step.CONVERTED), WAITING)), []],
            Page((PASSED, WAITING.failed(Step.PUBLISHED, BUSY))),
            id="images",
        ),
    ],
)
def test_a_retry_that_breaks_takes_nothing_back_of_the_first_try(
    run: MirrorRun, step: str, values: list[Any], before: Any
) -> None:
    """E.g. its process was killed: an image that is published stays published."""
    first = Output(before, error=BUSY)
    first.remarks, first.requests = ("a remark",), {"HEAD manifest": 2}
    ended: SimpleQueue[Any] = SimpleQueue()

    def call(_step: str, _values: Any, _before: Any) -> Output[Any]:
        raise BrokenProcessPool

    with ThreadPoolExecutor() as threads:
        engine = DirectEngine(replace(run, entry=entry(maxRetries=1, retryDelay="0s")), call, threads)
        output = engine.submit(step, "", *values, known=first, done=ended.put).output()
    members = output.value.images if isinstance(output.value, Page) else output.value
    kept = before.images if isinstance(before, Page) else before
    assert members[0] == kept[0]
    assert isinstance(members[1].error, Unexpected)
    assert (output.remarks, output.requests) == (first.remarks, first.requests)
    for stopped in (broken(step, values, Stopped(), first), broken(step, values, BUSY, first)):
        assert (stopped.value.images if isinstance(before, Page) else stopped.value)[0] == kept[0]


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
