"""What the far side lets in, by its own rules and policies, and what it makes of the rest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from registry_server.bundles.state import ROLE
from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreLocked
from registry_server.store.records import Origin, TagRecord
from tasks.manifests.verdict_record import ARTIFACT_TYPE
from tasks.stored.bundles.admission import BundleAdmission
from tasks.stored.bundles.statements import NotTrusted
from tests.registry_server.store.images import image, layer, manifest, put_image
from tests.support.stored_files import file_of
from tests.tasks.stored.bundles.applying import (
    applied,
    bundled,
    far,
    inventory_of,
    near,
    reasons,
    tags,
)
from tests.tasks.stored.bundles.sides import ENFORCED, TEAM, Gap, gap

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.bundles.document import BundledImage
    from registry_server.oci.descriptor import Descriptor
    from tasks.stored.bundles.admission import AdmittedImage
    from tasks.stored.bundles.contents import ImageTree

TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
STRANGER = ec.generate_private_key(ec.SECP256R1())


def test_what_nobody_signed_stays_out_and_its_neighbour_comes_in(strict: Gap) -> None:
    signed = strict.near.put("team/app:signed", b"one")
    strict.near.sign("team/app", signed)
    strict.near.put("team/app:unsigned", b"two")
    strict.near.sign("team/app", strict.near.put("team/app:by-a-stranger", b"three"), STRANGER)
    found = applied(strict.far, bundled(strict))
    why = {name: reason for name, reason in reasons(found).items() if not name.endswith(".sig")}
    assert why.pop("team/app:unsigned") == "it has no signature"
    assert "its signature does not count; team: the signature is not by key" in why.pop(
        "team/app:by-a-stranger"
    )
    assert why == {}
    assert tags(strict) == {"team/app:signed", f"team/app:sha256-{signed.digest.hex}.sig"}
    assert not far(strict).has_blob(Digest.of(b"two"))
    record = far(strict).tag(Tag("signed"))
    assert record is not None
    assert record.verdict.startswith("verified: key sha256:")
    assert record.judged_by
    assert found.verdicts["team/app:signed"] == record.verdict


def test_the_other_sides_verdict_counts_for_nothing(strict: Gap) -> None:
    made = put_image(near(strict), b"layer")
    strict.near.tag("team/app:v1", made, verdict="verified: anybody", judged_by="any policy")
    assert reasons(applied(strict.far, bundled(strict))) == {"team/app:v1": "it has no signature"}


def test_a_signature_that_the_far_side_has_already_counts_for_what_comes_later(strict: Gap) -> None:
    """The second bundle leaves out the signature's blob."""
    made = strict.near.put("team/app:v1", b"layer")
    strict.near.sign("team/app", made)
    applied(strict.far, bundled(strict))
    strict.near.tag("team/app:again", made)
    second = bundled(strict, "second", inventory=inventory_of(strict.far))
    document = json.loads((second / "bundle.json").read_bytes())
    assert [each["tag"] for each in document["images"]] == ["again"]
    assert all("mediaType" in each for each in document["contents"]), "manifests, and no blob"
    assert reasons(applied(strict.far, second)) == {}
    assert "team/app:again" in tags(strict)


def test_a_signature_that_came_later_is_attached_to_the_image_that_is_here(plain: Gap) -> None:
    made = plain.near.put("team/app:v1", b"layer")
    applied(plain.far, bundled(plain))
    plain.near.sign("team/app", made)
    found = applied(plain.far, bundled(plain, "second", inventory=inventory_of(plain.far)))
    assert list(found.applied) == [f"team/app:sha256-{made.digest.hex}.sig"]
    assert tags(plain) == {"team/app:v1", f"team/app:sha256-{made.digest.hex}.sig"}


def test_a_signature_of_an_image_that_is_not_here_stays_out(strict: Gap) -> None:
    made = strict.near.put("team/app:v1", b"layer")
    strict.near.sign("team/app", made, STRANGER)
    found = reasons(applied(strict.far, bundled(strict)))
    assert "there is no repository team/app in this store" in found[f"team/app:sha256-{made.digest.hex}.sig"]
    assert tags(strict) == set()


def _attached(
    sides: Gap, subject: Descriptor, kind: str, content: bytes, config: bytes = b"{}"
) -> Descriptor:
    repository = near(sides)
    for each in (config, content):
        repository.put_blob(layer(each), each)
    empty = layer(config, media_types.OCI_EMPTY).to_json()
    document = {
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": kind,
        "config": empty,
        "layers": [layer(content, kind).to_json()],
        "subject": subject.to_json(),
    }
    return repository.put_manifest(manifest(document))


