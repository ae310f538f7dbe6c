"""A policy that enforces admits exactly what is signed well, and nothing of the rest is to be seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from registry_server.http.server_process import running_server
from registry_server.oci.digest import Digest
from registry_server.oci.errors import NotFound
from registry_server.oci.reference import Tag
from tasks.manifests.verdict_record import ARTIFACT_TYPE
from tasks.results.outcomes import Outcome
from tests.on_demand.mirrors import document, mirroring
from tests.support.stored_files import file_of
from tests.tasks.runs import mirror, opened, rows, store_of, visible
from tests.tasks.trust.enforced import APP, Upstream, bundled, cases, docker_registry, fill, policy

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from registry_server.store.store import Store
    from tasks.results.report import Report
    from tests.tasks.trust.enforced import Pullable
    from tests.tasks.trust.world import World

ADMITTED = sorted(case.tag for case in cases() if not case.why)
REFUSED = {case.tag: case.why for case in cases() if case.why}


@pytest.fixture(scope="module", params=["bundled", "docker-registry"])
def upstream(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upstream]:
    folder = tmp_path_factory.mktemp("enforced")
    if request.param == "bundled":
        with bundled(folder, fill(world)) as found:
            yield found
        return
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(program, folder, fill(world)) as found:
        yield found


@pytest.fixture(scope="module")
def polled(
    upstream: Upstream, world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Report, Report]:
    """Two polls of all of it into one folder."""
    folder = tmp_path_factory.mktemp("polled")
    more = policy(world, upstream.host, recordVerdicts=True)
    reports = []
    for _ in range(2):
        with opened(folder, upstream.url, more=more) as run:
            reports.append(mirror(run))
    return folder, reports[0], reports[1]


def _assert_nothing_of(image: Pullable, store: Store) -> None:
    repository = store.repository(APP)
    for digest in (image.digest, *map(Digest, filter(_is_digest, image.repository.manifests))):
        with pytest.raises(NotFound):
            repository.find_manifest(digest)
    assert not repository.pool_holds(Digest.of(image.layer))
    assert repository.referrers(image.digest) == []
    assert not [tag for tag in repository.tags() if image.digest.hex in tag]


def _is_digest(name: str) -> bool:
    return ":" in name


def test_a_poll_admits_exactly_what_is_signed_well(
    upstream: Upstream, polled: tuple[Path, Report, Report]
) -> None:
    folder, report, _ = polled
    tags = [tag for tag in store_of(folder).repository(APP).tags() if not tag.startswith("sha256-")]
    assert tags == ADMITTED
    found = rows(report)
    for tag, why in REFUSED.items():
        assert found[f"app:{tag}"].outcome is Outcome.FAILED
        assert found[f"app:{tag}"].step == "verify_signature"
        assert why in found[f"app:{tag}"].reason, tag
        _assert_nothing_of(upstream.images[tag], store_of(folder))
    for tag in ADMITTED:
        assert found[f"app:{tag}"].verdict.startswith("verified: "), tag
        [signed] = found[f"app:{tag}"].signed_by
        assert signed["authorities"]
        assert signed["who"]


def test_the_signatures_come_along_and_the_next_poll_finds_nothing_new(
    upstream: Upstream, polled: tuple[Path, Report, Report]
) -> None:
    folder, _, second = polled
    repository = store_of(folder).repository(APP)
    for tag in ADMITTED:
        image = upstream.images[tag]
        for name in filter(_is_digest, image.repository.manifests):
            assert repository.has_blob(Digest(name)), (tag, name)
    assert {row.outcome for row in second.images} == {Outcome.FAILED, Outcome.SKIPPED}
    left_out = [row.reason for row in second.images if row.outcome is Outcome.SKIPPED]
    assert all("the image that it accompanies" in reason for reason in left_out)
    assert second.unchanged == len(ADMITTED) + 2, "and the two signature tags"


def test_verdicts_are_kept_beside_their_images_once(
    upstream: Upstream, polled: tuple[Path, Report, Report]
) -> None:
    repository = store_of(polled[0]).repository(APP)
    for tag in ADMITTED:
        digest = upstream.images[tag].digest
        kept = [each for each in repository.referrers(digest) if each.artifact_type == ARTIFACT_TYPE]
        assert len(kept) == 1, tag
        manifest = json.loads(repository.read_manifest(kept[0].digest)[1])
        content = json.loads(file_of(repository, Digest(manifest["layers"][0]["digest"])).read_bytes())
        assert content["outcome"] == "verified"
        assert content["subject"] == digest
        assert content["signatures"][0]["authorities"]


def test_status_says_who_signed(upstream: Upstream, polled: tuple[Path, Report, Report]) -> None:
    from flows.reporting.tag_status import tag_statuses

    found = {row.reference: row.verdict for row in tag_statuses(store_of(polled[0]))}
    assert all(found[tag].startswith("verified: ") for tag in ADMITTED)
    assert "acme" in found["key"] or "key" in found["key"]
    assert found["unsigned"] == ""


_AGAIN = """
import sys
from pathlib import Path
from flows.cli.verify import verify_image
from profiles.loader import load_profile
profile = load_profile(Path(sys.argv[1])).profile
for image in sys.argv[2:]:
    print(image, verify_image(profile, image).admits)
