"""Who asks for referrers gets those that upstream has: by its API, or from the fallback tag."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.oci import media_types
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from tasks.on_demand.answers import Local, Miss, Refusal
from tests.on_demand.mirrors import document, minding, mirroring
from tests.support_misbehaving import Misbehaving, answers, hangs, misbehaving, resets, well_behaved
from tests.tasks.runs import add_document, add_index
from tests.tasks.test_verifying import APP, fill, policy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.on_demand.mirrors import Mirror

REPOSITORY = "library/nginx"
SBOM = "application/spdx+json"


@pytest.fixture
def upstream() -> Iterator[Misbehaving]:
    with misbehaving() as server:
        yield server


def add_artifact(
    upstream: Misbehaving, subject: Descriptor, content: bytes, repository: str = REPOSITORY, **fields: Any
) -> Descriptor:
    """An SBOM of `subject`; only its digest leads to it."""
    config = upstream.add_blob(repository, b"{}", "application/vnd.oci.empty.v1+json")
    layer = upstream.add_blob(repository, content, SBOM)
    document = {
        "artifactType": SBOM,
        "config": config.to_json(),
        "layers": [layer.to_json()],
        "subject": subject.to_json(),
    }
    digest = str(Digest.of(content))
    return add_document(upstream, repository, digest, media_types.OCI_MANIFEST, **document, **fields)


def answer_by_api(upstream: Misbehaving, subject: Descriptor, *found: Descriptor) -> str:
    """From now on; the path of the API."""
    path = f"/v2/{REPOSITORY}/referrers/{subject.digest}"
    upstream.on(path, answers(200, _index(*found), **{"Content-Type": media_types.OCI_INDEX}))
    return path


def _index(*found: Descriptor) -> bytes:
    manifests = [each.to_json() for each in found]
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": manifests}
    return json.dumps(index).encode()


def answer_by_tag(upstream: Misbehaving, subject: Descriptor, *found: Descriptor) -> str:
    tag = subject.digest.replace(":", "-")
    add_index(upstream, REPOSITORY, tag, *found)
    return f"/v2/{REPOSITORY}/manifests/{tag}"


def listed(mirror: Mirror, subject: Descriptor, **query: str) -> tuple[list[str], str]:
    """The digests, and what the answer warns of."""
    got = mirror.client.get(f"/v2/{REPOSITORY}/referrers/{subject.digest}", params=query)
    assert got.status_code == 200, got.text
    assert got.headers["Content-Type"] == media_types.OCI_INDEX
    return [each["digest"] for each in got.json()["manifests"]], got.headers.get("Warning", "")


@pytest.mark.parametrize(
    "announce",
    [pytest.param(answer_by_api, id="by the API"), pytest.param(answer_by_tag, id="by the fallback tag")],
)
def test_referrers_come_with_their_question_and_can_be_pulled(
    tmp_path: Path, upstream: Misbehaving, announce: Any
) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    large = b"sbom" * 1_000_000
    found = [add_artifact(upstream, image.manifest, content) for content in (b"small", large)]
    announce(upstream, image.manifest, *found)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert mirror.client.get(f"/v2/{REPOSITORY}/manifests/1.25").status_code == 200
        assert listed(mirror, image.manifest) == (sorted(each.digest for each in found), "")
        assert listed(mirror, image.manifest, artifactType="application/other") == ([], "")
        mirror.work.wait()
        repository = mirror.store.repository(RepositoryName(REPOSITORY))
        assert repository.has_blob(Digest.of(b"small"))
        assert not repository.has_blob(Digest.of(large))  # nobody has asked for it
        for each, content in zip(found, (b"small", large), strict=True):
            artifact = mirror.client.get(f"/v2/{REPOSITORY}/manifests/{each.digest}").json()
            layer = artifact["layers"][0]["digest"]
            assert mirror.client.get(f"/v2/{REPOSITORY}/blobs/{layer}").content == content


def test_a_subject_that_is_not_here_is_brought_first(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    artifact = add_artifact(upstream, image.manifest, b"sbom")
    answer_by_api(upstream, image.manifest, artifact)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert listed(mirror, image.manifest) == ([artifact.digest], "")


def test_new_referrers_are_seen_when_the_list_is_not_fresh_any_more(
    tmp_path: Path, upstream: Misbehaving
) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    path = answer_by_api(upstream, image.manifest)
    entries = (
        document(f"http://{upstream.host}"),
        document(f"http://{upstream.host}", manifestCheckInterval="1h"),
    )
    for number, (entry, asked) in enumerate(zip(entries, (2, 1), strict=True)):
        with mirroring(tmp_path / str(number), entry) as mirror:
            answer_by_api(upstream, image.manifest)
            assert listed(mirror, image.manifest) == ([], "")
            new = add_artifact(upstream, image.manifest, b"sbom")
            answer_by_api(upstream, image.manifest, new)
            before = len(upstream.requests(path=path))
            assert listed(mirror, image.manifest) == ([new.digest] if asked == 2 else [], "")
            assert len(upstream.requests(path=path)) - before == asked - 1


def test_equal_questions_are_one(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    artifacts = [add_artifact(upstream, image.manifest, str(number).encode()) for number in range(20)]
    path = answer_by_api(upstream, image.manifest, *artifacts)
    entry = document(f"http://{upstream.host}", manifestCheckInterval="1h")
    with mirroring(tmp_path, entry) as mirror:
        mirror.client.get(f"/v2/{REPOSITORY}/manifests/1.25")
        with ThreadPoolExecutor(20) as clients:
            got = list(clients.map(lambda _: listed(mirror, image.manifest), range(20)))
    assert got == [(sorted(each.digest for each in artifacts), "")] * 20
    assert len(upstream.requests(path=path)) == 1
    assert all(len(upstream.requests("GET", each.digest)) == 1 for each in artifacts)


@pytest.mark.parametrize(
    "fails",
    [
        pytest.param(answers(503), id="503"),
        pytest.param(resets, id="breaks"),
        pytest.param(hangs, id="hangs"),
    ],
)
def test_what_is_here_is_listed_with_a_warning_when_upstream_fails(
    tmp_path: Path, upstream: Misbehaving, fails: Any
) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    artifact = add_artifact(upstream, image.manifest, b"sbom")
    path = answer_by_api(upstream, image.manifest, artifact)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert listed(mirror, image.manifest) == ([artifact.digest], "")
        upstream.on(path, fails)
        digests, warning = listed(mirror, image.manifest)
        assert digests == [artifact.digest]
        assert warning.startswith('299 - "not checked')
        mirror.stop_receiver()
        digests, warning = listed(mirror, image.manifest)
        assert (digests, warning[:3]) == ([artifact.digest], "299")


def test_an_error_is_no_empty_list(tmp_path: Path, upstream: Misbehaving) -> None:
    """Invariant 4: nothing is here, and upstream cannot be asked: that is not "unsigned"."""
    image = upstream.add_image(REPOSITORY, "1.25")
    upstream.on(f"/v2/{REPOSITORY}/manifests/{image.manifest.digest}", answers(503))
    path = f"/v2/{REPOSITORY}/referrers/{image.manifest.digest}"
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        assert mirror.client.get(path).status_code == 502
        upstream.on(f"/v2/{REPOSITORY}/manifests/{image.manifest.digest}", well_behaved)
        upstream.on(path, answers(503))
        mirror.stop_receiver()
        assert mirror.client.get(path).status_code == 503


def test_a_referrer_that_cannot_be_had_is_told_of(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    artifacts = [add_artifact(upstream, image.manifest, content) for content in (b"one", b"two")]
    answer_by_api(upstream, image.manifest, *artifacts)
    upstream.on(f"/v2/{REPOSITORY}/manifests/{artifacts[0].digest}", answers(503))
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        mirror.client.get(f"/v2/{REPOSITORY}/manifests/1.25")
        digests, warning = listed(mirror, image.manifest)
    assert digests == [artifacts[1].digest]
    assert "some referrers are missing" in warning


def test_what_is_no_referrer_of_the_subject_is_not_brought(tmp_path: Path, upstream: Misbehaving) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    other = upstream.add_image(REPOSITORY, "2.0", layers=(b"other",))
    lie = add_artifact(upstream, other.manifest, b"of another image")
    answer_by_api(upstream, image.manifest, lie, other.manifest)
    with mirroring(tmp_path, document(f"http://{upstream.host}")) as mirror:
        mirror.client.get(f"/v2/{REPOSITORY}/manifests/1.25")
        assert listed(mirror, image.manifest) == ([], "")
        assert not mirror.store.repository(RepositoryName(REPOSITORY)).has_blob(lie.digest)


RULES = [{"prefix": REPOSITORY, "tags": {"regex": "1\\..*"}}]


def test_only_what_the_rules_cover_is_asked_for(tmp_path: Path, upstream: Misbehaving) -> None:
    shown, hidden = (upstream.add_image(REPOSITORY, tag, layers=(tag.encode(),)) for tag in ("1.25", "2.0"))
    for image in (shown, hidden):
        answer_by_api(upstream, image.manifest, add_artifact(upstream, image.manifest, image.body))
    with minding(tmp_path, document(f"http://{upstream.host}", content=RULES)) as (_, service, store, work):
        name = RepositoryName(REPOSITORY)
        assert isinstance(service.answer(Miss("referrers", name, hidden.manifest.digest), 20), Local)
        assert isinstance(
            service.answer(Miss("referrers", RepositoryName("other"), hidden.manifest.digest), 20), Local
        )
        assert upstream.seen == []
        service.answer(Miss("manifest", name, Tag("1.25")), 20)
        service.answer(Miss("referrers", name, shown.manifest.digest), 20)
        work.wait()
        assert len(store.repository(name).referrers(shown.manifest.digest)) == 1


@pytest.mark.parametrize(
    ("tag", "status"), [pytest.param("signed", 0, id="admitted"), pytest.param("unsigned", 403, id="refused")]
)
def test_a_policy_holds_for_the_subject_and_for_what_could_be_run(
    tmp_path: Path, upstream: Misbehaving, tag: str, status: int
) -> None:
    """Invariant 4: an image under another one's verdict is none."""
    made = fill(upstream)
    subject = Descriptor(
        media_types.OCI_MANIFEST, made[tag], len(upstream.repositories["app"].manifests[tag][1])
    )
    sbom = add_artifact(upstream, subject, b'{"spdxVersion": "SPDX-2.3"}', "app")
    disguised = upstream.add_blob("app", b"{}", media_types.OCI_CONFIG)
    layer = upstream.add_blob("app", b"rootfs", "application/vnd.oci.image.layer.v1.tar")
    fields = {"config": disguised.to_json(), "layers": [layer.to_json()], "subject": subject.to_json()}
    runnable = add_document(upstream, "app", "sha256:x", media_types.OCI_MANIFEST, **fields)
    upstream.on(f"/v2/app/referrers/{subject.digest}", answers(200, _index(sbom, runnable)))
    with minding(tmp_path, document(f"http://{upstream.host}"), more=policy(upstream)) as (
        _,
        service,
        store,
        work,
    ):
        got = service.answer(Miss("referrers", APP, made[tag]), 20)
        work.wait()
        assert (got.status if isinstance(got, Refusal) else 0) == status
        found = store.repository(APP).referrers(made[tag]) if not status else []
        assert [each.digest for each in found] == ([sbom.digest] if not status else [])
        assert not store.repository(APP).has_blob(runnable.digest)


@pytest.mark.parametrize(
    ("referrers", "found"),
    [
        pytest.param({}, True, id="all"),
        pytest.param({"artifactTypes": ["application/spdx*"]}, True, id="of this type"),
        pytest.param({"artifactTypes": ["application/vnd.dev.cosign*"]}, False, id="of others"),
        pytest.param({"annotations": {"team": "a*"}}, False, id="with an annotation"),
        pytest.param({"follow": False}, False, id="none"),
    ],
)
def test_the_rule_says_which_referrers_follow(
    tmp_path: Path, upstream: Misbehaving, referrers: dict[str, Any], *, found: bool
) -> None:
    image = upstream.add_image(REPOSITORY, "1.25")
    answer_by_api(upstream, image.manifest, add_artifact(upstream, image.manifest, b"sbom"))
    content = [{"prefix": "**", "referrers": referrers}]
    name = RepositoryName(REPOSITORY)
    with minding(tmp_path, document(f"http://{upstream.host}", content=content)) as (_, service, store, work):
        service.answer(Miss("manifest", name, Tag("1.25")), 20)
        assert isinstance(service.answer(Miss("referrers", name, image.manifest.digest), 20), Local)
        work.wait()
        assert bool(store.repository(name).referrers(image.manifest.digest)) is found
