"""Which members of a group still wait for a step: what a retry repeats, and what the report reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from registry_server.oci.reference import ImageName
from tasks.run.errors import NotWanted
from tasks.run.ledger import Ledger
from tasks.run.values import Admission, Findings, Image, ImagePlan, Step
from tests.tasks.things import blob, image, source

ONE, TWO, THREE = (image(f"library/nginx:{number}") for number in (1, 2, 3))
ERROR = NotWanted("not yet")


def ledger(*images: Image, unchanged: int = 0) -> Ledger:
    made = Ledger()
    made.found(Findings(source(), images, unchanged))
    return made


def test_a_retry_repeats_only_the_members_that_failed() -> None:
    made = ledger(ONE, TWO, THREE)
    made.passed(ONE, Step.VERIFIED)
    made.failed(TWO, Step.VERIFIED, ERROR)
    assert made.waiting([ONE, TWO, THREE], Step.VERIFIED) == [TWO, THREE]


@pytest.mark.parametrize("step", [Step.CONVERTED, Step.PUBLISHED])
def test_nobody_takes_a_step_before_the_one_before_it(step: Step) -> None:
    made = ledger(ONE)
    assert made.waiting([ONE], step) == []


def test_what_is_left_out_waits_for_nothing_more() -> None:
    made = ledger(ONE)
    made.passed(ONE, Step.VERIFIED)
    made.skip(ONE, "schema 1")
    made.passed(ONE, Step.CONVERTED)
    assert made.waiting([ONE], Step.PUBLISHED) == []


def test_who_passes_after_a_failure_has_not_failed() -> None:
    made = ledger(ONE)
    made.failed(ONE, Step.VERIFIED, ERROR)
    made.passed(ONE, Step.VERIFIED)
    [progress] = made.progress()
    assert (progress.error, progress.failed_step, progress.step) == (None, None, Step.VERIFIED)


def test_an_image_that_is_found_again_keeps_how_far_it_got() -> None:
    made = ledger(ONE)
    made.passed(ONE, Step.VERIFIED)
    made.found(Findings(source(), (ONE, TWO)))
    assert made.waiting([ONE, TWO], Step.VERIFIED) == [TWO]


def test_a_repository_that_was_searched_is_not_searched_again() -> None:
    made, other = ledger(), source("library/other")
    made.search_failed(other, ERROR)
    assert made.unsearched([source(), other]) == [other]
    made.found(Findings(other))
    assert made.unsearched([source(), other]) == []
    assert made.search_errors() == []


def test_each_blob_is_claimed_once_by_the_first_image_that_needs_it() -> None:
    made, shared = ledger(ONE, TWO), blob("shared")
    assert made.claim(ONE, [shared, blob("one")]) == [shared, blob("one")]
    assert made.claim(TWO, [shared, blob("two")]) == [blob("two")]


def test_many_threads_claim_each_blob_once() -> None:
    images = [image(f"library/nginx:{number}") for number in range(32)]
    blobs = [blob(str(number)) for number in range(50)]
    made = ledger(*images)
    with ThreadPoolExecutor(16) as pool:
        claimed = [each for found in pool.map(lambda one: made.claim(one, blobs), images) for each in found]
    assert sorted(each.digest for each in claimed) == sorted(each.digest for each in blobs)


def test_a_blob_that_one_repository_refused_is_no_error_of_another() -> None:
    made, shared = ledger(ONE), blob("shared")
    made.blob_failed(shared.digest, "library/nginx", ERROR)
    assert made.blob_error(shared.digest, "library/nginx") is ERROR
    assert made.blob_error(shared.digest, "library/other") is None
    made.blob_copied(shared.digest, "library/nginx")
    assert made.blob_error(shared.digest, "library/nginx") is None


def test_the_totals_are_what_a_progress_bar_needs() -> None:
    made = ledger(ONE, TWO, THREE, unchanged=7)
    made.claim(ONE, [blob("a", 100), blob("b", 50)])
    made.moved(blob("a").digest, 40)
    made.passed(ONE, Step.PUBLISHED)
    made.failed(TWO, Step.CONVERTED, ERROR)
    made.skip(THREE, "schema 1")
    totals = made.totals()
    assert (totals.images, totals.published, totals.failed, totals.skipped) == (3, 1, 1, 1)
    assert (totals.unchanged, totals.planned_bytes, totals.moved_bytes) == (7, 150, 40)


def test_what_an_earlier_run_left_is_not_waited_for_by_the_progress_bar() -> None:
    made = ledger(ONE)
    made.claim(ONE, [blob("a", 100)])
    made.moved(blob("a").digest, 30)
    assert made.totals().planned_bytes == 100
    made.blob_copied(blob("a").digest, ONE.source)
    assert (made.totals().planned_bytes, made.totals().moved_bytes) == (30, 30)


def test_changed_images_come_by_repository_so_that_groups_keep_together() -> None:
    other = image("apps/web:9")
    made = ledger(THREE, ONE)
    made.found(Findings(source("apps/web"), (other,)))
    assert made.changed() == [other, ONE, THREE]


def test_plans_and_verdicts_are_kept_with_their_image() -> None:
    made, plan = ledger(ONE), ImagePlan(ONE, (), ())
    made.plan(ONE, plan)
    made.admitted(ONE, Admission("no policy"))
    assert made.plan_of(ONE) is plan
    assert [each.admission.verdict for each in made.progress()] == ["no policy"]
    assert [each.image.name for each in made.progress()] == [ImageName(ONE.local, ONE.reference)]
