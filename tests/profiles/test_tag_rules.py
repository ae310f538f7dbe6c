"""Which tags a rule keeps: zot's vectors, and what goes beyond them."""

from __future__ import annotations

from typing import Any

import pytest

from profiles.model.content_rule import ContentRule
from profiles.patterns.versions import parse_version
from profiles.tag_filter import choose_tags, why_not_taken, zot_would_drop, zot_would_take
from registry_server.oci.companion_tags import is_companion_tag, may_be_referrers_list
from registry_server.oci.digest import Digest
from registry_server.oci.reference import Tag
from tests.profiles.support import rule, tag_rule

_HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("tags", "offered", "kept"),
    [
        ({"regex": ".*", "semver": True}, ["1s0", "2v9", "v3.0.3"], ["v3.0.3"]),
        ({"semver": True}, ["latest", "v1.0.1"], ["v1.0.1"]),
        ({"regex": "1.5.0", "semver": True}, ["1.5.0", "v2.5.0"], ["1.5.0"]),
        ({}, ["a", "b"], ["a", "b"]),
        ({}, [], []),
        ({"excludeRegex": ".*"}, ["a"], []),
        ({"excludeRegex": ".*(x86_64|aarch64|amd64|arm64)$"}, ["v1", "v2-x86_64", "v3-aarch64"], ["v1"]),
        ({"excludeRegex": ""}, ["a", "b"], ["a", "b"]),
        ({"regex": ""}, ["a"], []),
        # whole tags, from their beginning
        ({"regex": "4.*"}, ["4.1", "41", "1.4", "v1.24", "latest"], ["4.1", "41"]),
        ({"regex": "a|b"}, ["a", "bc", "b"], ["a", "b"]),  # alternation stays inside the anchors
        ({"regex": "^v?4$"}, ["4", "v4", "v40"], ["4", "v4"]),
        ({"regex": "(?i)RC.*"}, ["rc1", "1rc"], ["rc1"]),
        ({"regex": "[[:digit:]]+"}, ["12", "d"], ["12"]),  # zot's engine knows these classes
        # ranges: numbers as numbers, pre-releases only when the range names one
        ({"semverRange": ">=1.2 <2"}, ["1.1", "1.2", "v1.10.0", "2", "1.9-rc", "latest"], ["1.2", "v1.10.0"]),
        ({"semverRange": ">=1.2-0 <2"}, ["1.9-rc", "1.9"], ["1.9-rc", "1.9"]),
        ({"regex": ".*-alpine", "semver": True}, ["3.19-alpine", "3.19"], ["3.19-alpine"]),
        # newest: versions, in their own order and not the text's
        ({"semver": True, "newest": 2}, ["1.9", "1.10", "1.2", "latest"], ["1.9", "1.10"]),
        ({"semverRange": "*", "newest": 1}, ["2.0.0-rc.1", "1.9.0", "1.10.0"], ["1.10.0"]),
        ({"semver": True, "newest": 1}, ["1.2", "1.2.0", "v1.2.0", "1.1"], ["1.2", "1.2.0", "v1.2.0"]),
        ({"semver": True, "newest": 5}, ["1", "2"], ["1", "2"]),
        ({"semver": True, "newest": 5}, ["latest"], []),
        ({"semver": True, "newest": 1}, ["1.0.0-rc.2", "1.0.0-rc.10"], ["1.0.0-rc.10"]),
    ],
)
def test_a_rule_keeps(tags: dict[str, Any], offered: list[str], kept: list[str]) -> None:
    choice = choose_tags(tag_rule(**tags), offered)
    assert list(choice.kept) == kept
    assert list(choice.dropped) == [tag for tag in offered if tag not in kept]


@pytest.mark.parametrize(
    ("tags", "tag", "reason"),
    [
        ({"regex": "4.*"}, "5", "does not match regex 4.*"),
        ({"excludeRegex": "5"}, "5", "matches excludeRegex 5"),
        ({"semver": True}, "latest", "is not a version"),
        ({"semverRange": ">=2"}, "latest", "is not a version"),
        ({"semverRange": ">=2"}, "1", "is outside of semverRange >=2"),
        ({"semverRange": ">=2"}, "3-rc", "is a pre-release, and semverRange >=2 names none"),
        ({"semver": True, "newest": 1}, "1", "older than the newest 1"),
    ],
)
def test_what_is_dropped_has_a_reason(tags: dict[str, Any], tag: str, reason: str) -> None:
    offered = [tag, "2"] if "newest" in tags else [tag]
    assert choose_tags(tag_rule(**tags), offered).dropped == {tag: reason}


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        *((tag, True) for tag in ("1", "v1", "1.2", "1.2.3", "v1.2.3-rc.1", "1.2.3+b", "3-alpine")),
        *((tag, True) for tag in ("3.19-alpine", "20240101", "01.02.3", "1.2.3-rc.01")),
        *((tag, False) for tag in ("1.2.3.4", "latest", "V1.0", "v1.2.3-", "2v9", "1s0", "1.0.0_build")),
        *((tag, False) for tag in ("stable-1.2", "99999999999999999999", "", "v", "1.", "१")),
    ],
)
def test_versions_are_read_leniently(tag: str, *, wanted: bool) -> None:
    assert (parse_version(tag) is not None) is wanted


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        (f"sha256-{_HEX}", False),  # an image or a list of referrers: its content decides
        (f"sha256-{_HEX}.sig", True),
        (f"sha256-{_HEX}.att", True),
        (f"sha256-{_HEX}.sbom", True),
        (f"sha512-{_HEX}{_HEX}.sig", True),
        ("sha256-abc", False),  # zot hides such tags (its issue 4398)
        (f"sha256-{_HEX}.sig.txt", False),
        (f"x-sha256-{_HEX}.sig", False),
        (f"sha256-{_HEX.upper()}", False),
    ],
)
def test_companions_are_recognised_by_the_whole_tag(tag: str, *, wanted: bool) -> None:
    assert is_companion_tag(tag) is wanted


