"""A Helm repository goes through the steps of any run, and becomes OCI charts with lasting digests."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from flows.doctor.checks import build_checks
from flows.doctor.findings import CheckStatus
from profiles.loader import parse_profile
from registry_server.oci.descriptor import Descriptor
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.store import Store
from tasks.upstream.blob import InMemory
from tasks.upstream.helm.chart import ARCHIVE, CONFIG
from tasks.upstream.helm.chart import PROVENANCE as PROVENANCE_TYPE
from tasks.upstream.helm.repository import HelmRepository
from tasks.upstream.login.credentials import NoCredentials
from tasks.upstream.options import PlainUrl, UpstreamOptions
from tests.on_demand.mirrors import document, mirroring
from tests.support.stored_files import file_of
from tests.support_behaviours import answers
from tests.support_misbehaving import misbehaving
from tests.tasks.runs import assert_complete, mirror, opened, rows, visible
from tests.tasks.upstream.helm.charts import PROVENANCE, HelmServer, archive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.results.report import Report
    from tests.support_misbehaving import Exchange


@pytest.fixture
def helm() -> Iterator[HelmServer]:
    with misbehaving() as server:
        yield HelmServer(server)


def sync(folder: Path, helm: HelmServer, *content: dict[str, Any], **options: Any) -> Report:
    with opened(folder, helm.url, *content, **options) as run:
        return mirror(run)


def store_of(folder: Path) -> Store:
    return Store.open(folder / "store", durability="none")


def manifest_of(store: Store, name: str, tag: str) -> tuple[str, dict[str, Any]]:
    repository = store.repository(RepositoryName(name))
    record = repository.tag(Tag(tag))
    assert record is not None
    return record.descriptor.digest, json.loads(file_of(repository, Tag(tag)).read_bytes())


def blob_of(store: Store, name: str, digest: str) -> bytes:
    return file_of(store.repository(RepositoryName(name)), Digest(digest)).read_bytes()


def test_charts_are_repositories_and_versions_are_tags(tmp_path: Path, helm: HelmServer) -> None:
    helm.add("app", "1.0.0")
    helm.add("app", "1.1.0+build.5")
    helm.add("other", "0.1.0")
    report = sync(tmp_path, helm, {"prefix": "**", "destination": "charts"})
    assert report.complete, report
    store = store_of(tmp_path)
    tags = ["charts/app:1.0.0", "charts/app:1.1.0_build.5", "charts/other:0.1.0"]
    assert visible(store) == tags
    for tag in tags:
        assert_complete(store, tag)
    _, document = manifest_of(store, "charts/app", "1.0.0")
    assert document["config"]["mediaType"] == CONFIG
    assert [each["mediaType"] for each in document["layers"]] == [ARCHIVE]
    assert json.loads(blob_of(store, "charts/app", document["config"]["digest"])) == {
        "apiVersion": "v2",
        "appVersion": "1.10",
        "name": "app",
        "version": "1.0.0",
    }


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"prefix": "app", "tags": {"semverRange": ">=2"}}, ["app:2.0.0"]),
        ({"prefix": "app", "tags": {"newest": 1, "semver": True}}, ["app:2.0.0"]),
        ({"prefix": "app", "tags": {"regex": "1.*"}}, ["app:1.0.0"]),
        ({"images": ["other:1.0.0"]}, ["other:1.0.0"]),
    ],
)
def test_the_rules_of_images_choose_charts(
    tmp_path: Path, helm: HelmServer, rule: dict[str, Any], expected: list[str]
) -> None:
    for name, version in (("app", "1.0.0"), ("app", "2.0.0"), ("other", "1.0.0")):
        helm.add(name, version)
    assert sync(tmp_path, helm, rule).complete
    assert visible(store_of(tmp_path)) == expected
    wanted = {f"charts/{each.replace(':', '-')}.tgz" for each in expected}
    assert {each for each in helm.asked() if each.endswith(".tgz")} == wanted


def test_a_poll_that_finds_nothing_new_asks_for_the_index_alone(tmp_path: Path, helm: HelmServer) -> None:
    helm.add()
    assert sync(tmp_path, helm).complete
    assert helm.asked() == ["index.yaml", "charts/app-1.0.0.tgz", "charts/app-1.0.0.tgz.prov"]
    assert sync(tmp_path, helm).complete
    assert helm.asked() == ["index.yaml"]
    for entry in helm.entries["app"]:  # as `helm repo index` does each time
        entry["created"] = "2026-01-01T00:00:00Z"
    helm.publish()
    report = sync(tmp_path, helm)
    assert (report.complete, helm.asked()) == (True, ["index.yaml"])


def test_the_same_archive_has_the_same_digest_in_every_mirror(tmp_path: Path, helm: HelmServer) -> None:
    helm.add("app", "1.0.0", created="2025-01-01T00:00:00Z")
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert sync(tmp_path / name, helm).complete
        found.append(manifest_of(store_of(tmp_path / name), "app", "1.0.0"))
        helm.entries["app"][0]["created"] = "2026-01-01T00:00:00Z"
        helm.publish()
    assert found[0] == found[1]


def test_without_what_was_remembered_the_digest_is_the_same(tmp_path: Path, helm: HelmServer) -> None:
    helm.add()
    assert sync(tmp_path, helm).complete
    for path in (tmp_path / "store/helm").rglob("*.json"):
        path.write_text("{broken")
    report = sync(tmp_path, helm)
    assert report.complete
    assert report.unchanged == 1


def test_a_version_that_was_published_anew_is_taken(tmp_path: Path, helm: HelmServer) -> None:
    helm.add()
    assert sync(tmp_path, helm).complete
    before, _ = manifest_of(store_of(tmp_path), "app", "1.0.0")
    helm.entries.clear()
    helm.add(description="again")
    content = archive(description="again")
    helm.server.on("/stable/charts/app-1.0.0.tgz", answers(200, content))
    helm.entries["app"][0]["digest"] = f"sha256:{hashlib.sha256(content).hexdigest()}"
    helm.publish()
    assert sync(tmp_path, helm).complete
    after, document = manifest_of(store_of(tmp_path), "app", "1.0.0")
    assert before != after
    assert document["annotations"]["org.opencontainers.image.description"] == "again"


def test_a_provenance_file_is_kept_as_its_layer(tmp_path: Path, helm: HelmServer) -> None:
    helm.add()
    helm.add("app", "2.0.0")
    helm.server.on("/stable/charts/app-1.0.0.tgz.prov", answers(200, PROVENANCE))
    helm.server.on("/stable/charts/app-2.0.0.tgz.prov", answers(200, b"<html>no such page</html>"))
    assert sync(tmp_path, helm).complete
    store = store_of(tmp_path)
    _, document = manifest_of(store, "app", "1.0.0")
    assert [each["mediaType"] for each in document["layers"]] == [ARCHIVE, PROVENANCE_TYPE]
    assert blob_of(store, "app", document["layers"][1]["digest"]) == PROVENANCE
    assert len(manifest_of(store, "app", "2.0.0")[1]["layers"]) == 1


def test_a_chart_that_left_the_index_is_pruned_where_that_is_wanted(tmp_path: Path, helm: HelmServer) -> None:
    helm.add("app", "1.0.0")
    helm.add("app", "2.0.0")
    rule = {"prefix": "app", "prune": {"after": "1ms", "maxShare": "100%"}}
    assert sync(tmp_path, helm, rule).complete
    del helm.entries["app"][0]
    helm.publish()
    for _ in range(3):
        assert sync(tmp_path, helm, rule).complete
    assert visible(store_of(tmp_path)) == ["app:2.0.0"]


def test_a_password_is_sent_at_once_and_to_the_repository_alone(
    tmp_path: Path, helm: HelmServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers answer 404 to who is nobody."""
    expected = "Basic " + base64.b64encode(b"ci:s3cret").decode()
    with misbehaving("127.0.0.2") as elsewhere:
        entry = helm.add()
        elsewhere.on("/app.tgz", answers(200, archive()))
        elsewhere.on("/app.tgz.prov", answers(404))
        entry["urls"] = [f"http://{elsewhere.host}/app.tgz"]
        helm.publish()
        [behaviour] = helm.server._routes["/stable/index.yaml"]

        def guarded(exchange: Exchange) -> None:
            right = exchange.seen.headers.get("authorization") == expected
            (behaviour if right else answers(404))(exchange)

        helm.server.on("/stable/index.yaml", guarded)
        credentials = {helm.server.host: {"username": "ci", "password": "s3cret"}}
        (tmp_path / "credentials.json").write_text(json.dumps(credentials))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "credentials.json"))
        assert sync(tmp_path, helm).complete
        assert helm.asked() == ["index.yaml"]
        assert [each.headers.get("authorization") for each in elsewhere.seen] == [None, None]


