"""What a run leaves for the next one and for `status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from registry_server.oci import media_types
from registry_server.oci.reference import RepositoryName
from registry_server.store.store import Store
from tests.support_behaviours import answers
from tests.support_misbehaving import well_behaved
from tests.tasks.runs import sync

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.records import PollRecord
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
SCHEMA1 = b'{"schemaVersion": 1}'


def poll(folder: Path, name: str = NAME) -> PollRecord:
    found = Store.open(folder / "store").repository(RepositoryName(name)).poll("registry1")
    assert found is not None
    return found


def by_tag(tag: str) -> str:
    return f"/v2/{NAME}/manifests/{tag}"


def test_a_poll_without_news_writes_one_small_record_without_any_tag(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    for tag in ("1", "2", "3"):
        upstream.add_image(NAME, tag)
    sync(tmp_path, upstream)
    first = poll(tmp_path)
    sync(tmp_path, upstream)
    second = poll(tmp_path)
    assert second.checked > first.checked
    assert second.succeeded == second.checked
    assert (second.registry, second.upstream, second.problems, second.declined) == ("registry1", {}, {}, {})


def test_a_repository_without_any_wanted_tag_has_been_checked_as_well(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1")
    sync(tmp_path, upstream, {"prefix": NAME, "tags": {"regex": "9.*"}})
    assert poll(tmp_path).succeeded == poll(tmp_path).checked


def test_a_problem_is_remembered_with_what_the_upstream_has_and_the_last_success_stays(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1")
    sync(tmp_path, upstream)
    before = poll(tmp_path)
    digest = upstream.add_image(NAME, "1", (b"newer",)).manifest.digest
    upstream.on(by_tag(digest), answers(403))
    report = sync(tmp_path, upstream)
    after = poll(tmp_path)
    assert after.upstream == {"1": digest}
    assert after.problems == {"1": report.images[0].reason}
    assert after.succeeded == before.succeeded
    assert after.checked > before.checked


def test_a_repository_that_cannot_be_listed_is_a_problem_of_all_the_places_it_goes_to(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.on(f"/v2/{NAME}/tags/list", answers(403))
    sync(tmp_path, upstream, {"prefix": NAME}, {"prefix": NAME, "destination": "/other"})
    for name in (NAME, f"other/{NAME}"):
        assert poll(tmp_path, name).problems == {"": f"{upstream.host}: {NAME}: 403 Forbidden"}


def test_a_run_for_one_image_changes_the_record_of_that_image_only(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_manifest(NAME, "old", SCHEMA1, media_types.DOCKER_SCHEMA1)
    for tag in ("1", "2", "3"):
        upstream.add_image(NAME, tag, (tag.encode(),))
        upstream.on(by_tag(tag), answers(403))
    sync(tmp_path, upstream)
    before = poll(tmp_path)
    assert set(before.problems) == {"1", "2", "3"}
    upstream.on(by_tag("1"), well_behaved)
    upstream.on(by_tag("2"), answers(404))
    sync(tmp_path, upstream, only=[f"{NAME}:1", f"{NAME}:2"])
    after = poll(tmp_path)
    assert set(after.problems) == {"2", "3"}
    assert "404 Not Found" in after.problems["2"], "what this run saw, not what the last one did"
    assert after.problems["3"] == before.problems["3"]
    assert after.declined == before.declined
    assert set(after.upstream) == {"old"}
    assert after.succeeded is None


def test_what_was_left_out_and_is_wanted_now_is_not_remembered_as_left_out(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    upstream.add_image(NAME, "1")
    sync(tmp_path, upstream, {"prefix": NAME, "select": "tag == 'never'"})
    assert set(poll(tmp_path).declined) == {"1"}
    sync(tmp_path, upstream, {"prefix": NAME, "select": "tag == '1'"}, only=[f"{NAME}:1"])
    assert poll(tmp_path).declined == {}
