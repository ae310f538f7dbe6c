"""Promotion within a store: judged anew, whole, all tags or none; and back again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from profiles.loader import load_profile
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.errors import StoreLocked
from registry_server.store.mirror_state.snapshots import take_snapshot
from registry_server.store.mirror_state.tag_switch import ROLE, all_changes
from registry_server.store.records import TagRecord
from tasks.stored.promoting import NothingToPromote, Promoter, PromotionRefused
from tests.registry_server.store.images import check, image, put_image
from tests.support.stored_files import file_of
from tests.tasks.stored.bundles.sides import ENFORCED, Side

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.oci.descriptor import Descriptor

STRANGER = ec.generate_private_key(ec.SECP256R1())
HUB: list[dict[str, Any]] = [{"prefix": "hub/**"}]


@pytest.fixture
def side(tmp_path: Path) -> Side:
    """A store whose entry brings what is below `hub`; `dev` and `prod` are its own."""
    return Side(tmp_path / "side", content=HUB)


def promoter(side: Side) -> Promoter:
    return Promoter(load_profile(side.profile).profile, side.store, "tester@here")


def rule(*match: str, **more: Any) -> dict[str, Any]:
    signer = {"name": "team", "type": "key", "key": "team"}
    return {"match": list(match), "signatures": {"from": [signer]}, **more}


def verify(*rules: dict[str, Any], require: str = "reject") -> dict[str, Any]:
    return {"verify": {"rules": list(rules), "default": {"require": require}}}


def push(side: Side, name: str, content: bytes) -> Descriptor:
    """As a client pushes it: no registry entry brought it."""
    repository, _, tag = name.partition(":")
    held = side.store.repository(RepositoryName(repository))
    made = put_image(held, content)
    held.put_tag(Tag(tag), TagRecord(made.digest, made.media_type, made.size, 1.5))
    return made


def below(side: Side, prefix: str) -> dict[str, Digest]:
    return {
        name: digest
        for name, digest in side.digests().items()
        if name.startswith((f"{prefix}/", f"{prefix}:")) and ".sig" not in name
    }


def test_tags_below_one_prefix_come_to_stand_below_another(side: Side) -> None:
    first, second = push(side, "dev/web:v1", b"one"), push(side, "dev/api/v2:latest", b"two")
    push(side, "devops/web:v1", b"of another prefix")
    old = push(side, "prod/web:v1", b"old")
    kept = push(side, "prod/web:v0", b"older")
    change = promoter(side).promote("dev", "prod")
    assert below(side, "prod") == {
        "prod/web:v1": first.digest,
        "prod/web:v0": kept.digest,
        "prod/api/v2:latest": second.digest,
    }
    assert below(side, "dev") == {"dev/web:v1": first.digest, "dev/api/v2:latest": second.digest}
    assert change is not None
    moved = change.tags["prod/web:v1"]
    assert moved.before is not None
    assert (moved.before.digest, moved.verdict, change.by) == (old.digest, "no policy", "tester@here")
    assert check(side.store) == 6
    assert promoter(side).promote("dev", "prod") is None, "nothing is left to do"


def test_one_refused_image_keeps_all_tags_where_they_are(side: Side) -> None:
    side.policy = verify(rule("prod/**"), require="accept")
    good = push(side, "dev/web:v1", b"signed")
    side.sign("dev/web", good)
    push(side, "dev/api:v1", b"unsigned")
    side.sign("dev/cli", push(side, "dev/cli:v1", b"by a stranger"), STRANGER)
    with pytest.raises(PromotionRefused) as refused:
        promoter(side).promote("dev", "prod")
    assert set(refused.value.problems) == {"prod/api:v1", "prod/cli:v1"}
    assert "it has no signature (verify.rules[0])" in refused.value.problems["prod/api:v1"]
    assert below(side, "prod") == {}
    assert all_changes(side.store) == []


def test_signatures_come_along_and_verdicts_are_on_record(side: Side) -> None:
    side.policy = verify(rule("prod/**"), require="accept")
    good = push(side, "dev/web:v1", b"signed")
    side.sign("dev/web", good)
    promoter(side).promote("dev", "prod")
    assert f"prod/web:sha256-{good.digest.hex}.sig" in side.digests()
    (change,) = all_changes(side.store)
    assert change.tags["prod/web:v1"].verdict.startswith("verified: key sha256:")


@pytest.mark.parametrize("by_tag", [True, False], ids=["under a companion tag", "as a referrer"])
def test_nothing_that_could_be_run_follows_an_image_to_where_a_policy_keeps_it_out(
    side: Side, *, by_tag: bool
) -> None:
    """Whoever may push to `dev` may attach anything to a signed image there."""
    side.policy = verify(rule("prod/**"), require="accept")
    good = push(side, "dev/web:v1", b"signed")
    side.sign("dev/web", good)
    dev = side.store.repository(RepositoryName("dev/web"))
    put_image(dev, b"attack")
    attack = dev.put_manifest(image(b"attack") if by_tag else image(b"attack", subject=good.to_json()))
    if by_tag:
        record = TagRecord(attack.digest, attack.media_type, attack.size, 1.5)
        dev.put_tag(Tag(f"sha256-{good.digest.hex}.att"), record)
    promoter(side).promote("dev", "prod")
    prod = side.store.repository(RepositoryName("prod/web"))
    assert not prod.has_blob(attack.digest)
    assert {*prod.tags()} == {"v1", f"sha256-{good.digest.hex}.sig"}
    assert check(side.store) == (5 if by_tag else 4)


def test_what_an_entry_brought_has_to_pass_the_policy_of_where_it_came_from_too(side: Side) -> None:
    """The rule for the target is milder; the other one holds as well."""
    side.policy = verify(rule("hub.example/**"), rule("prod/**", mode="warn"))
    side.put("hub/web:v1", b"unsigned")
    with pytest.raises(PromotionRefused, match="prod/web:v1: refused: it has no signature"):
        promoter(side).promote("hub", "prod")
    side.sign("hub/web", side.put("hub/web:v1", b"signed"))
    assert promoter(side).promote("hub", "prod") is not None


def test_what_was_pushed_needs_a_rule_where_the_profile_rejects_by_default(side: Side) -> None:
    side.policy = ENFORCED | verify(rule("hub.example/**"))
    push(side, "dev/web:v1", b"one")
    with pytest.raises(PromotionRefused, match="no rule of the profile admits this image"):
        promoter(side).promote("dev", "prod")


def test_an_image_that_is_not_whole_keeps_all_where_they_are(side: Side) -> None:
    push(side, "dev/web:v1", b"one")
    push(side, "dev/api:v1", b"two")
    file_of(side.store.repository(RepositoryName("dev/api")), Digest.of(b"two")).unlink()
    with pytest.raises(PromotionRefused, match="prod/api:v1: dev/api: there is no blob"):
        promoter(side).promote("dev", "prod")
    assert below(side, "prod") == {}


def test_a_target_below_what_is_promoted_is_refused(side: Side) -> None:
    """Each promotion would promote what the last one has put there, a level deeper."""
    push(side, "dev/web:v1", b"one")
    with pytest.raises(PromotionRefused, match="dev/prod: it is below 'dev'"):
        promoter(side).promote("dev", "dev/prod")
    assert promoter(side).promote("dev/web", "dev/web-prod") is not None
    assert below(side, "dev/prod") == {}


def test_names_that_a_registry_entry_fills_are_no_target(side: Side) -> None:
    """Its next poll would move the tags again."""
    push(side, "dev/web:v1", b"one")
    with pytest.raises(PromotionRefused, match="'hub' brings what is under this name"):
        promoter(side).promote("dev", "hub")


def test_a_snapshot_is_promoted_as_it_was_taken(side: Side) -> None:
    old = push(side, "dev/web:v1", b"one")
    snapshot = take_snapshot(side.store, "friday", taken="2026-01-02T03:04:05+00:00", by="me@here")
    push(side, "dev/web:v1", b"two")
    side.store.repository(RepositoryName("dev/web")).put_tag(
        Tag("v2"), side.store.repository(RepositoryName("dev/web")).tag_records()[Tag("v1")]
    )
    promoter(side).promote("dev", "prod", snapshot)
    assert below(side, "prod") == {"prod/web:v1": old.digest}
    promoter(side).promote("dev", "dev", snapshot)
    assert below(side, "dev")["dev/web:v1"] == old.digest, "and restored where it was taken"


def test_a_rollback_takes_back_what_moved_and_removes_what_was_new(side: Side) -> None:
    old = push(side, "prod/web:v1", b"old")
    push(side, "dev/web:v1", b"new")
    push(side, "dev/web:v2", b"newer")
    promoted = promoter(side).promote("dev", "prod")
    assert promoted is not None
    back = promoter(side).rollback()
    assert below(side, "prod") == {"prod/web:v1": old.digest}
    assert back.undoes == promoted.id
    with pytest.raises(NothingToPromote, match="no promotion that could be taken back"):
        promoter(side).rollback()


def test_an_earlier_promotion_is_taken_back_only_while_its_tags_are_as_it_left_them(side: Side) -> None:
    push(side, "dev/web:v1", b"one")
    first = promoter(side).promote("dev", "prod")
    assert first is not None
    push(side, "dev/web:v1", b"two")
    promoter(side).promote("dev", "prod")
    with pytest.raises(PromotionRefused, match="prod/web:v1: it has been moved since"):
        promoter(side).rollback(first.id)


def test_a_rollback_to_what_a_policy_refuses_by_now_changes_nothing(side: Side) -> None:
    push(side, "prod/web:v1", b"unsigned")
    new = push(side, "dev/web:v1", b"signed")
    side.sign("dev/web", new)
    promoter(side).promote("dev", "prod")
    side.policy = verify(rule("prod/**"), require="accept")
    with pytest.raises(PromotionRefused, match="prod/web:v1: refused: it has no signature"):
        promoter(side).rollback()
    assert below(side, "prod") == {"prod/web:v1": new.digest}


def test_one_process_promotes_at_a_time(side: Side) -> None:
    push(side, "dev/web:v1", b"one")
    with side.store.claim(ROLE), pytest.raises(StoreLocked):
        promoter(side).promote("dev", "prod")


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        pytest.param("nothing", "prod", "this store has no tag below 'nothing'", id="nothing there"),
        pytest.param("dev", "../etc", "there is no repository name for it", id="a path"),
        pytest.param("dev", "Prod", "there is no repository name for it", id="capitals"),
    ],
)
def test_prefixes_that_mean_nothing_are_named(side: Side, source: str, target: str, words: str) -> None:
    push(side, "dev/web:v1", b"one")
    with pytest.raises((NothingToPromote, PromotionRefused), match=words):
        promoter(side).promote(source, target)


def test_a_target_in_another_storage_root_gets_its_own_bytes(side: Side, tmp_path: Path) -> None:
    side.sub_paths = {"/prod": {"rootDirectory": str(tmp_path / "prod")}}
    made = push(side, "dev/web:v1", b"one")
    promoter(side).promote("dev", "prod")
    assert below(side, "prod") == {"prod/web:v1": made.digest}
    held = file_of(side.store.repository(RepositoryName("prod/web")), Digest.of(b"one"))
    assert held.is_relative_to(tmp_path / "prod")
