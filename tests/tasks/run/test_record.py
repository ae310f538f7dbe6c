"""What the flow folds the answers of the steps into: what the report and progress bars read."""

from __future__ import annotations

from dataclasses import replace

from registry_server.oci.digest import Digest
from registry_server.oci.reference import ImageName
from tasks.run.errors import NotWanted
from tasks.run.record import RunRecord
from tasks.run.values import BlobCopy, BlobOutcome, Findings, Image, Output, Progress, Step
from tests.tasks.things import blob, image, source

ONE, TWO, THREE = (image(f"library/nginx:{number}") for number in (1, 2, 3))
ERROR = NotWanted("not yet")


def record(*images: Image, unchanged: int = 0) -> RunRecord:
    made = RunRecord()
    made.found([Findings(source(), images, unchanged)])
    return made


def test_an_image_that_is_found_again_keeps_how_far_it_got() -> None:
    made = record(ONE)
    verified = made.progress[str(ONE.name)].passed(Step.VERIFIED)
    made.advanced([verified])
    new = made.found([Findings(source(), (ONE, TWO))])
    assert [each.image for each in new] == [TWO]
    assert made.progress[str(ONE.name)] == verified


def test_each_blob_is_claimed_once_by_the_first_image_that_needs_it() -> None:
    made, shared = record(ONE, TWO), blob("shared")
    first = [BlobCopy(shared, ONE), BlobCopy(blob("one"), ONE)]
    assert made.claim(first) == first
    assert made.claim([BlobCopy(shared, TWO), BlobCopy(blob("two"), TWO)]) == [BlobCopy(blob("two"), TWO)]


def test_a_tag_that_moved_on_counts_as_what_it_names_now() -> None:
    """The poll record would else say that the tag is not in place."""
    made = RunRecord()
    made.found([Findings(source(), (ONE,), upstream={ONE.name: ONE.digest, TWO.name: TWO.digest})])
    moved = replace(ONE, digest=Digest.of(b"moved"))
    made.advanced([Progress(moved)])
    [findings] = made.findings.values()
    assert findings.upstream == {ONE.name: moved.digest, TWO.name: TWO.digest}


def test_bytes_are_counted_for_the_image_that_they_came_for() -> None:
    made = record(ONE, TWO)
    made.advanced([replace(Progress(TWO), moved=7)])
    made.copied([BlobOutcome(BlobCopy(blob("a"), ONE), 10), BlobOutcome(BlobCopy(blob("b"), ONE), 5, ERROR)])
    assert made.moved_for() == {str(ONE.name): 15, str(TWO.name): 7}


def test_the_totals_are_what_a_progress_bar_needs() -> None:
    made = record(ONE, TWO, THREE, unchanged=7)
    made.claim([BlobCopy(blob("a", 100), ONE), BlobCopy(blob("b", 50), ONE)])
    made.advanced(
        [
            Progress(ONE, Step.PUBLISHED),
            Progress(TWO).failed(Step.CONVERTED, ERROR),
            replace(Progress(THREE), skipped="schema 1"),
        ]
    )
    totals = made.totals(moving=40)
    assert (totals.images, totals.published, totals.failed, totals.skipped) == (3, 1, 1, 1)
    assert (totals.unchanged, totals.planned_bytes, totals.moved_bytes) == (7, 150, 40)


def test_what_an_earlier_run_left_is_not_waited_for_by_the_progress_bar() -> None:
    made = record(ONE)
    made.claim([BlobCopy(blob("a", 100), ONE)])
    assert made.totals(moving=30).planned_bytes == 100
    made.copied([BlobOutcome(BlobCopy(blob("a", 100), ONE), moved=30)])
    assert (made.totals(30).planned_bytes, made.totals(30).moved_bytes) == (30, 30)


def test_bytes_that_came_in_another_process_are_counted_when_the_blob_is_there() -> None:
    made = record(ONE)
    made.copied([BlobOutcome(BlobCopy(blob("a", 100), ONE), moved=100)])
    assert made.totals(moving=0).moved_bytes == 100


def test_what_goes_with_an_output_adds_up() -> None:
    made = RunRecord()
    for remarks, requests, budget in ((("a",), {"HEAD": 2}, "9 left"), (("b", "a"), {"HEAD": 1}, "")):
        output = Output[None](None)
        output.remarks, output.requests, output.budget = remarks, requests, budget
        made.take(output)
    assert (list(made.remarks), made.requests, made.budget) == (["a", "b"], {"HEAD": 3}, "9 left")


def test_notes_for_the_next_poll_come_from_search_and_publishing() -> None:
    made = RunRecord()
    made.found([Findings(source(), (ONE,), noted={ONE.local: {"list": "1"}})])
    made.advanced([replace(Progress(ONE), noted={"sha256-2": "2"})])
    assert made.noted() == {ONE.local: {"list": "1", "sha256-2": "2"}}


def test_a_search_is_remembered_without_its_answers_to_heads() -> None:
    """They are for the retry alone: megabytes in a big repository."""
    made = RunRecord()
    made.found([Findings(source(), problems={ImageName(ONE.local, ONE.reference): "503"}, heads={})])
    assert [each.heads for each in made.findings.values()] == [{}]