def test_only_known_formats_follow_an_image_under_a_policy(strict: Gap) -> None:
    """What a runtime could run is no companion, whoever attached it."""
    made = strict.near.put("team/app:v1", b"layer")
    strict.near.sign("team/app", made)
    report = _attached(strict, made, "application/spdx+json", b'{"spdxVersion": "SPDX-2.3"}')
    attack = _attached(strict, made, TAR, b"\x1f\x8b\x00\x00")
    assert reasons(applied(strict.far, bundled(strict))) == {}
    assert {each.digest for each in far(strict).referrers(made.digest)} == {report.digest}
    assert not far(strict).has_blob(attack.digest)
    assert not far(strict).has_blob(Digest.of(b"\x1f\x8b\x00\x00"))


def test_companions_of_all_kinds_follow_where_there_is_no_policy(plain: Gap) -> None:
    made = plain.near.put("team/app:v1", b"layer")
    found = {
        _attached(plain, made, "application/vnd.acme.thing", content).digest for content in (b"one", b"two")
    }
    applied(plain.far, bundled(plain))
    assert {each.digest for each in far(plain).referrers(made.digest)} == found


def test_records_of_verdicts_are_made_here_and_never_carried(tmp_path: Path) -> None:
    policy = {"verify": {**ENFORCED["verify"], "recordVerdicts": True}}
    sides = gap(tmp_path, policy=policy)
    made = sides.near.put("team/app:v1", b"layer")
    sides.near.sign("team/app", made)
    forged = _attached(sides, made, ARTIFACT_TYPE, b'{"outcome": "verified"}')
    applied(sides.far, bundled(sides))
    (record,) = far(sides).referrers(made.digest)
    assert record.artifact_type == ARTIFACT_TYPE
    assert record.digest != forged.digest


@pytest.mark.parametrize(
    ("content", "origin", "words"),
    [
        pytest.param([{"prefix": "**"}], "team/app", "", id="under its own name"),
        pytest.param(
            [{"prefix": "upstream/*", "destination": "team", "stripPrefix": True}],
            "upstream/app",
            "",
            id="under another name",
        ),
        pytest.param(
            [{"prefix": "upstream/*", "destination": "team", "stripPrefix": True}],
            "elsewhere/app",
            "no registry entry of the profile puts elsewhere/app of hub under this name",
            id="a name that the rules give to another repository",
        ),
        pytest.param([{"prefix": "other/**"}], "team/app", "no registry entry", id="no rule takes it"),
    ],
)
def test_an_image_comes_in_under_a_rule_of_the_far_side_alone(
    tmp_path: Path, content: list[dict[str, Any]], origin: str, words: str
) -> None:
    sides = gap(tmp_path, content=content)
    sides.near.put("team/app:v1", b"layer", origin=origin)
    found = reasons(applied(sides.far, bundled(sides)))
    assert words in found.get("team/app:v1", "")
    assert bool(found) is bool(words)


@pytest.mark.parametrize(
    ("bundles", "content", "words"),
    [
        pytest.param({}, [{"prefix": "other/**"}], "'bundles.pushed: accept' lets it in", id="by default"),
        pytest.param({"pushed": "accept"}, [{"prefix": "other/**"}], "", id="accepted"),
        pytest.param(
            {"pushed": "accept"},
            [{"prefix": "**"}],
            "brings what is under this name",
            id="a name of an entry",
        ),
    ],
)
def test_what_a_client_pushed_on_the_other_side(
    tmp_path: Path, bundles: dict[str, Any], content: list[dict[str, Any]], words: str
) -> None:
    sides = gap(tmp_path, bundles=bundles, content=content)
    made = put_image(near(sides), b"layer")
    near(sides).put_tag(Tag("v1"), TagRecord(made.digest, made.media_type, made.size, 1.5))
    found = reasons(applied(sides.far, bundled(sides)))
    assert words in found.get("team/app:v1", "")
    assert ("team/app:v1" in tags(sides)) is not bool(words)


def test_an_image_whose_layer_was_lost_here_is_not_shown(plain: Gap) -> None:
    """Between the inventory and the bundle: the tag stays away, and the reason says what helps."""
    plain.near.put("team/app:v1", b"shared")
    applied(plain.far, bundled(plain))
    held = inventory_of(plain.far)
    plain.near.put("team/app:v2", b"shared", b"new")
    second = bundled(plain, "second", inventory=held)
    file_of(far(plain), Digest.of(b"shared")).unlink()
    found = reasons(applied(plain.far, second))
    assert (
        f"it needs {Digest.of(b'shared')}, which neither the bundle nor this store has"
        in found["team/app:v2"]
    )
    assert "team/app:v2" not in tags(plain)