def test_a_second_address_of_a_chart_stands_in_for_the_first(tmp_path: Path, helm: HelmServer) -> None:
    entry = helm.add()
    entry["urls"] = ["charts/gone.tgz", *entry["urls"]]
    helm.publish()
    assert sync(tmp_path, helm).complete


def test_an_address_is_asked_for_as_the_index_writes_it(tmp_path: Path, helm: HelmServer) -> None:
    entry = helm.add()
    entry["urls"] = ["charts/app%2B1.tgz?token=a%2Fb"]
    helm.publish()
    helm.server.on("/stable/charts/app%2B1.tgz", answers(200, archive()))
    helm.server.on("/stable/charts/app%2B1.tgz.prov", answers(200, PROVENANCE))
    assert sync(tmp_path, helm).complete
    targets = [each.target for each in helm.server.seen if "app%2B1" in each.target]
    assert targets == [
        "/stable/charts/app%2B1.tgz?token=a%2Fb",
        "/stable/charts/app%2B1.tgz.prov?token=a%2Fb",
    ]


def test_one_bad_chart_does_not_stop_the_others(tmp_path: Path, helm: HelmServer) -> None:
    helm.add("app", "1.0.0")
    helm.add("app", "2.0.0")
    helm.server.on("/stable/charts/app-1.0.0.tgz", answers(200, archive("app", "6.6.6")))
    report = sync(tmp_path, helm)
    assert not report.complete
    assert visible(store_of(tmp_path)) == ["app:2.0.0"]
    assert "and the index says sha256:" in rows(report)["app:1.0.0"].reason


