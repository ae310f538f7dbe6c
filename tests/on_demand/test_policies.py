"""A policy over what clients pull: verdicts are given once, shown, and given before anything is served."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from flows.reporting.tag_status import tag_statuses
from profiles.loader import parse_profile
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tasks.on_demand.limits.timed_cache import TimedCache
from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import Misbehaving, answers, misbehaving
from tests.tasks.test_verifying import OURS, policy, sign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from profiles.model.profile import Profile

APP = RepositoryName("app")


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def test_a_tag_that_moved_to_something_refused_is_served_as_it_is_and_judged_once(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """The Warning says that it was refused; later pulls cost a HEAD each, and no look for signatures."""
    image = upstream.add_image("app", "v1", layers=(b"good",)).manifest.digest
    sign(upstream, image, OURS)
    path = "/v2/app/manifests/v1"
    with mirroring(tmp_path, document(f"http://{upstream.host}"), more=policy(upstream)) as mirror:
        assert mirror.client.get(path).status_code == 200
        mirror.work.wait()
        upstream.add_image("app", "v1", layers=(b"evil",))
        first = mirror.client.get(path)
        mirror.work.wait()
        asked = len(upstream.seen)
        second = mirror.client.get(path)
        for got in (first, second):
            assert got.headers["Docker-Content-Digest"] == image
            assert "refused: " in got.headers["Warning"]
            assert "it has no signature" in got.headers["Warning"]
    assert [each.method for each in upstream.seen[asked:]] == ["HEAD"]


@pytest.mark.parametrize(
    "mended", [pytest.param(False, id="it is signed later"), pytest.param(True, id="another image is pushed")]
)
def test_status_shows_the_refused_move_until_the_tag_names_something_good(
    tmp_path: Path, upstream: Misbehaving, *, mended: bool
) -> None:
    image = upstream.add_image("app", "v1", layers=(b"good",)).manifest.digest
    sign(upstream, image, OURS)
    path = "/v2/app/manifests/v1"
    with mirroring(tmp_path, document(f"http://{upstream.host}"), more=policy(upstream)) as mirror:
        mirror.client.get(path)
        mirror.work.wait()
        assert all(row.in_place for row in tag_statuses(mirror.store))
        evil = upstream.add_image("app", "v1", layers=(b"evil",)).manifest.digest
        upstream.add_image("app", "never", layers=(b"here",))
        for name in ("v1", "never"):
            mirror.client.get(f"/v2/app/manifests/{name}")
        [row] = [row for row in tag_statuses(mirror.store) if not row.in_place]
        assert (row.reference, row.upstream_digest, row.stored_digest) == ("v1", evil, image)
        assert "it has no signature" in row.problem
        good = upstream.add_image("app", "v1", layers=(b"mended",)).manifest.digest if mended else evil
        sign(upstream, good, OURS)
        mirror.service._refused = TimedCache(10_000)  # as after the seconds for which it is not judged again
        assert mirror.client.get(path).headers["Docker-Content-Digest"] == good
        mirror.work.wait()
        assert all(row.in_place for row in tag_statuses(mirror.store))


def test_a_policy_that_comes_later_judges_what_is_here_before_it_is_served(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """Also when the upstream is gone: the verdict is by what is stored."""
    signed = upstream.add_image("app", "signed", layers=(b"good",)).manifest.digest
    sign(upstream, signed, OURS)
    upstream.add_image("app", "unsigned", layers=(b"evil",))
    tags = ("signed", f"sha256-{signed.hex}.sig", "unsigned")
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert {mirror.client.get(f"/v2/app/manifests/{tag}").status_code for tag in tags} == {200}
        mirror.work.wait()
        for tag in tags:
            upstream.on(f"/v2/app/manifests/{tag}", answers(503))
        mirror.service.replace_profile(with_policy(tmp_path, upstream))
        found = {tag: mirror.client.get(f"/v2/app/manifests/{tag}").status_code for tag in tags}
        assert found.pop("unsigned") >= 400
        assert set(found.values()) == {200}


def test_a_changed_policy_finds_the_signature_here_also_when_nobody_pulled_that(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    image = upstream.add_image("app", "v1", layers=(b"good",)).manifest.digest
    sign(upstream, image, OURS)
    entry = document(f"http://{upstream.host}")
    with mirroring(tmp_path, entry, more=policy(upstream)) as mirror:
        assert mirror.client.get("/v2/app/manifests/v1").status_code == 200
        mirror.work.wait()
        for tag in ("v1", f"sha256-{image.hex}.sig"):
            upstream.on(f"/v2/app/manifests/{tag}", answers(503))
        mirror.service.replace_profile(with_policy(tmp_path, upstream, mode="warn"))
        assert mirror.client.get("/v2/app/manifests/v1").status_code == 200
    assert verdict_of(tmp_path, "v1").startswith("verified")


def verdict_of(folder: Path, tag: str) -> str:
    record = Store.open(folder / "store").repository(APP).tag(Tag(tag))
    return record.verdict if record else ""


def with_policy(folder: Path, upstream: Misbehaving, mode: str = "enforce") -> Profile:
    body = {
        "storage": {"rootDirectory": "store"},
        "sync": {"registries": [document(f"http://{upstream.host}")]},
        **policy(upstream, mode),
    }
    return parse_profile(json.dumps(body), folder / "profile.json").profile


def test_what_was_refused_is_not_judged_at_each_pull(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("app", "v1", layers=(b"evil",))
    with mirroring(tmp_path, document(f"http://{upstream.host}"), more=policy(upstream)) as mirror:
        asked = []
        for reference in ("v1", "v1", "v1"):
            assert mirror.client.get(f"/v2/app/manifests/{reference}").status_code == 403
            mirror.service._absent = TimedCache(
                10_000
            )  # as after the seconds for which "not there" is remembered
            asked.append(len(upstream.seen))
    assert asked[0] > 2
    assert [after - before for before, after in pairwise(asked)] == [1, 1]
