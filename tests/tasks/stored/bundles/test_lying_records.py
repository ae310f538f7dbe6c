"""What a bundle says of its tags and of itself, signed by somebody who is trusted, and not true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from registry_server.bundles.errors import BundleInvalid, WrongBase
from registry_server.oci.digest import Digest
from registry_server.oci.reference import RepositoryName, Tag
from registry_server.store.records import Origin, TagRecord
from tests.registry_server.store.images import put_image
from tests.tasks.stored.bundles.applying import applied, bundled, inventory_of, reasons, resigned
from tests.tasks.stored.bundles.sides import ENFORCED, Gap, gap

if TYPE_CHECKING:
    from pathlib import Path

    from registry_server.store.repository import Repository

APP = RepositoryName("team/app")


@pytest.fixture
def strict(tmp_path: Path) -> Gap:
    """The far side takes only what the team has signed."""
    return gap(tmp_path, policy=ENFORCED)


@pytest.fixture
def plain(tmp_path: Path) -> Gap:
    """The far side has no policy."""
    return gap(tmp_path)


def far(sides: Gap) -> Repository:
    return sides.far.store.repository(APP)


def _record(document: dict[str, Any], tag: str) -> dict[str, Any]:
    return next(each["record"] for each in document["images"] if each["tag"] == tag)


@pytest.mark.parametrize("value", [{"absent": True}, {"next": None}], ids=["not there yet", "another image"])
def test_a_tag_cannot_become_another_image_than_the_one_that_was_judged(
    strict: Gap, value: dict[str, Any]
) -> None:
    """Invariant 4: `next` is served as soon as the change that it names is done, and no policy judges it."""
    strict.near.sign("team/app", strict.near.put("team/app:signed", b"good"))
    strict.near.put("team/app:evil", b"evil")
    strict.far.store.roots[0].objects.put("changes/20260101T000000-000001-abcdef.done", b"")

    def lie(document: dict[str, Any]) -> None:
        told = {"next": {"change": "20260101T000000-000001-abcdef", "record": _record(document, "evil")}}
        _record(document, "signed").update(told if "next" in value else value)

    folder = resigned(strict, bundled(strict), lie)
    with pytest.raises(BundleInvalid, match="of a tag that is about to change"):
        applied(strict.far, folder)
    assert strict.far.digests() == {}


def test_a_tag_has_the_type_and_the_size_of_its_manifest_whatever_its_record_says(plain: Gap) -> None:
    """They are the Content-Type and the Content-Length that clients get."""
    made = plain.near.put("team/app:v1", b"layer")
    signature = plain.near.sign("team/app", made)

    def lie(document: dict[str, Any]) -> None:
        for each in document["images"]:
            each["record"].update(mediaType="text/html", size=1)

    assert reasons(applied(plain.far, resigned(plain, bundled(plain), lie))) == {}
    found = {each.digest: (each.media_type, each.size) for each in far(plain).tag_records().values()}
    assert found == {each.digest: (each.media_type, each.size) for each in (made, signature)}


ELSEWHERE = Digest.of(b"what an upstream had")


@pytest.mark.parametrize(
    ("here", "pushed", "words"),
    [
        pytest.param(
            Origin("other", "team/app", ELSEWHERE),
            False,
            "the tag is here from other: team/app",
            id="another entry brought the one that is here",
        ),
        pytest.param(
            Origin("hub", "team/app", ELSEWHERE),
            True,
            "a client pushed it on the other side",
            id="an entry brought the one that is here, a client pushed the other one",
        ),
        pytest.param(
            None,
            True,
            "a client pushed it on the other side",
            id="clients pushed both, and nothing that they push is let in",
        ),
    ],
)
def test_a_companion_tag_that_somebody_else_has_set_is_not_moved(
    plain: Gap, here: Origin | None, *, pushed: bool, words: str
) -> None:
    plain.far.more_entries = [
        {"name": "other", "urls": ["https://other.example"], "content": [{"prefix": "**"}]}
    ]
    made = plain.near.put("team/app:v1", b"layer")
    applied(plain.far, bundled(plain))
    held = put_image(far(plain), b"a signature of somebody else")
    tag = Tag(f"sha256-{made.digest.hex}.sig")
    far(plain).put_tag(tag, TagRecord(held.digest, held.media_type, held.size, 1.5, here))
    signature = plain.near.sign("team/app", made)
    if pushed:
        record = TagRecord(signature.digest, signature.media_type, signature.size, 1.5)
        plain.near.store.repository(APP).put_tag(tag, record)
    second = bundled(plain, "second", inventory=inventory_of(plain.far))
    assert words in reasons(applied(plain.far, second))[f"team/app:{tag}"]
    assert plain.far.digests()[f"team/app:{tag}"] == held.digest


def test_a_bundle_of_another_store_in_between_does_not_let_tags_go_back(plain: Gap) -> None:
    plain.near.put("team/app:v1", b"old")
    old = bundled(plain, "old")
    plain.near.put("team/app:v1", b"new")
    new = bundled(plain, "new")

    def elsewhere(document: dict[str, Any]) -> None:
        document["source"]["store"] = "another store"

    other = resigned(plain, bundled(plain, "other"), elsewhere)
    applied(plain.far, new)
    applied(plain.far, other)
    before = plain.far.digests()
    with pytest.raises(WrongBase, match="its tags would go back"):
        applied(plain.far, old)
    assert plain.far.digests() == before


@pytest.mark.parametrize(
    "rule",
    [{"tags": {"regex": "v.*"}}, {"images": ["team/app:v1"]}],
    ids=["chosen by a pattern", "listed one by one"],
)
def test_a_tag_that_no_rule_of_the_far_side_takes_stays_out(tmp_path: Path, rule: dict[str, Any]) -> None:
    """Invariant 5; and a policy for `v*` could be evaded by another name."""
    sides = gap(tmp_path, content=[{"prefix": "team/app", **rule} if "tags" in rule else rule])
    made = sides.near.put("team/app:v1", b"layer")
    sides.near.sign("team/app", made)
    sides.near.put("team/app:latest", b"another layer")
    found = reasons(applied(sides.far, bundled(sides)))
    assert found == {"team/app:latest": "no content rule of the profile takes this tag of team/app of hub"}
    assert set(sides.far.digests()) == {"team/app:v1", f"team/app:sha256-{made.digest.hex}.sig"}