def test_a_process_that_knows_nothing_can_carry_out_any_step(tmp_path: Path, helm: HelmServer) -> None:
    """Steps run in several processes; each asks for what an earlier one has found, by digest."""
    helm.add("app", "1.0.0")
    helm.add("app", "2.0.0")
    url = PlainUrl("http", helm.server.host, api_path="stable", kind="helm")
    options = UpstreamOptions(urls=(url,))

    def fresh() -> HelmRepository:
        return HelmRepository(options, NoCredentials())

    with fresh() as one:
        head = one.head("app", "1.0.0")
    with fresh() as two:
        document = json.loads(two.manifest("app", head.digest).body)
    assert Digest.of(two.manifest("app", head.digest).body) == head.digest
    for said in (document["config"], *document["layers"]):
        wanted = Descriptor(said["mediaType"], Digest(said["digest"]), said["size"])
        sink = InMemory()
        with fresh() as three:
            three.blob("app", wanted, sink)
        assert Digest.of(bytes(sink.content)) == wanted.digest


def test_the_doctor_reads_the_index_and_one_chart(tmp_path: Path, helm: HelmServer) -> None:
    helm.add()
    registry = {"urls": [helm.url], "content": [{"prefix": "**"}]}
    text = {"storage": {"rootDirectory": "store"}, "sync": {"registries": [registry]}}
    profile = parse_profile(json.dumps(text), tmp_path / "profile.json").profile
    *_, check = build_checks(profile, profile.sync.registries, {})
    found = {each.check: each.found for each in check.findings()}
    assert found["index"] == f"1 chart at http://{helm.server.host}/stable"
    assert found["chart"].startswith("app 1.0.0 becomes sha256:")
    helm.server.on("/stable/index.yaml", answers(404))
    [_, finding] = build_checks(profile, profile.sync.registries, {})[-1].findings()
    assert (finding.outcome, "no index.yaml there" in finding.found) == (CheckStatus.FAILED, True)


def test_a_client_gets_a_chart_on_demand(tmp_path: Path, helm: HelmServer) -> None:
    helm.add()
    with mirroring(tmp_path, document(helm.url)) as mirrored:
        got = mirrored.client.get("/v2/app/manifests/1.0.0")
        assert got.status_code == 200, got.text
        layer = got.json()["layers"][0]["digest"]
        assert mirrored.client.get(f"/v2/app/blobs/{layer}").content == archive()
        assert mirrored.client.get("/v2/app/manifests/9.9.9").status_code == 404
        assert mirrored.client.get("/v2/nothing/manifests/1.0.0").status_code == 404
        mirrored.work.wait()
        assert_complete(mirrored.store, "app:1.0.0")


@pytest.mark.parametrize("kind", ["manifests", "blobs"])
def test_a_client_that_invents_a_digest_makes_nobody_fetch_charts(
    tmp_path: Path, helm: HelmServer, kind: str
) -> None:
    for minor in range(5):
        helm.add(version=f"1.{minor}.0")
    del helm.entries["app"][2]["digest"]
    helm.publish()
    with mirroring(tmp_path, document(helm.url)) as mirrored:
        manifest = mirrored.client.get("/v2/app/manifests/1.0.0")
        config = manifest.json()["config"]["digest"]
        helm.asked()
        got = mirrored.client.get(f"/v2/app/{kind}/sha256:{'7' * 64}")
        assert got.status_code == 404
        assert [path for path in helm.asked() if path != "index.yaml"] == []
        # What a version that was asked for consists of is found by digest.
        assert mirrored.client.get(f"/v2/app/blobs/{config}").status_code == 200
        assert mirrored.client.get(f"/v2/app/manifests/{Digest.of(manifest.content)}").status_code == 200
        mirrored.work.wait()


def test_a_bad_chart_does_not_hide_the_digest_of_another(helm: HelmServer) -> None:
    """A step in a process of its own knows the digest alone."""
    helm.add("app", "3.0.0", digest="0" * 64)
    helm.add("app", "2.0.0", urls=["gone.tgz"])
    helm.add("app", "1.0.0")
    url = PlainUrl("http", helm.server.host, api_path="stable", kind="helm")
    options = UpstreamOptions(urls=(url,))
    with HelmRepository(options, NoCredentials()) as one:
        head = one.head("app", "1.0.0")
    with HelmRepository(options, NoCredentials()) as two:
        assert two.manifest("app", head.digest).digest == head.digest
