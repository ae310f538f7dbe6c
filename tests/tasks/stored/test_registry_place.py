"""Promotion into another registry: content first, all tags or none, and back again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from registry_server.oci import media_types
from registry_server.oci.digest import Digest
from registry_server.oci.manifest import parse_manifest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.mirror_state.tag_switch import all_changes
from registry_server.store.records import TagRecord
from tasks.destinations.interface import DestinationFailed
from tasks.stored.promoting import PromotionRefused
from tests.support.push_registries import distribution_3, docker_registry, our_own, zot
from tests.support.push_target import PushTarget, push_target
from tests.support.registry_answers import error
from tests.tasks.stored.bundles.sides import Side
from tests.tasks.stored.test_promoting import promoter, push, rule, verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOREIGN = (media_types.OCI_INDEX, json.dumps({"schemaVersion": 2, "manifests": []}).encode())


@pytest.fixture
def target() -> Iterator[PushTarget]:
    with push_target() as found:
        yield found


@pytest.fixture
def side(tmp_path: Path, target: PushTarget) -> Side:
    """A store whose entry brings what is below `hub`, and a destination."""
    found = Side(tmp_path / "side", content=[{"prefix": "hub/**"}])
    found.destinations = [{"name": "other", "url": f"{target.url}/team"}]
    return found


def below(target: PushTarget, prefix: str = "team/prod") -> dict[str, str]:
    return {
        f"{name.removeprefix('team/')}:{tag}": target.tag(name, tag)
        for name, held in target.manifests.items()
        for tag in held
        if name.startswith(prefix) and ":" not in tag
    }


def test_all_of_a_prefix_goes_to_another_registry_with_what_refers_to_it(
    side: Side, target: PushTarget
) -> None:
    made, other = push(side, "dev/web:v1", b"one"), push(side, "dev/api/v2:latest", b"two")
    signature = side.sign("dev/web", made)
    change = promoter(side).promote("dev", "other:prod")
    assert below(target) == {
        "prod/web:v1": made.digest,
        f"prod/web:sha256-{made.digest.hex}.sig": signature.digest,
        "prod/api/v2:latest": other.digest,
    }
    assert change is not None
    assert (change.destination, change.by, change.done) == ("other", "tester@here", True)
    assert change.tags["prod/web:v1"].verdict == "no policy"
    assert promoter(side).promote("dev", "other:prod") is None, "nothing is left to do"


def test_without_a_prefix_images_keep_their_names(side: Side, target: PushTarget) -> None:
    made = push(side, "dev/web:v1", b"one")
    promoter(side).promote("dev", "other")
    assert below(target, "team/dev") == {"dev/web:v1": made.digest}


def test_tags_are_put_when_everything_else_is_there(side: Side, target: PushTarget) -> None:
    for name in ("web", "api"):
        push(side, f"dev/{name}:v1", name.encode())
    promoter(side).promote("dev", "other:prod")
    puts = [path.rpartition("/")[2] for method, path, _ in target.seen if method == "PUT"]
    assert [each == "v1" for each in puts].index(True) == len(puts) - 2
    assert sorted(puts[-2:]) == ["v1", "v1"]


def test_an_index_comes_after_what_it_lists(side: Side, target: PushTarget) -> None:
    """Also after a child that an earlier index lists."""
    held = side.store.repository(RepositoryName("dev/web"))
    children = [push(side, f"dev/web:c{number}", b"%d" % number) for number in range(2)]
    for tag, listed in (("all", children), ("some", children[:1])):
        body = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_INDEX,
            "manifests": [child.to_json() for child in listed],
        }
        made = held.put_manifest(parse_manifest(json.dumps(body).encode()))
        held.put_tag(Tag(tag), TagRecord(made.digest, made.media_type, made.size, 1.5))
    promoter(side).promote("dev", "other:prod")
    assert {"prod/web:all", "prod/web:some"} <= set(below(target))


def test_one_refused_image_keeps_all_where_they_are_and_nothing_is_sent(
    side: Side, target: PushTarget
) -> None:
    """A rule names the place by its address."""
    side.policy = verify(rule(f"{target.host}/team/prod/**"), require="accept")
    side.sign("dev/web", push(side, "dev/web:v1", b"signed"))
    push(side, "dev/api:v1", b"unsigned")
    with pytest.raises(PromotionRefused) as refused:
        promoter(side).promote("dev", "other:prod")
    assert set(refused.value.problems) == {"prod/api:v1"}
    assert not any(method in ("POST", "PUT") for method, _, _ in target.seen)


def test_a_tag_that_fails_sets_the_others_back(side: Side, target: PushTarget) -> None:
    old = push(side, "dev/web:v1", b"old")
    promoter(side).promote("dev", "other:prod")
    push(side, "dev/web:v1", b"new")
    push(side, "dev/web:v2", b"newer")
    push(side, "dev/api:v1", b"refused")
    target.refused_tags["team/prod/api", "v1"] = error(403, "DENIED", "not for you")
    with pytest.raises(DestinationFailed, match="DENIED: not for you"):
        promoter(side).promote("dev", "other:prod")
    assert below(target) == {"prod/web:v1": old.digest}
    assert [change.done for change in all_changes(side.store)] == [True]
    del target.refused_tags["team/prod/api", "v1"]
    promoter(side).promote("dev", "other:prod")
    assert len(below(target)) == 3


def test_a_tag_that_cannot_be_set_back_is_named_and_tried_again_by_the_next_promotion(
    side: Side, target: PushTarget
) -> None:
    target.deletes = False
    push(side, "dev/web:v1", b"new")
    push(side, "dev/api:v1", b"refused")
    target.refused_tags["team/prod/api", "v1"] = error(403, "DENIED", "not for you")
    with pytest.raises(DestinationFailed, match="it deletes no tags, so prod/web:v1 stays"):
        promoter(side).promote("dev", "other:prod")
    assert [change.done for change in all_changes(side.store)] == [False]
    target.deletes, target.refused_tags = True, {}
    promoter(side).promote("dev", "other:prod")
    assert [change.done for change in all_changes(side.store)] == [True]
    assert set(below(target)) == {"prod/web:v1", "prod/api:v1"}


def test_a_tag_that_nobody_can_delete_there_stops_no_later_promotion(
    side: Side, target: PushTarget, caplog: pytest.LogCaptureFixture
) -> None:
    target.deletes = False
    made = {name: push(side, f"dev/{name}:v1", name.encode()) for name in ("web", "api")}
    target.refused_tags[("team/prod/api", "v1")] = error(403, "DENIED", "not here")
    with pytest.raises(DestinationFailed, match="it deletes no tags, so prod/web:v1 stays"):
        promoter(side).promote("dev", "other:prod")
    target.refused_tags = {}
    change = promoter(side).promote("dev", "other:prod")
    assert change is not None
    assert below(target) == {f"prod/{name}:v1": each.digest for name, each in made.items()}
    assert [each.id for each in all_changes(side.store)] == [change.id]
    assert "it deletes no tags, so prod/web:v1 stays" in caplog.text


@pytest.mark.parametrize("force", [False, True])
def test_a_tag_that_somebody_else_set_stays_unless_forced(
    side: Side, target: PushTarget, *, force: bool
) -> None:
    side.destinations[0]["force"] = force
    made = push(side, "dev/web:v1", b"one")
    target.manifests["team/prod/web"]["v1"] = FOREIGN
    theirs = Digest.of(FOREIGN[1])
    target.manifests["team/prod/web"][theirs] = FOREIGN
    if not force:
        with pytest.raises(PromotionRefused, match="somebody else has set it in destination other"):
            promoter(side).promote("dev", "other:prod")
        return
    promoter(side).promote("dev", "other:prod")
    assert below(target) == {"prod/web:v1": made.digest}
    promoter(side).rollback()
    assert below(target) == {"prod/web:v1": theirs}


def test_a_rollback_sets_back_what_moved_and_removes_what_was_new(side: Side, target: PushTarget) -> None:
    old = push(side, "dev/web:v1", b"old")
    promoter(side).promote("dev", "other:prod")
    push(side, "dev/web:v1", b"new")
    push(side, "dev/web:v2", b"newer")
    promoted = promoter(side).promote("dev", "other:prod")
    assert promoted is not None
    back = promoter(side).rollback()
    assert below(target) == {"prod/web:v1": old.digest}
    assert (back.destination, back.undoes) == ("other", promoted.id)
    promoter(side).rollback()
    assert below(target) == {}


def test_a_rollback_is_refused_where_somebody_has_moved_a_tag_since(side: Side, target: PushTarget) -> None:
    push(side, "dev/web:v1", b"one")
    promoter(side).promote("dev", "other:prod")
    target.manifests["team/prod/web"]["v1"] = FOREIGN
    with pytest.raises(PromotionRefused, match="prod/web:v1: it has been moved since"):
        promoter(side).rollback()


def test_what_a_registry_entry_brings_there_is_no_target(side: Side) -> None:
    side.more_entries = [
        {
            "name": "quay",
            "urls": ["https://quay.example"],
            "to": ["other"],
            "content": [{"prefix": "prod/**"}],
        }
    ]
    push(side, "dev/web:v1", b"one")
    with pytest.raises(PromotionRefused, match="'quay' brings what is under this name"):
        promoter(side).promote("dev", "other:prod")
    assert promoter(side).promote("dev", "other:stage") is not None


@pytest.mark.parametrize(
    ("to", "words"),
    [
        pytest.param("another:prod", "destination another: the profile has no destination", id="unknown"),
        pytest.param("other:Prod", "there is no repository name for it below 'Prod'", id="no name"),
    ],
)
def test_places_that_mean_nothing_are_named(side: Side, to: str, words: str) -> None:
    push(side, "dev/web:v1", b"one")
    with pytest.raises((DestinationFailed, PromotionRefused), match=words):
        promoter(side).promote("dev", to)


def test_a_prefix_of_the_store_that_is_called_like_a_destination(side: Side, target: PushTarget) -> None:
    made = push(side, "dev/web:v1", b"one")
    promoter(side).promote("dev", "store:other")
    assert side.digests()["other/web:v1"] == made.digest
    assert below(target, "team") == {}


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(our_own, id="our own server"),
        pytest.param(docker_registry, id="docker-registry 2.8"),
        pytest.param(distribution_3, id="distribution 3"),
        pytest.param(zot, id="zot"),
    ],
)
def test_there_and_back_in_a_real_registry(tmp_path: Path, side: Side, kind: Any) -> None:
    with kind(tmp_path / "registry") as url:
        side.destinations = [{"name": "other", "url": url}]
        old = push(side, "dev/web:v1", b"old")
        side.sign("dev/web", old)
        promoter(side).promote("dev", "other:prod")
        new = push(side, "dev/web:v1", b"new")
        promoter(side).promote("dev", "other:prod")
        assert named(url, "prod/web", "v1") == new.digest
        promoter(side).rollback()
        assert named(url, "prod/web", "v1") == old.digest


def named(url: str, repository: str, tag: str) -> str:
    address = f"{url}/v2/{repository}/manifests/{tag}"
    answer = httpx.head(address, headers={"Accept": media_types.OCI_MANIFEST})
    return str(answer.raise_for_status().headers["Docker-Content-Digest"])
