"""`convert: oci` on demand: who asks for a tag gets the converted image, and the original by its digest."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tests.on_demand.mirrors import document, mirroring
from tests.registry_server.store.gc.collecting import age, gc
from tests.support_misbehaving import answers, misbehaving
from tests.tasks.convert_manifest.docker_images import add_docker_image, add_docker_list, add_referrer
from tests.tasks.runs import add_document, asked, sync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.store.records import TagRecord
    from tests.on_demand.mirrors import Mirror
    from tests.support_misbehaving import Misbehaving

NAME = "library/nginx"
BY_TAG = f"/v2/{NAME}/manifests/1.25"


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as found:
        yield found


def entry(upstream: Misbehaving, **rule: Any) -> dict[str, Any]:
    return document(f"http://{upstream.host}", content=[{"prefix": "**", "convert": "oci", **rule}])


def tagged(mirror: Mirror) -> TagRecord:
    mirror.work.wait()
    record = mirror.store.repository(RepositoryName(NAME)).tag(Tag("1.25"))
    assert record is not None
    return record


def test_a_tag_answers_the_converted_image_and_its_original_is_here_too(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_image(upstream, NAME, "1.25")
    with mirroring(tmp_path, entry(upstream)) as mirror:
        answer = mirror.client.get(BY_TAG)
        found = answer.json()
        assert answer.headers["Content-Type"] == found["mediaType"] == media_types.OCI_MANIFEST
        for blob in (found["config"], *found["layers"]):
            assert mirror.client.get(f"/v2/{NAME}/blobs/{blob['digest']}").status_code == 200
        record = tagged(mirror)
        assert (record.digest, record.converted_from) == (
            answer.headers["Docker-Content-Digest"],
            original.digest,
        )
        asked(upstream)
        again = mirror.client.get(BY_TAG)
        assert again.content == answer.content
        assert asked(upstream) == {"HEAD manifests": 1}
        by_digest = mirror.client.get(f"/v2/{NAME}/manifests/{original.digest}")
        assert by_digest.headers["Content-Type"] == media_types.DOCKER_MANIFEST
        assert not asked(upstream)


def test_of_a_list_all_manifests_come_at_once_and_blobs_when_a_client_asks(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    with mirroring(tmp_path, entry(upstream)) as mirror:
        index = mirror.client.get(BY_TAG).json()
        assert index["mediaType"] == media_types.OCI_INDEX
        mirror.work.wait()
        assert asked(upstream) == {"GET manifests": 3}
        child = mirror.client.get(f"/v2/{NAME}/manifests/{index['manifests'][0]['digest']}").json()
        for blob in (child["config"], *child["layers"]):
            assert mirror.client.get(f"/v2/{NAME}/blobs/{blob['digest']}").status_code == 200
        record = tagged(mirror)
        assert record.converted_from == original.digest
        assert index["manifests"][1]["digest"] in record.sparse
        assert index["manifests"][0]["digest"] not in record.sparse
        assert asked(upstream) == {"GET blobs": 3}


def test_an_oci_index_is_answered_before_its_children_are_asked_for(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    child = upstream.add_image(NAME, "amd64")
    entries = [child.manifest.to_json()]
    add_document(upstream, NAME, "1.25", media_types.OCI_INDEX, manifests=entries)
    with mirroring(tmp_path, entry(upstream)) as mirror:
        assert mirror.client.get(BY_TAG).status_code == 200
        mirror.work.wait()
        assert asked(upstream) == {"GET manifests": 1}


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        pytest.param({}, 200, id="a rule that takes digests fetches the rest too"),
        pytest.param({"tags": {"regex": "1.*"}}, 404, id="one that chooses by tag hands out what it chose"),
    ],
)
def test_a_smaller_index_has_what_the_rule_wants_and_the_upstreams_is_had_by_its_digest(
    upstream: Misbehaving, tmp_path: Path, tags: dict[str, Any], status: int
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    platforms = {"only": ["linux/arm64"], "rewrite": True}
    with mirroring(tmp_path, entry(upstream, convert=None, platforms=platforms, **tags)) as mirror:
        index = mirror.client.get(BY_TAG).json()
        assert [each["platform"]["architecture"] for each in index["manifests"]] == ["arm64"]
        assert index["mediaType"] == media_types.DOCKER_LIST
        whole = mirror.client.get(f"/v2/{NAME}/manifests/{original.digest}").json()
        assert len(whole["manifests"]) == 2
        left_out = whole["manifests"][0]["digest"]
        assert mirror.client.get(f"/v2/{NAME}/manifests/{left_out}").status_code == status


def test_who_asks_what_refers_to_a_converted_image_gets_copies_that_name_it(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    original = add_docker_image(upstream, NAME, "1.25")
    sbom = add_referrer(upstream, original, "application/spdx+json", "sbom")
    signature = add_referrer(upstream, original, "application/vnd.cncf.notary.signature", "signature")
    listed = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX}
    body = json.dumps(listed | {"manifests": [sbom.to_json(), signature.to_json()]}).encode()
    upstream.on(f"/v2/{NAME}/referrers/{original.digest}", answers(200, body))
    with mirroring(tmp_path, entry(upstream)) as mirror:
        mirror.client.get(BY_TAG)
        digest = tagged(mirror).digest
        [copy] = mirror.client.get(f"/v2/{NAME}/referrers/{digest}").json()["manifests"]
        assert copy["artifactType"] == "application/spdx+json"
        copied = mirror.client.get(f"/v2/{NAME}/manifests/{copy['digest']}").json()
        assert copied["subject"]["digest"] == digest
        both = mirror.client.get(f"/v2/{NAME}/referrers/{original.digest}").json()["manifests"]
        assert {each["digest"] for each in both} == {sbom.digest, signature.digest}


def test_skopeo_pulls_it_while_it_arrives_and_a_poll_finds_the_same(
    upstream: Misbehaving, tmp_path: Path, skopeo: str
) -> None:
    original = add_docker_list(upstream, NAME, "1.25", "amd64", "arm64")
    with mirroring(tmp_path, entry(upstream)) as mirror:
        source, target = f"docker://{mirror.host}/{NAME}:1.25", f"oci:{tmp_path / 'layout'}:1"
        command = [skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", source, target]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        record = tagged(mirror)
        assert (record.converted_from, record.sparse) == (original.digest, ())
    asked(upstream)
    rule = {"prefix": NAME, "tags": {"regex": r"1\.25"}, "convert": "oci", "referrers": {"follow": False}}
    assert sync(tmp_path, upstream, rule).message == "1 of 1 images, nothing new"
    assert asked(upstream) == {"GET tags": 1, "HEAD manifests": 1}


def test_a_list_without_any_wanted_platform_is_not_there(upstream: Misbehaving, tmp_path: Path) -> None:
    add_docker_list(upstream, NAME, "1.25", "amd64")
    with mirroring(tmp_path, entry(upstream, platforms=["linux/arm64"])) as mirror:
        answer = mirror.client.get(BY_TAG)
        assert answer.status_code == 404
        assert "has none of the wanted platforms: linux/arm64" in answer.text


def test_what_was_collected_before_anybody_pulled_it_is_fetched_anew(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    add_docker_list(upstream, NAME, "1.25", "amd64")
    with mirroring(tmp_path, entry(upstream)) as mirror:
        first = mirror.client.get(BY_TAG)
        mirror.work.wait()
        age(mirror.store)
        gc(mirror.store)
        assert not mirror.store.repository(RepositoryName(NAME)).has_blob(
            Digest(first.headers["Docker-Content-Digest"])
        )
        assert mirror.client.get(BY_TAG).content == first.content


def test_where_only_a_poll_knows_which_rule_takes_a_tag_its_form_stays(
    upstream: Misbehaving, tmp_path: Path
) -> None:
    """The first rule takes the newest tag only, which nobody asks the upstream about for one tag."""
    kept = add_docker_image(upstream, NAME, "1.25")
    add_docker_image(upstream, NAME, "1.26")
    rules = [
        {"prefix": NAME, "tags": {"semver": True, "newest": 1}, "convert": "oci"},
        {"prefix": NAME, "tags": {"regex": "1.*"}},
    ]
    assert sync(tmp_path, upstream, *rules).complete
    with mirroring(tmp_path, document(f"http://{upstream.host}", content=rules)) as mirror:
        for _ in range(2):
            assert mirror.client.get(BY_TAG).headers["Docker-Content-Digest"] == kept.digest
        newest = mirror.client.get(f"/v2/{NAME}/manifests/1.26")
        assert newest.headers["Content-Type"] == media_types.OCI_MANIFEST
    assert sync(tmp_path, upstream, *rules).unchanged == 2
