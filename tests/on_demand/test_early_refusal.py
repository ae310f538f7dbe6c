"""While an upstream is left alone: which requests are refused without a thread, and which are looked into."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Miss, Refusal, TagPage, TheManifest
from tests.on_demand.mirrors import document, minding
from tests.support_misbehaving import hangs, misbehaving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.on_demand.service import OnDemand
    from tests.support_misbehaving import Misbehaving

DIGEST = Digest(f"sha256:{'0' * 64}")


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def miss(name: str, reference: str = "1") -> Miss:
    return Miss("manifest", RepositoryName(name), Tag(reference))


def entries(upstream: Misbehaving) -> list[dict[str, object]]:
    """`busy` takes busy/** and both/**, `free` the rest."""
    rules = {"busy": ("busy/**", "both/**"), "free": ("free/**", "both/**")}
    return [
        {**document(f"http://{upstream.host}", content=[{"prefix": each} for each in prefixes]), "name": name}
        for name, prefixes in rules.items()
    ]


def leave_alone(service: OnDemand) -> None:
    service._context.breaker.failed("busy", "it does not answer")


@pytest.mark.parametrize(
    ("reason", "question"),
    [
        ("its upstream answers", miss("free/app")),
        ("the other upstream answers", miss("both/app")),
        ("no rule takes it, which is 404", miss("other/app")),
        ("its image may be here", miss("busy/app", f"sha256-{'0' * 64}.sig")),
        ("what led to a digest decides", Miss("manifest", RepositoryName("busy/app"), DIGEST)),
        ("the layer may be arriving", Miss("blob", RepositoryName("busy/app"), DIGEST)),
        ("its subject may be here", Miss("referrers", RepositoryName("busy/app"), DIGEST)),
        ("a list may be here", TagPage(RepositoryName("busy/app"))),
    ],
    ids=str,
)
def test_what_needs_a_closer_look_is_not_refused_at_once(
    tmp_path: Path, upstream: Misbehaving, reason: str, question: Miss | TagPage
) -> None:
    with minding(tmp_path, *entries(upstream)) as (_, service, *_):
        leave_alone(service)
        assert isinstance(service.refusal(miss("busy/app")), Refusal)
        assert service.refusal(question) is None, reason


def test_the_refusal_is_the_one_that_a_closer_look_gives(tmp_path: Path, upstream: Misbehaving) -> None:
    with minding(tmp_path, *entries(upstream)) as (_, service, *_):
        assert service.refusal(miss("busy/app")) is None
        leave_alone(service)
        early, later = service.refusal(miss("busy/app")), service.answer(miss("busy/app"), 20)
    assert isinstance(early, Refusal)
    assert isinstance(later, Refusal)
    assert (early.status, early.code, early.message) == (later.status, later.code, later.message)
    assert early.retry_after is not None
    assert upstream.seen == []


def test_what_the_store_has_is_never_refused(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("busy/app", "1")
    with minding(tmp_path, *entries(upstream)) as (_, service, _, work):
        assert isinstance(service.answer(miss("busy/app"), 20), TheManifest)
        work.wait()
        leave_alone(service)
        assert service.refusal(miss("busy/app")) is None


def test_an_image_that_arrives_is_not_refused(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image("busy/app", "1")
    upstream.on(f"/v2/busy/app/blobs/{image.layers[0].digest}", hangs)
    with minding(tmp_path, *entries(upstream)) as (_, service, *_):
        found = service.answer(miss("busy/app"), 20)
        leave_alone(service)
        assert service.refusal(miss("busy/app")) is None
        assert service.answer(miss("busy/app"), 20) == found
        upstream.closing.set()


def test_who_asks_what_is_being_asked_waits_for_that_answer(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.on("/v2/busy/app/manifests/1", hangs)
    with minding(tmp_path, *entries(upstream)) as (_, service, *_), ThreadPoolExecutor(1) as client:
        waits = client.submit(service.answer, miss("busy/app"), 20)
        while not upstream.seen:
            pass
        leave_alone(service)
        assert service.refusal(miss("busy/app")) is None
        upstream.closing.set()
        assert isinstance(waits.result(), Refusal)


def test_what_was_not_there_a_moment_ago_is_404_and_not_busy(tmp_path: Path, upstream: Misbehaving) -> None:
    with minding(tmp_path, *entries(upstream)) as (_, service, *_):
        service.answer(miss("busy/app"), 20)
        leave_alone(service)
        assert service.refusal(miss("busy/app")) is None
        answer = service.answer(miss("busy/app"), 20)
    assert isinstance(answer, Refusal)
    assert answer.status == 404
