"""A miss is fetched, answered at once, and completed behind the client; each byte leaves upstream once."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx
import pytest

from registry_server.http.auth.access_options import AccessOptions
from registry_server.http.auth.access_rules import READ, AccessRules, RepositoryRule
from registry_server.oci import media_types
from registry_server.oci.descriptor import Platform
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Miss, Refusal, TheManifest
from tests.on_demand.mirrors import document, minding, mirroring
from tests.support_misbehaving import Misbehaving, answers, misbehaving
from tests.tasks.runs import add_index, assert_complete, visible
from tests.tasks.test_verifying import APP, fill, policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor
    from tests.on_demand.mirrors import Mirror


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def pull(mirror: Mirror, repository: str, reference: str) -> None:
    """A manifest and its blobs, each checked."""
    got = mirror.client.get(f"/v2/{repository}/manifests/{reference}")
    assert got.status_code == 200, got.text
    document = got.json()
    for blob in [document["config"], *document["layers"]]:
        content = mirror.client.get(f"/v2/{repository}/blobs/{blob['digest']}")
        assert content.status_code == 200, content.text
        assert Digest.of(content.content) == blob["digest"]


def platform_entry(descriptor: Descriptor, architecture: str) -> Descriptor:
    return replace(descriptor, platform=Platform("linux", architecture))


def test_an_image_is_fetched_once_and_tagged_when_it_is_whole(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image("library/nginx", "1.25", layers=(b"a" * 3_000_000, b"b" * 10))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        head = mirror.client.head("/v2/library/nginx/manifests/1.25")
        assert head.headers["Docker-Content-Digest"] == image.manifest.digest
        assert "Cache-Control" not in head.headers
        pull(mirror, "library/nginx", "1.25")
        mirror.work.wait()
        assert_complete(mirror.store, "library/nginx:1.25")
        assert len(upstream.requests("GET", "/manifests/")) == 1
        assert len(upstream.requests("GET", "/blobs/")) == 3
        record = mirror.store.repository(RepositoryName("library/nginx")).tag(Tag("1.25"))
    assert record is not None
    assert record.origin is not None
    assert record.origin.registry == "registry1"


def test_fifty_clients_on_a_cold_image_cost_upstream_one_download(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    upstream.add_image("library/big", "1", layers=(b"x" * 5_000_000, b"y" * 3_000_000))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        with ThreadPoolExecutor(50) as clients:
            list(clients.map(lambda _: pull(mirror, "library/big", "1"), range(50)))
        mirror.work.wait()
        assert_complete(mirror.store, "library/big:1")
    blobs = [each.target for each in upstream.requests("GET", "/blobs/")]
    assert len(blobs) == len(set(blobs)) == 3


def test_of_an_index_only_the_platform_that_is_asked_for_is_fetched(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    amd = upstream.add_image("multi", "amd", layers=(b"amd" * 1000,))
    arm = upstream.add_image("multi", "arm", layers=(b"arm" * 1000,))
    index = add_index(
        upstream, "multi", "1", platform_entry(amd.manifest, "amd64"), platform_entry(arm.manifest, "arm64")
    )
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert mirror.client.get("/v2/multi/manifests/1").status_code == 200
        mirror.work.wait()
        assert visible(mirror.store) == []
        pull(mirror, "multi", amd.manifest.digest)
        mirror.work.wait()
        record = mirror.store.repository(RepositoryName("multi")).tag(Tag("1"))
        assert record is not None
        assert (record.digest, record.sparse) == (index.digest, (arm.manifest.digest,))
        assert not upstream.requests("GET", arm.layers[0].digest)
        pull(mirror, "multi", arm.manifest.digest)
        mirror.work.wait()
        record = mirror.store.repository(RepositoryName("multi")).tag(Tag("1"))
        assert record is not None
        assert record.sparse == ()
        assert_complete(mirror.store, "multi:1")


def test_all_platforms_follow_when_the_entry_says_so(tmp_path: Path, upstream: Misbehaving) -> None:
    amd = upstream.add_image("multi", "amd", layers=(b"amd" * 1000,))
    arm = upstream.add_image("multi", "arm", layers=(b"arm" * 1000,))
    add_index(
        upstream, "multi", "1", platform_entry(amd.manifest, "amd64"), platform_entry(arm.manifest, "arm64")
    )
    with mirroring(tmp_path, document(f"http://{upstream.host}", onDemandPlatforms="all")) as mirror:
        assert mirror.client.get("/v2/multi/manifests/1").status_code == 200
        mirror.work.wait()
        record = mirror.store.repository(RepositoryName("multi")).tag(Tag("1"))
        assert record is not None
        assert record.sparse == ()
        assert_complete(mirror.store, "multi:1")


RULES = [
    {"prefix": "library/*", "tags": {"regex": "1\\..*"}},
    {"prefix": "apps/**", "destination": "/mine", "stripPrefix": True, "tags": {"semver": True, "newest": 1}},
]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        pytest.param("library/nginx/manifests/1.25", 200, id="a rule takes it"),
        pytest.param("library/nginx/manifests/2.0", 404, id="the tag is filtered out"),
        pytest.param("other/nginx/manifests/1.25", 404, id="no rule takes the repository"),
        pytest.param("mine/web/manifests/2.0.0", 200, id="by its destination"),
        pytest.param("mine/web/manifests/1.0.0", 404, id="older than the newest"),
        pytest.param("apps/web/manifests/2.0.0", 404, id="by its name there"),
    ],
)
def test_the_filters_of_the_rules_hold(tmp_path: Path, upstream: Misbehaving, name: str, status: int) -> None:
    for repository, tag in [
        ("library/nginx", "1.25"),
        ("library/nginx", "2.0"),
        ("other/nginx", "1.25"),
        ("apps/web", "1.0.0"),
        ("apps/web", "2.0.0"),
    ]:
        upstream.add_image(repository, tag, layers=(f"{repository}:{tag}".encode(),))
    repository, _, tag = name.partition("/manifests/")
    with minding(tmp_path, document(f"http://{upstream.host}", content=RULES)) as (_, service, *_):
        got = service.answer(Miss("manifest", RepositoryName(repository), Tag(tag)), 20)
    assert isinstance(got, TheManifest) == (status == 200)
    if status == 404 and "mine/web" not in name:
        assert upstream.seen == []  # nobody was asked


def test_a_digest_is_no_way_around_a_filter_for_tags(tmp_path: Path, upstream: Misbehaving) -> None:
    hidden = upstream.add_image("library/nginx", "2.0", layers=(b"hidden",))
    upstream.add_image("library/nginx", "1.25", layers=(b"shown",))
    with mirroring(tmp_path, document(f"http://{upstream.host}", content=RULES)) as mirror:
        assert mirror.client.get("/v2/library/nginx/manifests/1.25").status_code == 200
        refused = mirror.client.get(f"/v2/library/nginx/manifests/{hidden.manifest.digest}")
        assert refused.status_code == 404
        assert "by digest" in refused.json()["errors"][0]["detail"]["cause"]
        assert mirror.client.get(f"/v2/library/nginx/blobs/{hidden.layers[0].digest}").status_code == 404


def test_a_blob_of_another_repository_needs_a_manifest_that_names_it(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """Invariant 3: to know a digest is not a right to it, also when the pool has it."""
    image = upstream.add_image("private/app", "1", layers=(b"secret layer",))
    upstream.add_image("public/app", "1", layers=(b"other",))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        pull(mirror, "private/app", "1")
        pull(mirror, "public/app", "1")
        mirror.work.wait()
        assert mirror.client.get(f"/v2/public/app/blobs/{image.layers[0].digest}").status_code == 404


def test_the_first_entry_that_has_it_wins(tmp_path: Path, upstream: Misbehaving) -> None:
    with misbehaving() as second:
        upstream.add_image("both", "1", layers=(b"first",))
        second.add_image("both", "1", layers=(b"second",))
        only = second.add_image("only", "1", layers=(b"second",))
        entries = [
            document(f"http://{upstream.host}"),
            document(f"http://{second.host}") | {"name": "registry2"},
        ]
        with mirroring(tmp_path, *entries) as mirror:
            pull(mirror, "both", "1")
            assert not second.seen
            got = mirror.client.get("/v2/only/manifests/1")
            assert got.headers["Docker-Content-Digest"] == only.manifest.digest


def test_what_is_not_there_is_asked_for_once_in_some_seconds(tmp_path: Path, upstream: Misbehaving) -> None:
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        for _ in range(5):
            missing = mirror.client.get("/v2/library/nginx/manifests/9")
            assert missing.status_code == 404
            assert "404" in missing.json()["errors"][0]["detail"]["cause"]
    assert len(upstream.requests(path="/manifests/9")) == 1


def test_a_companion_comes_with_its_image_only(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image("library/nginx", "1.25", layers=(b"1",))
    signature = f"{image.manifest.digest.replace(':', '-')}.sig"
    upstream.add_image("library/nginx", signature, layers=(b"signature",))
    with mirroring(tmp_path, document(f"http://{upstream.host}", content=RULES)) as mirror:
        assert mirror.client.get(f"/v2/library/nginx/manifests/{signature}").status_code == 404
        pull(mirror, "library/nginx", "1.25")
        mirror.work.wait()
        assert mirror.client.get(f"/v2/library/nginx/manifests/{signature}").status_code == 200


def test_wrong_content_under_a_digest_is_refused(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image("library/nginx", "1.25", layers=(b"1",))
    other = json.dumps(json.loads(image.body) | {"annotations": {"a": "b"}}).encode()
    path = f"/v2/library/nginx/manifests/{image.manifest.digest}"
    upstream.on(path, answers(200, other, **{"Content-Type": media_types.OCI_MANIFEST}))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        refused = mirror.client.get(path)
        assert refused.status_code == 502
        assert visible(mirror.store) == []


def test_a_client_that_goes_away_cancels_nothing(tmp_path: Path, upstream: Misbehaving) -> None:
    upstream.add_image("library/nginx", "1.25", layers=(b"a" * 3_000_000,))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        layers = mirror.client.get("/v2/library/nginx/manifests/1.25").json()["layers"]
        with httpx.stream("GET", f"{mirror.url}/v2/library/nginx/blobs/{layers[0]['digest']}") as answer:
            next(answer.iter_bytes(10))
        mirror.work.wait()
        assert_complete(mirror.store, "library/nginx:1.25")


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        pytest.param("signed", "", id="signed by whom the profile trusts"),
        pytest.param("unsigned", "it has no signature", id="not signed"),
        pytest.param("stranger", "not admitted", id="signed by somebody else"),
    ],
)
def test_nothing_is_handed_out_or_kept_without_the_verdict_that_the_policy_wants(
    tmp_path: Path, upstream: Misbehaving, tag: str, reason: str
) -> None:
    """Invariant 4."""
    made = fill(upstream)
    entry = document(f"http://{upstream.host}")
    with minding(tmp_path, entry, more=policy(upstream)) as (_, service, store, work):
        by_tag = service.answer(Miss("manifest", APP, Tag(tag)), 20)
        by_digest = service.answer(Miss("manifest", APP, made[tag]), 20)
        work.wait()
        for got in (by_tag, by_digest):
            assert isinstance(got, Refusal) == bool(reason)
            if isinstance(got, Refusal):
                assert (got.status, got.code) == (403, "DENIED")
                assert reason in got.cause
        signature = f"app:sha256-{made[tag].hex}.sig"  # comes after it: a later policy judges by that
        assert visible(store) == ([signature, f"app:{tag}"] if not reason else [])
        assert store.repository(APP).has_blob(made[tag]) == (not reason)


def test_a_policy_whose_signatures_cannot_be_asked_for_is_an_error(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    """And what an earlier verdict let in stays, with a warning."""
    made = fill(upstream)
    signature = f"/v2/app/manifests/sha256-{made['signed'].hex}.sig"
    upstream.on(signature, answers(503))
    entry = document(f"http://{upstream.host}")
    with minding(tmp_path, entry, more=policy(upstream)) as (_, service, store, _):
        got = service.answer(Miss("manifest", APP, Tag("signed")), 20)
        assert isinstance(got, Refusal)
        assert got.status == 502
        assert visible(store) == []


def test_what_one_entry_refuses_is_not_taken_from_the_next(tmp_path: Path, upstream: Misbehaving) -> None:
    fill(upstream)
    with misbehaving() as second:
        second.add_image("app", "unsigned")
        entries = [
            document(f"http://{upstream.host}"),
            document(f"http://{second.host}") | {"name": "registry2"},
        ]
        with minding(tmp_path, *entries, more=policy(upstream)) as (_, service, *_):
            got = service.answer(Miss("manifest", APP, Tag("unsigned")), 20)
        assert isinstance(got, Refusal)
        assert second.seen == []


def test_for_who_may_not_read_nothing_is_fetched(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image("closed/app", "1")
    upstream.add_image("open/app", "1")
    rule = RepositoryRule("open/**", re.compile("open/.*"), anonymous=READ)
    access = AccessOptions(AccessRules((rule,)))
    with mirroring(tmp_path, document(f"http://{upstream.host}"), access=access) as mirror:
        pull(mirror, "open/app", "1")
        asked = len(upstream.seen)
        for path in ("manifests/1", f"manifests/{image.manifest.digest}", f"blobs/{image.layers[0].digest}"):
            assert mirror.client.get(f"/v2/closed/app/{path}").status_code == 404
        assert len(upstream.seen) == asked
