"""What a run says when it ends: one line, one table, one file."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci.descriptor import Descriptor
from registry_server.oci.reference import ImageName
from tasks.results.outcomes import ImageOutcome, Outcome, outcomes
from tasks.results.report import Report
from tasks.run.errors import NotWanted
from tasks.run.record import RunRecord
from tasks.run.values import BlobCopy, BlobOutcome, Findings, ImagePlan, Progress, Step
from tests.support_behaviours import answers
from tests.tasks.runs import mirror, opened, sync
from tests.tasks.things import blob, image, source

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support_misbehaving import Misbehaving

C, F, S, N = Outcome.COPIED, Outcome.FAILED, Outcome.SKIPPED, Outcome.NOT_REACHED


def row(name: str, outcome: Outcome, **more: Any) -> ImageOutcome:
    fields: dict[str, Any] = {
        "upstream": name, "digest": "", "step": "", "reason": "", "bytes_moved": 0, "size": 0, "seconds": 0.0,
        "verdict": "",
    }  # fmt: skip
    return ImageOutcome(image=name, outcome=outcome, **(fields | more))


def report(*images: Outcome, unchanged: int = 0, **more: Any) -> Report:
    fields: dict[str, Any] = {
        "registry": "registry1", "run_id": "", "started": 0.0, "ended": 1.5, "only": (), "stopped": False,
        "problems": (), "requests": {}, "budget": "",
    }  # fmt: skip
    found = [row(f"library/nginx:{number}", outcome) for number, outcome in enumerate(images)]
    return Report(images=found, unchanged=unchanged, **(fields | more))


@pytest.mark.parametrize(
    ("found", "message", "complete"),
    [
        (report(), "0 of 0 images", True),
        (report(C, C), "2 of 2 images", True),
        (report(unchanged=1200), "1,200 of 1,200 images, nothing new", True),
        (report(C, unchanged=3), "4 of 4 images", True),
        (report(F, F, unchanged=1198), "1,198 of 1,200 images, 2 failed", False),
        (report(S, unchanged=3), "3 of 3 images, 1 left out, nothing new", True),
        (report(S), "0 of 0 images, 1 left out", True),
        (report(C, N), "1 of 2 images, 1 not reached", False),
        (report(C, problems=("no catalog",)), "1 of 1 images, no catalog", False),
        (report(problems=("no catalog",)), "no catalog", False),
        (report(C, problems=("a", "b")), "1 of 1 images, a, and 1 more problem", False),
        (report(C, problems=("a", "b", "c")), "1 of 1 images, a, and 2 more problems", False),
        (report(C, N, N, stopped=True), "stopped: 1 of 3 images are in place", False),
        (report(unchanged=3, stopped=True), "stopped: 3 of 3 images are in place", False),
        (report(C, F, S, N), "1 of 3 images, 1 failed, 1 not reached, 1 left out", False),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_message_of_a_run_says_whether_the_mirror_is_complete(
    found: Report,
    message: str,
    complete: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert found.message == message
    assert found.complete is complete


def test_saved_bytes_are_those_of_copied_images_only() -> None:
    images = [row("a", C, bytes_moved=40, size=100), row("b", F, bytes_moved=10, size=100)]
    found = Report("r", "", 0.0, 1.0, (), 0, False, (), {}, "", images)
    assert (found.bytes_moved, found.bytes_saved) == (50, 60)


@pytest.mark.parametrize(
    ("found", "state"), [(report(C), "complete"), (report(F), "failed"), (report(C, stopped=True), "stopped")]
)
def test_the_file_of_a_run_says_the_same_as_its_message(found: Report, state: str) -> None:
    document = found.to_json()
    assert (document["state"], document["message"]) == (state, found.message)
    assert (document["started"], document["ended"]) == ("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z")
    totals = document["totals"]
    assert totals["images"] == totals["inPlace"] + totals["failed"] + totals["notReached"]
    assert set(document["images"][0]) >= {"image", "outcome", "reason", "bytesMoved", "seconds"}


def record() -> RunRecord:
    """One image of every outcome."""
    made = RunRecord()
    images = {name: image(f"library/nginx:{name}") for name in ("new", "failed", "old", "waiting")}
    moved = image("library/nginx:moved", was=blob("b", 1).digest)
    problem = ImageName(moved.local, image("library/nginx:unseen").reference)
    declined = ImageName(moved.local, image("library/nginx:declined").digest)
    findings = Findings(
        source(),
        (*images.values(), moved),
        problems={problem: "403 Forbidden"},
        declined={declined: "is not selected"},
    )
    made.found([findings])
    plan = ImagePlan(
        moved, (Descriptor("application/json", moved.digest, 7),), (blob("a", 100), blob("b", 1))
    )
    made.copied([BlobOutcome(BlobCopy(blob("a", 100), moved), moved=100)])
    made.advanced(
        [
            Progress(images["new"], Step.PUBLISHED),
            Progress(moved, Step.PUBLISHED, plan=plan),
            Progress(images["failed"], Step.VERIFIED).failed(Step.CONVERTED, NotWanted("not yet")),
            replace(Progress(images["old"]), skipped="schema 1"),
        ]
    )
    return made


def test_every_image_has_one_row_with_its_fate_failures_first() -> None:
    digest = image("library/nginx:declined").digest
    assert [(each.image, each.outcome, each.step, each.reason) for each in outcomes(record())] == [
        ("library/nginx:failed", F, "convert_manifest", "not yet"),
        ("library/nginx:unseen", F, "filter_tags", "403 Forbidden"),
        ("library/nginx:moved", C, "publish_image", "moved to a new digest"),
        ("library/nginx:new", C, "publish_image", "new"),
        ("library/nginx:old", S, "found", "schema 1"),
        (f"library/nginx@{digest}", S, "filter_tags", "is not selected"),
        ("library/nginx:waiting", N, "found", "the run ended before its turn"),
    ]


def test_a_row_has_the_bytes_that_came_for_it_and_those_that_it_needs() -> None:
    found = {each.image: each for each in outcomes(record())}["library/nginx:moved"]
    assert (found.bytes_moved, found.size) == (100, 101)


def test_an_image_that_is_called_otherwise_upstream_says_so(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image("library/nginx", "1")
    upstream.add_image("library/nginx", "2")
    upstream.on("/v2/library/nginx/manifests/2", answers(403))
    found = sync(tmp_path, upstream, {"prefix": "library/*", "destination": "/mirror", "stripPrefix": True})
    assert [(each.image, each.upstream) for each in found.images] == [
        ("mirror/nginx:2", "library/nginx:2"),
        ("mirror/nginx:1", "library/nginx:1"),
    ]


def test_the_report_has_what_the_run_cost_the_upstream(upstream: Misbehaving, tmp_path: Path) -> None:
    upstream.add_image("library/nginx", "1", (b"layer",))
    with opened(tmp_path, f"http://{upstream.host}") as run:
        found = mirror(run)
    assert found.requests["HEAD manifest"] == len(upstream.requests("HEAD")) == 1
    assert found.requests["GET manifest"] == len(upstream.requests("GET", "/manifests/")) == 1
    assert found.requests["GET blob"] == len(upstream.requests("GET", "/blobs/")) == 2
    assert found.requests["bytes"] == found.bytes_moved == len(b"layer{}")