def test_a_layer_that_another_storage_root_has_is_copied_from_there(tmp_path: Path) -> None:
    sides = gap(tmp_path)
    sides.far.sub_paths = {"/other": {"rootDirectory": str(tmp_path / "other")}}
    sides.near.put("team/app:v1", b"shared")
    applied(sides.far, bundled(sides))
    held = inventory_of(sides.far)
    sides.near.put("other/app:v1", b"shared")
    second = bundled(sides, "second", inventory=held)
    assert reasons(applied(sides.far, second)) == {}
    assert sides.far.store.repository(RepositoryName("other/app")).has_blob(Digest.of(b"shared"))


def test_a_manifest_that_lies_about_a_size_keeps_its_image_out(plain: Gap) -> None:
    near(plain).put_blob(layer(b"{}"), b"{}")
    near(plain).put_blob(layer(b"layer"), b"layer")
    lying = json.loads(image(b"layer").body)
    lying["layers"][0]["size"] = 4
    made = near(plain).put_manifest(parse_manifest(json.dumps(lying).encode()))
    plain.near.tag("team/app:v1", made)
    plain.near.put("team/app:v2", b"good")
    found = applied(plain.far, bundled(plain))
    assert reasons(found) == {"team/app:v1": "expected 4 bytes, got at least 5"}
    assert tags(plain) == {"team/app:v2"}


def test_a_tag_that_another_entry_brought_is_not_moved(tmp_path: Path) -> None:
    sides = gap(tmp_path)
    sides.far.more_entries = [
        {"name": "other", "urls": ["https://other.example"], "content": [{"prefix": "**"}]}
    ]
    held = put_image(far(sides), b"from elsewhere")
    origin = Origin("other", "team/app", held.digest)
    far(sides).put_tag(Tag("v1"), TagRecord(held.digest, held.media_type, held.size, 1.5, origin))
    sides.near.put("team/app:v1", b"layer")
    assert (
        "the tag is here from other: team/app" in reasons(applied(sides.far, bundled(sides)))["team/app:v1"]
    )
    assert sides.far.digests()["team/app:v1"] == held.digest


def test_a_tag_that_is_pushed_while_its_image_is_brought_is_not_overwritten(
    plain: Gap, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain.near.put("team/app:v1", b"one")
    plain.near.put("team/app:v2", b"two")
    theirs = put_image(far(plain), b"theirs")
    pushed = TagRecord(theirs.digest, theirs.media_type, theirs.size, 1.5)
    admit = BundleAdmission.admit

    def push(self: BundleAdmission, bundled_image: BundledImage, tree: ImageTree) -> AdmittedImage:
        found = admit(self, bundled_image, tree)
        if bundled_image.tag == "v1":
            far(plain).put_tag(Tag("v1"), pushed)
        return found

    monkeypatch.setattr(BundleAdmission, "admit", push)
    assert reasons(applied(plain.far, bundled(plain))) == {
        "team/app:v1": "somebody else has moved the tag meanwhile; apply the bundle again"
    }
    assert far(plain).tag(Tag("v1")) == pushed
    assert far(plain).tag(Tag("v2")) is not None


def test_applying_twice_changes_nothing(strict: Gap) -> None:
    made = strict.near.put("team/app:v1", b"layer")
    strict.near.sign("team/app", made)
    folder = bundled(strict)
    first = applied(strict.far, folder)
    before = strict.far.digests()
    assert applied(strict.far, folder).applied == first.applied
    assert strict.far.digests() == before


def test_one_process_applies_at_a_time(plain: Gap) -> None:
    plain.near.put("team/app:v1", b"layer")
    folder = bundled(plain)
    with plain.far.store.claim(ROLE), pytest.raises(StoreLocked):
        applied(plain.far, folder)


def test_what_was_fetched_on_demand_there_is_kept_here(plain: Gap) -> None:
    """Nobody could fetch it again."""
    made = put_image(near(plain), b"layer")
    origin = Origin("hub", "team/app", made.digest, on_demand=True)
    near(plain).put_tag(Tag("v1"), TagRecord(made.digest, made.media_type, made.size, 1.5, origin))
    applied(plain.far, bundled(plain))
    record = far(plain).tag(Tag("v1"))
    assert record is not None
    assert record.origin == Origin("hub", "team/app", made.digest)


def test_the_key_of_the_team_signs_images_and_no_bundle(tmp_path: Path) -> None:
    """Whoever may sign images may not, for that, fill the store."""
    sides = gap(tmp_path)
    sides.near.put("team/app:v1", b"layer")
    sides.near.key = TEAM
    with pytest.raises(NotTrusted, match=r"nobody whom 'bundles\.from' of the profile names has signed it"):
        applied(sides.far, bundled(sides))