@pytest.mark.parametrize(
    ("tag", "wanted"),
    [
        (f"sha256-{_HEX}", True),
        (f"sha512-{_HEX}", True),  # distribution-spec, "Referrers Tag Schema": cut off after 64
        (f"sha512-{_HEX}{_HEX}", True),
        (f"sha256-{_HEX}{_HEX}", False),
        (f"sha256-{_HEX}.sig", False),
    ],
)
def test_lists_of_referrers_are_looked_for_under_exact_tags(tag: str, *, wanted: bool) -> None:
    assert may_be_referrers_list(tag) is wanted


def test_companions_are_neither_kept_nor_dropped() -> None:
    """They are wanted when their image is, whatever the rule says about tags."""
    choice = choose_tags(tag_rule(semver=True), ["1.0", f"sha256-{_HEX}.sig"])
    assert (choice.kept, choice.dropped, choice.companions) == (("1.0",), {}, (f"sha256-{_HEX}.sig",))


def test_a_tag_that_upstream_lists_twice_counts_once() -> None:
    assert choose_tags(tag_rule(), ["a", "a"]).kept == ("a",)


def test_listed_images_are_kept_and_missed_by_name() -> None:
    listed = ContentRule.model_validate({"images": ["a:1", "a:2", f"a@{Digest.of(b'')}", "b:3"]})
    choice = choose_tags(listed, ["2", "3"], "a")
    assert (choice.kept, choice.absent) == (("2",), ("1",))
    assert choice.dropped == {"3": "is not listed in images"}


@pytest.mark.parametrize(
    ("tags", "taken", "dropped"),
    [
        ({"regex": "4.*"}, ["1.4", "v1.24"], []),
        ({"regex": "4.*", "semver": True}, ["1.4", "v1.24"], []),
        ({"regex": "4.*", "excludeRegex": "v"}, ["1.4"], []),
        ({"regex": ".*4.*"}, [], []),
        ({"excludeRegex": "v"}, [], ["v1.24"]),
        ({}, [], []),
    ],
)
def test_what_zot_would_do_otherwise_is_known(
    tags: dict[str, Any], taken: list[str], dropped: list[str]
) -> None:
    offered = ["1.4", "4.1", "v1.24", "latest", f"sha256-{_HEX}.sig"]
    assert list(zot_would_take(tag_rule(**tags), offered)) == taken
    assert list(zot_would_drop(tag_rule(**tags), offered)) == dropped


_DIGEST = Digest(f"sha256:{_HEX}")
_BY_DIGEST = "is asked for by digest, and the rule takes images by their tags"


@pytest.mark.parametrize(
    ("keys", "reference", "reason"),
    [
        pytest.param(None, Tag("1"), "", id="an entry without rules takes all"),
        pytest.param({}, Tag("1"), "", id="a rule without filters"),
        pytest.param(
            {"tags": {"regex": "4"}}, Tag("5"), "does not match regex 4", id="a tag that is filtered"
        ),
        pytest.param({}, _DIGEST, "", id="a digest, where no tags are chosen"),
        pytest.param({"tags": {"regex": "4"}}, _DIGEST, _BY_DIGEST, id="a digest, where tags are chosen"),
        pytest.param({"select": "labels.a"}, _DIGEST, _BY_DIGEST, id="a digest, where images are chosen"),
    ],
)
def test_why_a_rule_does_not_take_a_reference(
    keys: dict[str, Any] | None, reference: Tag | Digest, reason: str
) -> None:
    found = None if keys is None else rule("app", **keys)
    assert why_not_taken(found, "app", reference) == reason


@pytest.mark.parametrize(("tag", "reason"), [("1", ""), ("2", "is not listed in images")])
def test_a_list_of_images_takes_what_it_names(tag: str, reason: str) -> None:
    found = ContentRule.model_validate({"images": ["app:1"]})
    assert why_not_taken(found, "app", Tag(tag)) == reason
