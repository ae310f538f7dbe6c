"""`tagListing`: a list of what upstream has, so that who looks for new versions finds them."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from flows.demo.sample_images import ImageMaker, layer
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import TagRecord
from tests.on_demand.mirrors import document, mirroring
from tests.support_misbehaving import Misbehaving, answers, hangs, misbehaving, well_behaved

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.on_demand.mirrors import Mirror

NAME = "library/nginx"
LIST = f"/v2/{NAME}/tags/list"
ALL = ["1.24", "1.25", "2.0", "latest"]


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        for tag in ALL:
            server.add_image(NAME, tag, layers=(tag.encode(),))
        yield server


def push(mirror: Mirror, tag: str) -> None:
    """Of our own, as a client would."""
    repository = mirror.store.repository(RepositoryName(NAME))
    made = ImageMaker(repository).image([layer("ours", 10)])
    repository.put_tag(Tag(tag), TagRecord(made.digest, made.media_type, made.size, 0.0))


def tags(mirror: Mirror, path: str = LIST, **query: Any) -> list[str]:
    got = mirror.client.get(path, params=query)
    assert got.status_code == 200, got.text
    found: list[str] = got.json()["tags"]
    return found


VERSIONS = [{"prefix": "library/*", "tags": {"semver": True}}]
NEWEST = [{"prefix": "library/*", "tags": {"semver": True, "newest": 1}}]


@pytest.mark.parametrize(
    ("listing", "content", "found"),
    [
        pytest.param("local", [], ["1.25", "ours"], id="local"),
        pytest.param("upstream", [], ALL, id="upstream"),
        pytest.param("merged", [], [*ALL, "ours"], id="both"),
        pytest.param("merged", VERSIONS, ["1.24", "1.25", "2.0", "ours"], id="by the filters"),
        pytest.param("upstream", NEWEST, ["2.0"], id="the newest"),
        pytest.param("upstream", [{"prefix": "other"}], ["1.25", "ours"], id="no rule takes it"),
    ],
)
def test_a_list_is_what_the_entry_says(
    tmp_path: Path, upstream: Misbehaving, listing: str, content: list[dict[str, Any]], found: list[str]
) -> None:
    entry = document(f"http://{upstream.host}", tagListing=listing, content=content)
    with mirroring(tmp_path, entry) as mirror:
        push(mirror, "1.25")
        push(mirror, "ours")
        assert tags(mirror) == found


def test_a_repository_of_which_nothing_is_here_has_a_list(tmp_path: Path, upstream: Misbehaving) -> None:
    with mirroring(tmp_path, document(f"http://{upstream.host}", tagListing="merged")) as mirror:
        assert tags(mirror) == ALL
        missing = mirror.client.get("/v2/library/nothing/tags/list")
        assert (missing.status_code, missing.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")


def test_pages_follow_one_another_and_ask_upstream_once(tmp_path: Path, upstream: Misbehaving) -> None:
    with mirroring(tmp_path, document(f"http://{upstream.host}", tagListing="upstream")) as mirror:
        path, found = f"{LIST}?n=3", list[str]()
        for _ in range(3):
            got = mirror.client.get(path)
            found += got.json()["tags"]
            if "Link" not in got.headers:
                break
            path = got.headers["Link"].partition(">")[0].removeprefix("<")
        assert found == ALL
        assert len(upstream.requests(path=LIST)) == 1
        assert tags(mirror, last="1.24x", n=1) == ["1.25"]
        assert tags(mirror, last="latest") == []
        assert tags(mirror, n=0) == []
        assert mirror.client.get(LIST, params={"n": "x"}).status_code == 400


def test_a_list_by_namespace_goes_on_by_namespace(tmp_path: Path, upstream: Misbehaving) -> None:
    content = [{"prefix": "library/*", "destination": "/hub"}]
    entry = document(f"http://{upstream.host}", tagListing="upstream", content=content)
    with mirroring(tmp_path, entry) as mirror:
        first = mirror.client.get(LIST, params={"ns": upstream.host, "n": 2})
        assert (first.json()["name"], first.json()["tags"]) == (NAME, ALL[:2])
        second = mirror.client.get(first.headers["Link"].partition(">")[0].removeprefix("<"))
        assert second.json()["tags"] == ALL[2:]
        assert tags(mirror, "/v2/hub/library/nginx/tags/list") == ALL


def test_a_list_is_asked_for_once_while_it_is_fresh(tmp_path: Path, upstream: Misbehaving) -> None:
    for interval, asked in (("1h", 1), ("0s", 3)):
        before = len(upstream.requests(path=LIST))
        entry = document(f"http://{upstream.host}", tagListing="upstream", manifestCheckInterval=interval)
        with mirroring(tmp_path / interval, entry) as mirror:
            assert [tags(mirror) for _ in range(3)] == [ALL] * 3
        assert len(upstream.requests(path=LIST)) - before == asked


def _slowly(exchange: Any) -> None:
    time.sleep(0.5)
    well_behaved(exchange)


def test_equal_questions_are_one(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.on(LIST, _slowly)
    with (
        mirroring(tmp_path, document(f"http://{upstream.host}", tagListing="upstream")) as mirror,
        ThreadPoolExecutor(20) as clients,
    ):
        assert list(clients.map(lambda _: tags(mirror), range(20))) == [ALL] * 20
    assert len(upstream.requests(path=LIST)) <= 3  # who comes after the answer asks anew


@pytest.mark.parametrize("fails", [pytest.param(answers(503), id="503"), pytest.param(hangs, id="hangs")])
def test_the_list_of_what_is_here_is_there_when_upstream_is_not(
    tmp_path: Path, upstream: Misbehaving, fails: Any
) -> None:
    entry = document(f"http://{upstream.host}", tagListing="upstream", responseHeaderTimeout="2s")
    with mirroring(tmp_path, entry) as mirror:
        push(mirror, "ours")
        upstream.on(LIST, fails)
        got = mirror.client.get(LIST)
        assert got.json()["tags"] == ["ours"]
        assert got.headers["Warning"].startswith('299 - "not checked')
        upstream.on("/v2/library/nothing/tags/list", fails)
        nothing = mirror.client.get("/v2/library/nothing/tags/list")
        assert nothing.status_code in (502, 503, 504)
        mirror.stop_receiver()
        assert mirror.client.get(LIST).headers["Warning"].startswith("299")


def test_of_several_registries_the_list_has_what_can_be_pulled(tmp_path: Path, upstream: Misbehaving) -> None:
    with misbehaving() as second:
        second.add_image(NAME, "3.0")
        entries = [
            document(f"http://{upstream.host}", tagListing="upstream"),
            document(f"http://{second.host}", tagListing="upstream") | {"name": "registry2"},
        ]
        with mirroring(tmp_path, *entries) as mirror:
            assert tags(mirror) == sorted([*ALL, "3.0"])
            second.on(LIST, answers(503))
            got = mirror.client.get(LIST)
            assert got.json()["tags"] == ALL
            assert "incomplete" in got.headers["Warning"]
