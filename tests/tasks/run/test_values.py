"""What goes from process to process: every value and every error survives a pickle."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from prefect.utilities.collections import visit_collection

import profiles
import registry_server
import tasks
from profiles.model.content_rule import ContentRule
from profiles.model.referrers import Referrers
from registry_server.oci.errors import DigestMismatch, InvalidName, MirrorflowError, SizeMismatch
from registry_server.oci.reference import ImageName, RepositoryName, Tag
from tasks.run.companion_values import CompanionPlan, CompanionSet, CompanionStatus, Followed, Following
from tasks.run.dropped_tags import DroppedTags
from tasks.run.errors import NoPlatform, NotAdmitted, NotSigned, StepFailed, Unexpected
from tasks.run.values import (
    Admission,
    BlobCopy,
    BlobOutcome,
    Catalog,
    Findings,
    ImagePlan,
    ListedReferrers,
    Output,
    Page,
    Progress,
    Step,
    Subject,
)
from tasks.upstream.errors import Stopped, UpstreamUnavailable, Where
from tests.tasks.things import blob, image, source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

BUSY = UpstreamUnavailable(Where("registry1", "app", "1"), "503", 503)
ADMISSION = Admission("verified: a", ({"identity": "a"},), b"{}", "f1")
RULES = ({"prefix": "library/*", "tags": {"regex": "1.*", "semver": True}, "select": "tag == '1'"},)
IMAGE = image(
    subject=Subject(image().digest, "application/json", (Tag("1"), image().digest)),
    following=Following((Referrers(),), deep=True),
    admission=ADMISSION,
)
COPY = BlobCopy(blob("a"), IMAGE)
FOLLOWED = Followed("sha256:1", "sbom", CompanionStatus.FAILED, "503", BUSY)
COMPANION = CompanionPlan(IMAGE.digest, blob("c"), (blob("c"),), (blob("d"),), Tag("v1"))
PLAN = ImagePlan(
    IMAGE, (blob("m"),), (blob("a"),), (blob("s").digest,), {blob("a").digest: blob("b")}, (),
    CompanionSet([COMPANION], [FOLLOWED], {"sha256-1": "2"}),
)  # fmt: skip
PROGRESS = replace(
    Progress(IMAGE, Step.CONVERTED, plan=PLAN, lacking=(COPY,), admission=ADMISSION, noted={"a": "b"}),
    companions={"sha256:1": FOLLOWED},
)
NAME = ImageName(RepositoryName("app"), Tag("1"))
LISTED = ListedReferrers(frozenset({"sha256-1.sig"}), {"sha256-1": IMAGE.digest})
DROPPED = DroppedTags()
DROPPED.add("is older", "app", ["1", "2"])
FINDINGS = Findings(
    source("library/nginx", *RULES), (IMAGE,), 3, {NAME: IMAGE.digest}, {NAME: "403"}, {NAME: "schema 1"},
    DROPPED, ("note",), "why not", {"app:1": BUSY}, {NAME: "v1"}, frozenset({NAME}), {},
    {NAME.repository: {}}, LISTED, BUSY,
)  # fmt: skip

VALUES: list[Any] = [
    Catalog((source(),), "403", BUSY),
    FINDINGS,
    PROGRESS,
    PROGRESS.failed(Step.PUBLISHED, StepFailed({"a": BUSY}, of=2)),
    Page((PROGRESS,), {"app": LISTED}),
    BlobOutcome(COPY, 7, BUSY),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_the_same_in_another_process(value: Any) -> None:
    there = pickle.loads(pickle.dumps(value))  # noqa: S301 - made here
    assert repr(there) == repr(value)
    assert type(there) is type(value)


def test_a_rule_works_in_another_process() -> None:
    [target] = pickle.loads(pickle.dumps(FINDINGS)).source.targets  # noqa: S301 - made here
    assert isinstance(target.rule, ContentRule)
    assert target.rule.tags is not None
    assert target.rule.tags.regex is not None
    assert target.rule.tags.regex.matches("1.25")


def test_an_output_keeps_all_of_it() -> None:
    output = Output([1], error=BUSY, summary="one")
    output.remarks, output.requests, output.budget = ("a",), {"HEAD": 1}, "9 left"
    there = pickle.loads(pickle.dumps(output))  # noqa: S301 - made here
    assert (there.value, there.summary, there.remarks, there.requests, there.budget) == (
        [1], "one", ("a",), {"HEAD": 1}, "9 left",
    )  # fmt: skip
    assert str(there.error) == str(BUSY)


def test_prefect_does_not_look_into_an_output() -> None:
    """It would draw arrows between tasks that have equal strings, and walk thousands of images."""
    seen: list[Any] = []
    visit_collection([Output(Page((PROGRESS,)))], visit_fn=seen.append, return_data=False)
    assert not [each for each in seen if isinstance(each, Page | Progress)]


@pytest.mark.parametrize(
    "error",
    [
        BUSY,
        Stopped(),
        DigestMismatch(expected=IMAGE.digest, actual=blob("b").digest),
        SizeMismatch(expected=1, actual=2, at_least=True),
        InvalidName("Upper", code="NAME_INVALID"),
        StepFailed({"app:1": BUSY, "app:2": Stopped()}, of=3),
        NotAdmitted("not admitted", ADMISSION),
        NotSigned("onlySigned", ADMISSION),
        NoPlatform(()),
        Unexpected(KeyError("oops")),
        Unexpected(ExceptionGroup("many", [OSError(5, "disk")])),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_says_the_same_in_another_process(error: MirrorflowError) -> None:
    there = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
    assert (type(there), str(there), there.retryable) == (type(error), str(error), error.retryable)


def _modules(package: ModuleType) -> Iterator[str]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        yield found.name


def _kinds(kind: type[MirrorflowError]) -> Iterator[type[MirrorflowError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _kinds(each)


def test_no_error_needs_the_arguments_of_its_constructor() -> None:
    """Keyword-only ones are lost on the way, and the process that reads the answer would break."""
    for package in (registry_server, profiles, tasks):
        for name in _modules(package):
            importlib.import_module(name)
    kinds = {each for each in _kinds(MirrorflowError) if not each.__module__.startswith("tests")}
    assert len(kinds) > 60
    for kind in kinds:
        error = kind.__new__(kind)
        error.args, error.__dict__["found"] = ("where", "what"), 1
        there = pickle.loads(pickle.dumps(error))  # noqa: S301 - made here
        assert (type(there), there.args, there.__dict__["found"]) == (kind, ("where", "what"), 1)
