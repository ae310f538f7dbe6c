"""tags/list, _catalog and referrers from a running server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from flows.demo.sample_images import layer
from registry_server.oci.digest import Digest
from registry_server.oci.media_types import OCI_INDEX

if TYPE_CHECKING:
    import httpx

    from tests.support.registries import Registry

# In ASCII order: digits, capitals, underscore, small letters.
TAGS = ["1.10.0", "1.9.0", "20240101", "V1", "_under", "latest", "v1.2.3"]
NAMES = ["zoo/a", "zoo/a-b", "zoo/a.b", "zoo/a/b", "zoo/a0"]  # - . / 0
SBOM = "application/spdx+json"


@pytest.fixture(scope="module", autouse=True)
def _content(registry: Registry) -> None:
    for name in ["library/tags", *NAMES]:
        maker = registry.maker(name)
        maker.tag(maker.image([layer("listed", 10)]), *reversed(TAGS))


def _pages(client: httpx.Client, path: str, key: str) -> list[list[str]]:
    """All pages, by following Link."""
    pages = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200
        pages.append(answer.json()[key])
        path = answer.links.get("next", {}).get("url", "")
    return pages


def test_tags_are_in_ascii_order(registry: Registry) -> None:
    answer = registry.client.get("/v2/library/tags/tags/list")
    assert answer.json() == {"name": "library/tags", "tags": TAGS}
    assert answer.headers["Content-Type"] == "application/json"
    assert "Link" not in answer.headers


@pytest.mark.parametrize("number", [1, 2, 3, 6, 7, 8])
def test_pages_of_tags_join_to_the_whole(registry: Registry, number: int) -> None:
    pages = _pages(registry.client, f"/v2/library/tags/tags/list?n={number}", "tags")
    assert [tag for page in pages for tag in page] == TAGS
    assert all(len(page) == number for page in pages[:-1])
    assert pages[-1]


@pytest.mark.parametrize(
    ("query", "tags"),
    [
        pytest.param("last=V1", TAGS[4:], id="last-is-exclusive"),
        pytest.param("last=W", TAGS[4:], id="last-need-not-exist"),
        pytest.param("last=v1.2.3", [], id="after-the-last"),
        pytest.param("n=2&last=V1", TAGS[4:6], id="both"),
        pytest.param("n=0", [], id="nothing"),
        pytest.param("n=99999999999999999999999", TAGS, id="more-than-there-are"),
        pytest.param("ns=docker.io&unknown=1", TAGS, id="other-parameters"),
    ],
)
def test_a_page_of_tags(registry: Registry, query: str, tags: list[str]) -> None:
    assert registry.client.get(f"/v2/library/tags/tags/list?{query}").json()["tags"] == tags


def test_n_0_has_no_next_page(registry: Registry) -> None:
    assert "Link" not in registry.client.get("/v2/library/tags/tags/list?n=0").headers


@pytest.mark.parametrize("path", ["library/tags/tags/list", "_catalog"])
@pytest.mark.parametrize("number", ["-1", "many", "", "1e3", "%D9%A5"])
def test_a_bad_n_is_refused(registry: Registry, path: str, number: str) -> None:
    answer = registry.client.get(f"/v2/{path}?n={number}")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "PAGINATION_NUMBER_INVALID"


def test_a_repository_without_tags_has_an_empty_list(registry: Registry) -> None:
    registry.maker("library/untagged").image([])
    answer = registry.client.get("/v2/library/untagged/tags/list")
    assert answer.json() == {"name": "library/untagged", "tags": []}


def test_a_repository_that_is_not_there_has_no_list(registry: Registry) -> None:
    answer = registry.client.get("/v2/library/none/tags/list")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")


def test_head_of_a_list_has_its_length_and_no_body(registry: Registry) -> None:
    got = registry.client.get("/v2/library/tags/tags/list")
    head = registry.client.head("/v2/library/tags/tags/list")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == got.headers["Content-Length"]


@pytest.mark.parametrize("number", [1, 2, 4, 100])
def test_the_catalog_is_in_the_order_of_full_names(registry: Registry, number: int) -> None:
    pages = _pages(registry.client, f"/v2/_catalog?n={number}&last=zon", "repositories")
    assert [name for page in pages for name in page] == NAMES


def test_referrers_of_anything_are_an_index(registry: Registry) -> None:
    for name in ("library/tags", "library/none"):
        answer = registry.client.get(f"/v2/{name}/referrers/{Digest.of(b'nothing')}")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == OCI_INDEX
        assert answer.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def test_referrers_are_filtered_by_type_and_say_so(registry: Registry) -> None:
    maker = registry.maker("library/subject")
    image = maker.image([])
    notes = {"org.example.note": "for the list"}
    sbom = maker.artifact(SBOM, b"{}", content_type=SBOM, subject=image, annotations=notes)
    signature = maker.artifact("application/x.sig", b"s", content_type="text/plain", subject=image)
    path = f"/v2/library/subject/referrers/{image.digest}"

    everything = registry.client.get(path)
    assert {each["digest"] for each in everything.json()["manifests"]} == {sbom.digest, signature.digest}
    assert "OCI-Filters-Applied" not in everything.headers

    filtered = registry.client.get(path, params={"artifactType": SBOM})
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    expected = sbom.to_json() | {"artifactType": SBOM, "annotations": notes}
    assert filtered.json()["manifests"] == [expected]

    nothing = registry.client.get(path, params={"artifactType": "application/none"})
    assert nothing.json()["manifests"] == []


def test_a_long_list_of_referrers_has_pages_that_clients_can_read(registry: Registry) -> None:
    maker = registry.maker("library/popular")
    image = maker.image([])
    made = {
        maker.artifact(
            SBOM, b"{}", content_type=SBOM, subject=image, annotations={"n": f"{n}" * 900_000}
        ).digest
        for n in range(5)
    }
    path, seen, pages = f"/v2/library/popular/referrers/{image.digest}?artifactType={SBOM}", [], 0
    while path:
        answer = registry.client.get(path)
        assert len(answer.content) < 4 * 1024 * 1024
        seen += [each["digest"] for each in json.loads(answer.content)["manifests"]]
        path = answer.links.get("next", {}).get("url", "")
        pages += 1
    assert len(seen) == len(made)
    assert set(seen) == made
    assert pages > 1