"""


def test_what_was_admitted_verifies_again_from_the_mirror_in_a_clean_process(
    world: World, upstream: Upstream, polled: tuple[Path, Report, Report], tmp_path: Path
) -> None:
    own_command = upstream.has_api  # once is enough: it costs seconds
    with running_server(polled[0] / "store") as url:
        profile = _profile_of(world, url, tmp_path)
        images = [f"app:{tag}" for tag in ADMITTED]
        code = [sys.executable, "-c", _AGAIN, str(profile), *images]
        done = subprocess.run(code, capture_output=True, text=True, check=True, env=_clean(tmp_path))
        assert done.stdout.split("\n")[:-1] == [f"{image} True" for image in images]
        if not own_command:
            return
        shown = subprocess.run(
            [Path(sys.executable).with_name("mirrorflow"), "verify", profile, "app:bundle"],
            capture_output=True, text=True, check=True, env=_clean(tmp_path),
        )  # fmt: skip
        assert "verified: " in shown.stdout
        assert "counts for keyless" in shown.stdout


def _profile_of(world: World, url: str, folder: Path) -> Path:
    """The mirror as an upstream, with the same policy."""
    registry = {"urls": [url], "content": [{"prefix": "**"}]}
    sections = policy(world, url.partition("//")[2])
    profile = folder / "again.json"
    storage = {"rootDirectory": str(folder / "store")}
    profile.write_text(json.dumps({"storage": storage, "sync": {"registries": [registry]}, **sections}))
    return profile


def _clean(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home)}


def test_on_demand_a_client_gets_exactly_what_is_signed_well(
    upstream: Upstream, world: World, tmp_path: Path
) -> None:
    entry = document(upstream.url)
    with mirroring(tmp_path, entry, more=policy(world, upstream.host, recordVerdicts=True)) as found:
        answers = {tag: _get(found.client, tag) for tag in upstream.images}
        for tag in ADMITTED:
            assert answers[tag].status_code == 200, (tag, answers[tag].text)
            assert Digest.of(answers[tag].content) == upstream.images[tag].digest
            blob = Digest.of(upstream.images[tag].layer)
            assert found.client.get(f"/v2/app/blobs/{blob}").content == upstream.images[tag].layer
        for tag, why in REFUSED.items():
            image = upstream.images[tag]
            assert answers[tag].status_code == 403
            assert why in answers[tag].text, tag
            assert _get(found.client, image.digest).status_code == 403
            assert found.client.get(f"/v2/app/blobs/{Digest.of(image.layer)}").status_code == 404
            assert found.client.get(f"/v2/app/referrers/{image.digest}").status_code in (403, 404)
        found.work.wait()
        for tag in REFUSED:
            _assert_nothing_of(upstream.images[tag], found.store)
        for tag in ADMITTED:  # the verdict is kept as in a poll
            record = found.store.repository(APP).tag(Tag(tag))
            assert record is not None
            assert record.verdict.startswith("verified: ")
            kept = found.store.repository(APP).referrers(upstream.images[tag].digest)
            assert ARTIFACT_TYPE in {each.artifact_type for each in kept}
        shown = [name for name in visible(found.store) if "sha256-" not in name]
        assert shown == [f"app:{tag}" for tag in ADMITTED]


def _get(client: httpx.Client, reference: str) -> httpx.Response:
    return client.get(f"/v2/app/manifests/{reference}", headers={"Accept": "*/*"})


@pytest.mark.parametrize("program", ["cosign", "notation"])
def test_the_makers_programs_verify_from_the_mirror(
    program: str, world: World, polled: tuple[Path, Report, Report], tmp_path: Path
) -> None:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    with running_server(polled[0] / "store") as url:
        host = url.partition("//")[2]
        command, env = _cosign(world, host) if program == "cosign" else _notation(world, host, tmp_path)
        done = subprocess.run(
            [found, *command], capture_output=True, text=True, check=False, env=_clean(tmp_path) | env
        )
        assert done.returncode == 0, done.stderr


def _cosign(world: World, host: str) -> tuple[list[str], dict[str, str]]:
    key = ["--key", str(world.folder / "acme.pub"), "--insecure-ignore-tlog", "--allow-http-registry"]
    return ["verify", *key, f"{host}/app:key"], {}


def _notation(world: World, host: str, home: Path) -> tuple[list[str], dict[str, Any]]:
    config = home / "notation"
    store = config / "truststore" / "x509" / "ca" / "acme"
    store.mkdir(parents=True)
    shutil.copy(world.folder / "ca.pem", store / "ca.pem")
    rule = {
        "name": "acme",
        "registryScopes": ["*"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:acme"],
        "trustedIdentities": ["x509.subject: C=US, ST=WA, O=acme"],
    }
    (config / "trustpolicy.json").write_text(json.dumps({"version": "1.0", "trustPolicies": [rule]}))
    return ["verify", "--insecure-registry", f"{host}/app:jws"], {"XDG_CONFIG_HOME": str(home)}
