"""`audit`: every stored image by today's policies, and no upstream to be asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from flows.entries import open_store
from profiles.loader import load_profile
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from tasks.stored.audit import audit
from tasks.stored.images import StoredImages
from tasks.stored.policy_sweep import sweep
from tests.support.stored_files import file_of
from tests.tasks.companies import APP
from tests.tasks.runs import mirror, opened
from tests.tasks.stored.audits import FALLEN, Mirror, mirrorflow, results, statement_of
from tests.tasks.trust.attacker import (
    policy,
)
from tests.tasks.trust.enforced import Upstream, bundled, cases, docker_registry, fill
from tests.tasks.trust.enforced import policy as policy_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.tasks.trust.world import World


def test_what_is_signed_passes_and_what_is_not_is_named_with_the_reason(mirrored: Mirror) -> None:
    found = mirrored.audit(2, **policy())
    assert results(found) == {
        "v1": "passed",
        "v2": "falls short",
        "v3": "passed",
        "index": "passed",
    }
    assert found["app:v2"]["reason"] == "it has no signature"
    signed = found["app:v1"]
    assert (signed["outcome"], signed["rule"], signed["registry"]) == (
        "verified",
        "verify.rules[0]",
        "registry1",
    )
    assert signed["digest"] == mirrored.digest("v1")
    assert signed["signers"][0].startswith("key sha256:")
    assert signed["standing"].startswith("not judged yet"), "what a record says is told, and not believed"


def test_a_replaced_key_is_exit_code_2_and_names_the_images(mirrored: Mirror) -> None:
    profile = mirrored.profile(**policy())
    mirrored.store.repository(APP).delete_tag(Tag("v2"))
    assert mirrorflow("audit", profile).returncode == 0
    done = mirrorflow("audit", mirrored.profile(**policy(key=FALLEN)))
    assert done.returncode == 2
    for tag in ("v1", "v3", "index"):
        assert f"app:{tag} " in done.stdout
    assert "0 images passed, 3 fall short, 0 have no policy" in done.stdout


def test_without_all_only_what_falls_short_is_listed(mirrored: Mirror) -> None:
    profile = mirrored.profile(**policy())
    short, everything = mirrorflow("audit", profile), mirrorflow("audit", profile, "--all")
    assert "app:v2" in short.stdout
    assert "app:v1" not in short.stdout
    assert "--all lists every image" in short.stderr
    assert "app:v1" in everything.stdout
    assert "3 images passed, 1 falls short, 0 have no policy" in everything.stdout


@pytest.mark.parametrize(
    ("rule", "code", "outcome"),
    [
        pytest.param({"mode": "warn"}, 2, "admitted with a warning", id="warn: it falls short all the same"),
        pytest.param({"mode": "enforce"}, 2, "refused", id="enforce"),
        pytest.param({"mode": "skip", "signatures": {}}, 0, "no policy", id="skip: never called verified"),
    ],
)
def test_the_mode_of_the_rule_decides(
    mirrored: Mirror, rule: dict[str, Any], code: int, outcome: str
) -> None:
    found = mirrored.audit(code, **policy(**rule))
    assert found["app:v2"]["outcome"] == outcome
    assert (found["app:v1"]["outcome"] == "verified") is (code == 2)


@pytest.mark.parametrize(
    ("default", "code", "outcome"),
    [
        pytest.param({"require": "accept"}, 0, "no policy", id="accepted unverified"),
        pytest.param({}, 2, "refused", id="no rule, and the profile wants one"),
    ],
)
def test_an_image_without_a_rule_is_never_called_verified(
    mirrored: Mirror, default: dict[str, Any], code: int, outcome: str
) -> None:
    more = policy(match=["elsewhere.example/**"])
    more["verify"]["default"] = default
    found = mirrored.audit(code, **more)
    assert {each["outcome"] for each in found.values()} == {outcome}
    assert {each["rule"] for each in found.values()} == {"" if code == 0 else "no rule"}
    shown = mirrorflow("audit", mirrored.profile(**more), "--all").stdout
    assert "verified" not in shown


def test_only_signed_is_passed_by_a_signature_and_verifies_nothing(mirrored: Mirror) -> None:
    found = mirrored.audit(2, entry={"onlySigned": True})
    assert found["app:v1"]["outcome"] == "signature present, not verified"
    assert results(found)["v1"] == "passed"
    assert results(found)["v2"] == "falls short"
    assert found["app:v2"]["rule"] == "onlySigned"


def test_every_platform_of_an_index_needs_its_signature_where_the_rule_says_so(mirrored: Mirror) -> None:
    more = policy()
    more["verify"]["rules"][0]["signatures"]["indexChildren"] = "each"
    found = mirrored.audit(2, **more)
    assert results(found)["index"] == "falls short"
    assert "it has no signature" in found["app:index"]["reason"]


def damage(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def _signature(mirrored: Mirror) -> Path:
    """The payload that was signed."""
    repository = mirrored.store.repository(APP)
    _, body = repository.read_manifest(Tag(f"sha256-{mirrored.digest('v1').hex}.sig"))
    return file_of(repository, Digest(json.loads(body)["layers"][0]["digest"]))


def _signature_manifest(mirrored: Mirror) -> Path:
    tag = Tag(f"sha256-{mirrored.digest('v1').hex}.sig")
    return file_of(mirrored.store.repository(APP), tag)


@pytest.mark.parametrize(
    ("path_of", "reason"),
    [
        pytest.param(_signature, "its content is not what its digest promises", id="a signed payload"),
        pytest.param(_signature_manifest, "its manifest is damaged", id="the manifest of a signature"),
        pytest.param(
            lambda mirrored: file_of(mirrored.store.repository(APP), Tag("v1")),
            "is damaged; remove that file",
            id="the manifest of the image",
        ),
    ],
)
def test_what_is_damaged_falls_short_and_its_neighbours_do_not(
    mirrored: Mirror, path_of: Any, reason: str
) -> None:
    path = path_of(mirrored)
    damage(path, path.read_bytes().replace(b"sha256", b"sha257"))
    found = mirrored.audit(2, **policy())
    assert results(found)["v1"] == "falls short"
    assert reason in found["app:v1"]["reason"]
    assert results(found)["v3"] == "passed"


def test_a_damaged_platform_of_an_index_is_found(mirrored: Mirror) -> None:
    repository = mirrored.store.repository(APP)
    _, body = repository.read_manifest(Tag("index"))
    damage(file_of(repository, Digest(json.loads(body)["manifests"][1]["digest"])), b"{}")
    found = mirrored.audit(2, **policy())
    assert "is damaged" in found["app:index"]["reason"]


def test_what_is_hidden_is_judged_too(mirrored: Mirror) -> None:
    """Hidden by a key that was withdrawn by mistake."""
    other = load_profile(mirrored.profile(**policy(key=FALLEN))).profile
    sweep(other, open_store(other))
    assert mirrored.store.repositories() == []
    found = mirrored.audit(2, **policy())
    assert results(found) == {"v1": "passed", "v2": "falls short", "v3": "passed", "index": "passed"}
    assert {each["reason"] for each in found.values()} == {
        "it is hidden",
        "it has no signature; it is hidden",
    }


def test_what_is_deleted_while_others_are_judged_is_not_reported(mirrored: Mirror) -> None:
    profile = load_profile(mirrored.profile(**policy())).profile
    found = audit(StoredImages(profile, mirrored.store))
    first = next(found)
    mirrored.store.repository(APP).delete_tag(Tag("v2"))
    assert [first.image.tag, *(each.image.tag for each in found)] == ["index", "v1", "v3"]


def elsewhere() -> dict[str, Any]:
    more = policy()
    more["verify"]["rules"][0]["signatures"]["repository"] = "signatures/of-app"
    return more


def test_signatures_in_another_repository_are_found_where_that_one_is_mirrored_to(mirrored: Mirror) -> None:
    move_signature(mirrored, "v1", RepositoryName("sigs/signatures/of-app"))
    rules = [{"prefix": "app"}, {"prefix": "signatures/**", "destination": "/sigs"}]
    found = mirrored.audit(2, entry={"content": rules}, **elsewhere())
    assert results(found)["v1"] == "passed"
    assert found["app:v2"]["reason"] == "it has no signature"


def test_that_the_repository_of_the_signatures_is_not_mirrored_is_the_reason(mirrored: Mirror) -> None:
    move_signature(mirrored, "v1", RepositoryName("sigs/signatures/of-app"))
    found = mirrored.audit(2, entry={"content": [{"prefix": "app"}]}, **elsewhere())
    assert "does not mirror signatures/of-app" in found["app:v1"]["reason"]


def move_signature(mirrored: Mirror, tag: str, name: RepositoryName) -> None:
    store, signature = mirrored.store, Tag(f"sha256-{mirrored.digest(tag).hex}.sig")
    here, there = store.repository(APP), store.repository(name)
    manifest = parse_manifest(here.read_manifest(signature)[1])
    for blob in manifest.blobs:
        there.put_blob(blob, file_of(here, blob.digest).read_bytes())
    there.put_manifest(manifest)
    record = here.tag(signature)
    assert record is not None
    there.put_tag(signature, record)
    here.delete_tag(signature)


def test_what_no_entry_of_the_profile_brought_is_counted_and_not_judged(mirrored: Mirror) -> None:
    repository = mirrored.store.repository(APP)
    record = repository.tag(Tag("v2"))
    assert record is not None
    assert record.origin is not None
    repository.put_tag(Tag("pushed"), replace(record, origin=None))
    gone = replace(record.origin, registry="old", repository="elsewhere")
    repository.put_tag(Tag("gone"), replace(record, origin=gone))
    assert not {"app:pushed", "app:gone"} & mirrored.audit(2, **policy()).keys()
    shown = mirrorflow("audit", mirrored.profile(**policy())).stdout
    assert "not judged: 1 that clients pushed" in shown
    assert "not judged: 1 of the registry entry 'old', which the profile does not have" in shown
    said = statement_of(mirrored, policy())["predicate"]["summary"]["notJudged"]
    assert sum(said.values()) == 2


@pytest.mark.parametrize("kind", ["bundled", "docker-registry"])
def test_every_kind_of_signature_is_judged_from_the_store_as_at_the_upstream(
    world: World, tmp_path: Path, kind: str
) -> None:
    upstream: Upstream
    program = shutil.which("docker-registry")
    if kind == "docker-registry" and program is None:
        pytest.skip("docker-registry is not installed")
    images = fill(world)
    holder = (
        bundled(tmp_path / "up", images)
        if kind == "bundled"
        else docker_registry(str(program), tmp_path / "up", images)
    )
    (tmp_path / "up").mkdir()
    with holder as upstream:
        with opened(tmp_path, upstream.url) as run:
            mirror(run)
        url, host = upstream.url, upstream.host
    found = Mirror(tmp_path, url).audit(2, **policy_of(world, host))
    for case in cases():
        judged = found[f"app:{case.tag}"]
        assert judged["result"] == ("falls short" if case.why else "passed"), case.tag
        assert case.why in judged["reason"], case.tag
